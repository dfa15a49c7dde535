"""Queries against PostgreSQL: they find what they say, read nothing else, change nothing, and end in time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.query.conftest import DAY, OPEN, TEXTS, Known
from integration.query.oracle import holds

from scanloop.catalog.migrate import READABLE, READER
from scanloop.catalog.tables import metadata
from scanloop.cli.main import run as cli
from scanloop.errors import CatalogUnavailable, WrongArguments
from scanloop.query.fields import ANNOTATIONS, SCANS, Field, Kind, Subject
from scanloop.query.language import parse
from scanloop.query.search import explain, ids_of, search, searching
from scanloop.query.sql import condition

VALUES: dict[str, list[Any]] = {
    "acquired": ["2026-03-01", "2026-03-01T12:00:00Z", "2026-02-28", "2026-03-02T00:00:00+00:00"],
    "received": ["2026-03-01", "2026-03-01T00:30:00Z"],
    "created": ["2026-03-01", "2026-03-02T05:00:00Z"],
    "modality": ["DX", "CT"], "format": ["png", "dicos"], "type": ["operational", "test"], "plane": ["high", "red", "none"],
    "site": ["site-0", "site-1", "site-9"], "scanner": ["scanner-0", "scanner-3"], "serial": ["0", "3"], "bag": ["bag-1", "bag-2"],
    "id": ["0001" + "0" * 60, "note-0003"], "product_line": ["", "cabin"], "annotated_for": ["", "cabin"], "taxonomy": ["threats-1", "x"],
    "category": ["knife", "handgun", "é☃", "grenade"], "looked_for": ["knife", "grenade", "none"], "tag": ["new", "odd/é", "none"],
    "statistics": [0.25, 0.5, 0.6], "boxes": [0, 1, 2, 5],
}  # fmt: skip
PARTS = {"statistics": [("high", "mean"), ("red", "mean")], "header": [("kv",), ('"odd name"',)], "attribute": [("shift",), ("none",)]}


def _shown(value: Any, *, is_open: bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    quoted = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return quoted if is_open or not str(value).replace("-", "").isalnum() or not str(value).isascii() else str(value)


@st.composite
def comparisons(draw: st.DrawFn, subject: Subject) -> str:
    """One comparison about a subject, as text."""
    prefix = ""
    while subject.inner is not None and draw(st.booleans()):
        prefix, subject = prefix + subject.inner[0] + ".", subject.inner[1]
    name = draw(st.sampled_from(sorted(subject.fields)))
    field: Field = subject.fields[name]
    path = prefix + ".".join((name, *draw(st.sampled_from(PARTS[name])))) if field.parts else prefix + name
    if (field.is_optional or field.is_set) and draw(st.integers(0, 4)) == 0:
        return f"{path} is {draw(st.sampled_from(['', 'not ']))}set"
    choices = (
        list(field.choices) if field.choices and not field.parts else VALUES.get(name, list(OPEN if field.kind is Kind.OPEN else TEXTS))
    )
    if field.kind is Kind.TRUTH:
        choices = [True, False]
    is_open = field.kind is Kind.OPEN
    if draw(st.integers(0, 3)) == 0:
        values = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3))
        return f"{path} {draw(st.sampled_from(['in', 'not in']))} ({', '.join(_shown(value, is_open=is_open) for value in values)})"
    value = draw(st.sampled_from(choices))
    operators = {Kind.TEXT: ["=", "!=", "~"], Kind.TRUTH: ["=", "!="], Kind.OPEN: ["=", "!="]}.get(
        field.kind, ["=", "!=", "<", "<=", ">", ">="]
    )
    if is_open:
        operators = operators + (["~"] if isinstance(value, str) else [] if isinstance(value, bool) else ["<", ">", "<=", ">="])
    operator = draw(st.sampled_from(operators))
    if operator == "~":
        text = str(value)
        cut = draw(st.integers(0, len(text)))
        return f"{path} ~ {_shown(draw(st.sampled_from([text[:cut] + '*', '*' + text[cut:], text, '*'])), is_open=True)}"
    return f"{path} {operator} {_shown(value, is_open=is_open)}"


def queries(subject: Subject) -> st.SearchStrategy[str]:
    """Queries about a subject, as text."""
    return st.recursive(
        comparisons(subject),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
            inner.map(lambda text: f"not ({text})"),
        ),
        max_leaves=5,
    )


@pytest.mark.parametrize("subject", [SCANS, ANNOTATIONS], ids=["scans", "annotations"])
def test_the_database_finds_what_the_filter_means(known: Known, subject: Subject) -> None:
    rows = known.scans if subject is SCANS else known.annotations
    sizes: set[int] = set()

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(queries(subject))
    def check(text: str) -> None:
        found = parse(text, subject)
        expected = {identity for identity, row in rows.items() if holds(found, subject, row)}
        with searching(known.catalog) as connection:
            assert set(connection.execute(ids_of(condition(found, subject), subject)).scalars()) == expected, text
        sizes.add(len(expected))

    check()
    assert len(sizes) > 20  # the queries were not all empty, and not all the same


def test_a_search_shows_the_newest_with_their_marks_and_counts_all(known: Known) -> None:
    found = search(known.catalog, "projected = false", SCANS, limit=5)
    expected = [row for row in known.scans.values() if not row["projected"]]
    expected.sort(key=lambda row: (row["acquired"] is None, -(row["acquired"] or DAY).timestamp(), row["id"]))
    assert found.total == len(expected)
    assert [row["id"] for row in found.rows] == [row["id"] for row in expected[:5]]
    for row in found.rows:
        assert row["tags"] == sorted(known.scans[row["id"]]["tag"])
        assert row["attributes"] == known.scans[row["id"]]["attribute"]
    assert search(known.catalog, "projected = false", SCANS, limit=0).rows == []


def test_who_searches_can_read_what_can_be_asked_about_and_nothing_else(known: Known) -> None:
    for table in metadata.tables:
        with searching(known.catalog) as connection:
            statement = sa.text(f"SELECT count(*) FROM {table}")
            if table in READABLE:
                connection.execute(statement)
                continue
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                connection.execute(statement)
    for change in (
        "UPDATE marks SET is_set = false",
        "CREATE TEMPORARY TABLE x (y int)",
        "DELETE FROM scans",
        "SET ROLE postgres; DELETE FROM scans",
    ):
        with searching(known.catalog) as connection, pytest.raises(sa.exc.DBAPIError, match=r"read-only|permission denied"):
            connection.execute(sa.text(change))


def test_a_query_that_takes_too_long_is_ended(known: Known) -> None:
    with pytest.raises(WrongArguments, match=r"took longer than 0\.2 s"), searching(known.catalog, 0.2) as connection:
        connection.execute(sa.text("SELECT pg_sleep(30)"))
    assert search(known.catalog, "state = validated", SCANS, limit=1).total > 0


def test_without_the_role_a_search_says_what_to_do(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanloop.query.search.READER", "nobody_of_this_name")
    with pytest.raises(CatalogUnavailable, match="CREATE ROLE nobody_of_this_name NOLOGIN"):
        search(known.catalog, "state = validated", SCANS, limit=1)
    assert READER == "scanloop_reader"


def test_a_plan_is_told(known: Known) -> None:
    plan = "\n".join(explain(known.catalog, 'state = validated and scanner = scanner-1 and view ~ "100%*"', SCANS))
    assert "Execution Time" in plan
    assert "scanner-1" in plan


def test_the_command_prints_a_table_or_lines_and_points_at_a_mistake(
    known: Known, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", known.catalog.url.render_as_string(hide_password=False))
    monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path))
    assert cli(["scan", "search", "state = validated", "--limit", "3", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(known.scans[json.loads(line)["id"]]["state"] == "validated" for line in lines)
    assert cli(["annotation", "search", "category = knife"]) == 0
    shown = capsys.readouterr().out
    total = sum("knife" in row["category"] for row in known.annotations.values())
    assert f"{total} annotations" in shown
    assert cli(["scan", "search", "stat = validated"]) == 64
    told = capsys.readouterr().err
    assert "did you mean state" in told
    assert "\n  stat = validated\n  ^" in told
    assert cli(["scan", "search", "state = validated", "--plan"]) == 0
    assert "Execution Time" in capsys.readouterr().out
    assert cli(["scan", "fields"]) == 0
    assert "statistics.PLANE.FIG" in capsys.readouterr().out
