"""Queries as text: what is read, what is refused, and whether the message points at the right character."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.query.fields import ANNOTATIONS, SCANS, SUBJECTS, Kind
from scanloop.query.language import MAX_CHARACTERS, MAX_DEPTH, AllOf, AnyOf, Comparison, Moment, Not, QueryWrong, parse


def compared(text: str) -> Comparison:
    found = parse(text, SCANS)
    assert isinstance(found, Comparison)
    return found


def test_and_binds_closer_than_or_and_not_closer_than_both() -> None:
    found = parse("site = a or not site = b and (view = top or view = side)", SCANS)
    assert isinstance(found, AnyOf)
    first, second = found.parts
    assert isinstance(first, Comparison)
    assert isinstance(second, AllOf)
    assert isinstance(second.parts[0], Not)
    assert isinstance(second.parts[1], AnyOf)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("site = lhr-t5", ("lhr-t5",)),
        ('site = "two words \\"quoted\\" and a \\\\"', ('two words "quoted" and a \\',)),
        ("serial = 0012", ("0012",)),
        ("projected = TRUE", (True,)),
        ("statistics.high.air_mean < -1.5e-3", (Decimal("-0.0015"),)),
        ("header.uid = 9007199254740993", (Decimal(9007199254740993),)),
        ("acquired <= 9999-12-31", (Moment(datetime(9999, 12, 31, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),)),
        ("attribute.shift = 3", (3.0,)),
        ('attribute.shift = "3"', ("3",)),
        ("attribute.checked = false", (False,)),
        ("header.kv in (140, 160)", (140.0, 160.0)),
        ('header."odd name" = x', ("x",)),
        ("acquired >= 2026-03-01T12:00:00+02:00", (Moment(datetime(2026, 3, 1, 10, tzinfo=UTC), datetime(2026, 3, 1, 10, tzinfo=UTC)),)),
        ("acquired = 2026-03-01", (Moment(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)),)),
        ("tag is set", ()),
        ('site="in"', ("in",)),
    ],
)
def test_values_have_the_type_of_their_field(text: str, values: tuple[object, ...]) -> None:
    assert compared(text).values == values


def test_an_annotation_is_asked_about_its_scan() -> None:
    found = parse("category = knife and scan.statistics.high.air_mean > 0.9 and scan.tag = new", ANNOTATIONS)
    assert isinstance(found, AllOf)
    assert [part.reference.name for part in found.parts if isinstance(part, Comparison)] == [
        "category", "scan.statistics.high.air_mean", "scan.tag",
    ]  # fmt: skip


REFUSED = [
    ("", 0, "it is empty"),
    ("   ", 3, "it is empty"),
    ("stat = validated", 0, "did you mean state"),
    ("state = valid", 8, "state is one of received, validated, quarantined, erased"),
    ("state validated", 6, 'expected one of = != ~ in is, found "validated"'),
    ("state = ", 8, "expected a value for state, found the end"),
    ("state = and", 8, "put it in double quotes"),
    ("state = validated site = x", 18, 'expected "and", "or" or the end, found "site"'),
    ("(state = validated", 18, 'expected ")", found the end'),
    ("state = validated)", 17, 'expected "and", "or" or the end'),
    ("state < validated", 6, "state is text, which < does not compare"),
    ("projected = 1", 12, "projected is true or false"),
    ("acquired > yesterday", 11, "acquired is a time, such as 2026-03-01"),
    ("acquired > 2026-02-30", 11, "acquired is a time"),
    ("acquired > 9999-12-31T23:59:59-14:00", 11, "acquired is a time"),
    ("acquired = 20260301", 11, "acquired is a time"),
    ("acquired = 2026-W10", 11, "acquired is a time"),
    ('header."\0" = 1', 8, "null character"),
    ("bag = \ud800", 6, "half a character"),
    ("statistics.high = 1", 0, "expected statistics.PLANE.FIGURE, found statistics.high"),
    ("statistics.high.avg = 1", 0, "there is no figure 'avg'"),
    ("statistics.high.mean = x", 23, "statistics.high.mean is a number"),
    ("statistics.high.mean = 1e999", 23, "is a number"),
    ("statistics.high.mean = nan", 23, "is a number"),
    ("attribute.kv > abc", 15, "> wants a number"),
    ("attribute.kv ~ 3", 15, "~ wants text in double quotes"),
    ("site is set", 0, "site is always set"),
    ("tag is missing", 7, 'expected "set" or "not set"'),
    ("tag not x", 8, 'expected "in" after "not"'),
    ("tag in ()", 8, "expected a value for tag"),
    ("tag in (a b)", 10, 'expected ")", found "b"'),
    ('site = "open', 7, "a text has no end"),
    ("site = 'x'", 7, "put values in double quotes"),
    ("site = a; drop table scans", 8, "belongs nowhere"),
    ("scan.site = a", 0, "a scan has no field 'scan'"),
    ("and = 1", 0, "expected a field of a scan"),
    ("not", 3, "expected a field of a scan, found the end"),
]


@pytest.mark.parametrize(("text", "at", "said"), REFUSED)
def test_a_message_points_at_the_character(text: str, at: int, said: str) -> None:
    with pytest.raises(QueryWrong) as refusal:
        parse(text, SCANS)
    assert said in refusal.value.said
    assert refusal.value.at == at
    first, line, caret = refusal.value.message.split("\n")
    assert first.startswith(f"Query, character {at + 1}: ")
    shown = "".join(character if character.isprintable() else " " for character in text[at:])
    assert line[caret.index("^") :] == shown[:40]


def test_what_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(QueryWrong, match="at most"):
        parse("site = " + "a" * MAX_CHARACTERS, SCANS)
    depth = "(" * MAX_DEPTH + "site = a" + ")" * MAX_DEPTH
    with pytest.raises(QueryWrong, match="in each other"):
        parse(depth, SCANS)
    assert parse(depth[1:-1], SCANS)
    with pytest.raises(QueryWrong, match="more than 1000 values"):
        parse("site in (" + ",".join(map(str, range(1001))) + ")", SCANS)


def test_more_comparisons_than_a_database_likes_to_plan_are_refused() -> None:
    assert parse(" or ".join(["site = a"] * 100), SCANS)
    with pytest.raises(QueryWrong, match="more than 100 comparisons"):
        parse(" or ".join(["site = a"] * 101), SCANS)


WORDS = ["and", "or", "not", "in", "is", "set", "(", ")", ",", "=", "!=", "~", "<", ">=", ".", '"', "\\", "site", "tag", "scan.", "x", "1", "-",
         "2026-01-01", "statistics.high.mean", '"a b"', "\n", "\0", "é", "header.", "true"]  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)), st.sampled_from(sorted(SUBJECTS)))
def test_any_text_is_a_query_or_is_refused_at_one_of_its_characters(text: str, subject: str) -> None:
    refused: QueryWrong | None = None
    try:
        parse(text, SUBJECTS[subject])
    except QueryWrong as refusal:
        refused = refusal
    if refused is not None:
        assert 0 <= refused.at <= len(text)
        assert len(refused.message.split("\n")) == 3


def test_every_field_says_what_it_is() -> None:
    for subject in SUBJECTS.values():
        for name, field in subject.all_fields().items():
            assert field.says, name
            assert field.kind in Kind
