"""Tags and attributes: one audited act for everything that a query finds; and definitions that ask about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from small_world import add_bags, define, label_everything, rows_of, run_job_of, scan_id_of

from scanloop.catalog.loop import loop_status
from scanloop.catalog.tables import audit_log, marks
from scanloop.cli.main import run as cli
from scanloop.cli.options import World
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution.replay import row_violations
from scanloop.query.fields import ANNOTATIONS, SCANS, Subject
from scanloop.query.language import QueryWrong
from scanloop.query.marking import Changes, mark
from scanloop.query.search import search
from scanloop.snapshots.manifest import load_snapshot

Run = Callable[..., dict[str, Any]]
BAGS = [f"bag-{number}" for number in range(28)]


@pytest.fixture
def filled(run_body: Run, world: World) -> World:
    define(run_body)
    add_bags(run_body, world, BAGS)
    return world


def give(run_body: Run, run_id: str, query: str, subject: Subject = SCANS, at_most: int = 1000, **changes: Any) -> dict[str, Any]:
    return run_body(
        f"{subject.name}.mark", lambda run: mark(run, subject, query, Changes(**changes), at_most=at_most), run_id=run_id, lease="marks"
    )


def total(world: World, query: str, subject: Subject = SCANS) -> int:
    return search(world.catalog, query, subject, limit=0).total


def test_what_is_given_is_found_and_what_is_taken_away_is_not(filled: World, run_body: Run) -> None:
    assert give(run_body, "m-1", "view = top", tags=("check", "new"), attributes={"shift": 3, "by": "ann", "ok": True}) == {
        "found": 28, "changed": 28,
    }  # fmt: skip
    assert total(filled, "tag = check") == total(filled, "attribute.shift = 3 and attribute.ok = true") == 28
    assert total(filled, 'attribute.shift > 2.5 and attribute.by ~ "a*" and not attribute.shift = "3"') == 28
    assert give(run_body, "m-2", "tag = check and bag = bag-3", no_tags=("check",), attributes={"shift": 4.5})["changed"] == 1
    assert total(filled, "tag = check") == 27
    assert total(filled, "attribute.shift = 4.5 and tag = new") == 1
    assert give(run_body, "m-3", "bag = bag-3", tags=("check",), no_attributes=("by",)) == {"found": 2, "changed": 2}
    assert total(filled, "tag = check") == 29
    assert total(filled, "attribute.by is set") == 27
    assert list(row_violations(filled.catalog, filled.store)) == []


def test_every_change_is_in_the_audit_log_and_none_twice(filled: World, run_body: Run) -> None:
    give(run_body, "m-1", "view = top and bag in (bag-1, bag-2)", tags=("a",), attributes={"n": 1})
    before = _entries(filled)
    assert sorted(before) == sorted(
        ("scan.marked", f"scan/{scan_id_of(bag, 'top')}/{mark}") for bag in ("bag-1", "bag-2") for mark in ("tag/a", "attribute/n")
    )
    with pytest.raises(NothingToDo, match="finds 2 scans, all of them as they should be"):
        give(run_body, "m-2", "view = top and bag in (bag-1, bag-2)", tags=("a",), attributes={"n": 1.0})
    assert give(run_body, "m-1", "view = top and bag in (bag-1, bag-2)", tags=("a",), attributes={"n": 1})["changed"] == 2
    assert _entries(filled) == before
    with pytest.raises(NothingToDo, match="finds 0 scans"):
        give(run_body, "m-3", "bag = none", tags=("a",))
    with pytest.raises(NothingToDo):
        give(run_body, "m-4", "bag = bag-5", no_tags=("a",), no_attributes=("n",))
    give(run_body, "m-5", "tag = a", no_tags=("a",))
    with filled.catalog.read() as connection:
        details = connection.execute(
            sa.select(audit_log.c.details).where(audit_log.c.run_id == "m-5", audit_log.c.action == "scan.marked")
        ).scalars()
        assert list(details) == [{"from": {"value": True, "is_set": True}, "to": {"value": True, "is_set": False}}] * 2


def _entries(world: World) -> list[tuple[str, str]]:
    with world.catalog.read() as connection:
        rows = connection.execute(sa.select(audit_log.c.action, audit_log.c.subject_id).where(audit_log.c.subject_kind == "marks"))
        return [(row.action, row.subject_id) for row in rows]


def test_true_is_not_one_and_large_numbers_are_found_to_the_last_digit(filled: World, run_body: Run) -> None:
    give(run_body, "m-1", "bag = bag-1", attributes={"x": True, "big": 2**53 - 1})
    assert give(run_body, "m-2", "bag = bag-1", attributes={"x": 1})["changed"] == 2
    assert total(filled, "attribute.x = 1") == 2
    assert total(filled, "attribute.x = true") == 0
    assert give(run_body, "m-3", "bag = bag-1", attributes={"x": True})["changed"] == 2
    assert total(filled, "attribute.big = 9007199254740991") == 2
    assert total(filled, "attribute.big in (9007199254740990, 9007199254740992)") == 0
    assert total(filled, "attribute.big > 9007199254740990.5 and attribute.big < 9007199254740991.5") == 2


def test_annotations_are_marked_too(filled: World, run_body: Run) -> None:
    label_everything(run_body, "one")
    knives = total(filled, "category = knife and author_kind = consensus", ANNOTATIONS)
    assert give(run_body, "m-1", "category = knife and author_kind = consensus", ANNOTATIONS, tags=("hard",))["changed"] == knives > 3
    assert (
        total(filled, "tag = hard and scan.view = top", ANNOTATIONS) + total(filled, "tag = hard and scan.view = side", ANNOTATIONS)
        == knives
    )
    assert total(filled, "tag = hard") == 0
    assert len(rows_of(filled, "marks", subject="annotation", name="hard")) == knives


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Nothing is to be changed"),
        ({"tags": ("two words",)}, "Not a name of a tag: 'two words'"),
        ({"tags": ("",)}, "Not a name of a tag"),
        ({"tags": ("x" * 101,)}, "Not a name of a tag"),
        ({"tags": ("a",), "no_tags": ("a",)}, "The tag a is named twice"),
        ({"attributes": {"n": float("nan")}}, "must be a finite number"),
        ({"attributes": {"n": "x" * 1001}}, "at most 1000 characters"),
        ({"attributes": {"n": "a\0b"}}, "none of them null"),
        ({"attributes": {"n": 2**53 + 1}}, r"at most 2\*\*53"),
        ({"attributes": {"n'; --": 1}}, "Not a name of a attribute"),
    ],
)
def test_what_cannot_be_given_is_refused_and_changes_nothing(filled: World, run_body: Run, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongArguments, match=said):
        give(run_body, "m-1", "view = top", **changes)
    assert rows_of(filled, "marks") == []


def test_more_than_was_allowed_is_refused_and_so_is_a_query_that_is_none(filled: World, run_body: Run) -> None:
    with pytest.raises(WrongArguments, match="finds 56 scans, more than the 55"):
        give(run_body, "m-1", "state = validated", tags=("a",), at_most=55)
    with pytest.raises(QueryWrong, match="did you mean state"):
        give(run_body, "m-2", "stat = validated", tags=("a",))
    assert rows_of(filled, "marks") == []


def test_the_command_marks_and_says_how_many(filled: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", filled.settings.database_url)
    monkeypatch.setenv("SCANLOOP_HOME", str(filled.settings.home))
    words = ["--tag", "new", "--set", "n=12", "--set", 't="12"', "--set", "b=true", "--set", "x=a=b"]
    assert cli(["scan", "mark", "bag = bag-1", *words]) == 0
    assert '"changed": 2' in capsys.readouterr().out
    assert cli(["scan", "mark", "bag = bag-1", *words]) == 99
    capsys.readouterr()
    assert {row["name"]: row["value"] for row in rows_of(filled, "marks", subject_id=scan_id_of("bag-1", "top"))} == {
        "new": True, "n": 12, "t": "12", "b": True, "x": "a=b",
    }  # fmt: skip
    assert cli(["scan", "mark", "bag = bag-1", "--set", "n=1", "--set", "n=2"]) == 64
    assert "named twice" in capsys.readouterr().err
    for words in (["--limit", "9223372036854775808"], ["--timeout", "inf"], ["--timeout", "1e9"]):
        assert cli(["scan", "search", "bag = bag-1", *words]) == 64
        capsys.readouterr()
    assert cli(["scan", "mark", "bag = bag-1", "--set", "n"]) == 64
    assert "expected NAME=VALUE" in capsys.readouterr().err
    assert cli(["scan", "mark", "bag = ", "--tag", "a"]) == 64
    assert cli(["scan", "mark", "bag = bag-1", "--untag", "new", "--unset", "n"]) == 0


def test_a_definition_asks_for_its_scans(filled: World, run_body: Run) -> None:
    give(run_body, "m-1", "bag in (bag-1, bag-2, bag-3)", tags=("ignore",))
    define(run_body, "define-2", query="modality = DX and not tag = ignore")
    with filled.catalog.read() as connection:
        (status,) = loop_status(connection)
    assert status.validated_scans == 50
    label_everything(run_body, "one")
    assert {row["scan_id"] for row in rows_of(filled, "labelling_tasks")}.isdisjoint(
        scan_id_of(bag, view) for bag in ("bag-1", "bag-2", "bag-3") for view in ("top", "side")
    )
    first = load_snapshot(filled.store, run_job_of(run_body, "snapshot.create", "snap-1")["snapshot_id"])
    assert first.root.rules["query"] == "modality = DX and not tag = ignore"
    gone = next(record.bag_id for record in first.records() if record.split == "train")
    give(run_body, "m-2", f"bag = {gone}", tags=("ignore",))
    second = load_snapshot(filled.store, run_job_of(run_body, "snapshot.create", "snap-2")["snapshot_id"])
    assert {record.bag_id for record in first.rows()} - {record.bag_id for record in second.rows()} == {gone}


def test_marks_of_a_thousand_scans_are_one_publication(filled: World, run_body: Run) -> None:
    run_id = "many"
    add_bags(run_body, filled, [f"more-{number}" for number in range(60)], run_id="more")
    assert give(run_body, run_id, 'bag ~ "more-*"', tags=tuple(f"t{number}" for number in range(10)))["changed"] == 120
    with filled.catalog.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(marks).where(marks.c.run_id == run_id)) == 1200
