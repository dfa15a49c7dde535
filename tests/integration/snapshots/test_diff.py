"""What is different between two snapshots: every scan that differs and no other, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import sqlalchemy as sa
from small_world import add_bags, define, label_everything, run_job_of, scan_id_of

from scanloop.cli.main import run as cli
from scanloop.cli.options import World
from scanloop.query.fields import SCANS
from scanloop.query.marking import Changes, mark
from scanloop.snapshots.diff import Change, changes, explained, rules_changed, totals
from scanloop.snapshots.manifest import SnapshotReader, load_snapshot

Run = Callable[..., dict[str, Any]]
BAGS = [f"bag-{number}" for number in range(28)]


@pytest.fixture
def labelled(run_body: Run, world: World) -> World:
    define(run_body, query="not tag = ignore")
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    return world


def freeze(world: World, run_body: Run, name: str) -> SnapshotReader:
    return load_snapshot(world.store, run_job_of(run_body, "snapshot.create", name)["snapshot_id"])


def ignore(run_body: Run, name: str, query: str, **how: Any) -> None:
    changed = Changes(**(how or {"tags": ("ignore",)}))
    run_body("scan.mark", lambda run: mark(run, SCANS, query, changes=changed), run_id=name, lease="marks")


def differing(one: SnapshotReader, other: SnapshotReader) -> dict[str, str]:
    """By comparing every row with every row."""
    before, after = ({row.scan_id: asdict(row) for row in reader.rows()} for reader in (one, other))
    found = dict.fromkeys(before.keys() - after.keys(), "removed") | dict.fromkeys(after.keys() - before.keys(), "added")
    return found | {scan: "changed" for scan in before.keys() & after.keys() if before[scan] != after[scan]}


def by_scan(found: list[Change]) -> dict[str, Change]:
    assert len({change.scan_id for change in found}) == len(found)
    return {change.scan_id: change for change in found}


def test_a_snapshot_does_not_differ_from_itself(labelled: World, run_body: Run) -> None:
    one = freeze(labelled, run_body, "snap-1")
    assert list(changes(one, one)) == []
    assert rules_changed(one, one) == {}


def test_every_scan_that_differs_is_told_and_no_other(labelled: World, run_body: Run) -> None:
    one = freeze(labelled, run_body, "snap-1")
    add_bags(run_body, labelled, ["new-1", "new-2", "new-3"], run_id="ingest-2")
    label_everything(run_body, "two")
    gone = sorted({row.bag_id for row in one.records("train")})[:3]
    ignore(run_body, "m-1", f"bag in ({', '.join(gone)})")
    other = freeze(labelled, run_body, "snap-2")
    found = by_scan(list(changes(one, other)))
    assert {scan: change.kind for scan, change in found.items()} == differing(one, other)
    assert {change.bag_id for change in found.values() if change.kind == "removed"} == set(gone)
    assert {change.bag_id for change in found.values() if change.kind == "added"} == {"new-1", "new-2", "new-3"}
    for change in found.values():
        assert change.why
        if change.kind == "changed":
            assert change.parts == ("weight",)  # what else could change it
            assert set(change.before) == set(change.after) == {"weight"}
            assert "repeat factors changed" in change.why or "clean bags are" in change.why
    back = by_scan(list(changes(other, one)))
    assert {scan: change.kind for scan, change in back.items()} == differing(other, one)
    counted = totals(list(found.values()))
    assert (counted["added"], counted["removed"]) == (6, 2 * len(gone))


def test_a_new_last_word_is_told_with_its_annotation(labelled: World, run_body: Run) -> None:
    one = freeze(labelled, run_body, "snap-1")
    target = next(row for row in one.records("train") if row.boxes)
    with labelled.catalog.read() as connection:
        old = connection.execute(
            sa.text("SELECT * FROM annotations WHERE annotation_id = :id"), {"id": target.annotation_ids[0]}
        ).mappings().one()  # fmt: skip

    def relabel(run: Any) -> dict[str, Any]:
        task = {
            "task_id": "again", "product_line": "cabin", "scan_id": target.scan_id, "bag_id": target.bag_id, "schema_version": "2", "round": 1,
            "selection_id": "again", "external_id": "x", "assignees": 1, "state": "accepted",
        }  # fmt: skip
        note = {name: old[name] for name in ("scan_id", "product_line", "author", "author_kind", "tool", "taxonomy_version", "looked_for")}
        run.publication.insert("labelling_tasks", [task], action="task.created", subject="task_id")
        run.publication.insert(
            "annotations", [note | {"annotation_id": "newer", "boxes": []}], action="annotation.added", subject="annotation_id"
        )
        review = {"review_id": "r", "task_id": "again", "product_line": "cabin", "scan_id": target.scan_id, "verdict": "accepted", "reason": "",
                  "agreement": 1.0, "annotation_id": "newer"}  # fmt: skip
        run.publication.insert("reviews", [review], action="review.made", subject="review_id")
        return {}

    run_body("test.relabel", relabel, run_id="relabel")
    other = freeze(labelled, run_body, "snap-2")
    found = by_scan(list(changes(one, other)))
    assert {scan: change.kind for scan, change in found.items()} == differing(one, other)
    change = found[target.scan_id]
    assert change.parts[0] == "annotation"
    assert "annotation newer has the last word" in change.why
    assert (len(change.before["boxes"]), change.after["boxes"]) == (len(target.boxes), [])


def test_other_rules_are_told_first_and_give_the_reason(labelled: World, run_body: Run) -> None:
    one = freeze(labelled, run_body, "snap-1")
    define(run_body, "define-2", query="not tag = ignore", snapshot={"buckets": 8}, selection={"near_duplicate_bits": 23})
    other = freeze(labelled, run_body, "snap-2")
    assert set(rules_changed(one, other)) == {"near_duplicate_bits", "buckets"}
    found = by_scan(list(changes(one, other)))
    assert {scan: change.kind for scan, change in found.items()} == differing(one, other)
    moved = [change for change in found.values() if "split" in change.parts]
    assert moved
    assert all("the rules split otherwise (near_duplicate_bits)" in change.why for change in moved)


def test_what_is_gone_says_what_became_of_the_scan(labelled: World, run_body: Run) -> None:
    one = freeze(labelled, run_body, "snap-1")
    bag = next(row.bag_id for row in one.records("train"))

    def hold(run: Any) -> dict[str, Any]:
        for view in ("top", "side"):
            key = {"scan_id": scan_id_of(bag, view)}
            run.publication.update("scans", key=key, expect={"state": "validated"}, set={"state": "quarantined"}, action="scan.quarantined")
        return {}

    run_body("test.hold", hold, run_id="hold")
    other = freeze(labelled, run_body, "snap-2")
    with labelled.catalog.read() as connection:
        found = explained(connection, list(changes(one, other)))
    assert {change.why for change in found if change.kind == "removed"} == {"the scan is quarantined now"}


def test_the_commands(labelled: World, run_body: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    one = freeze(labelled, run_body, "snap-1")
    gone = next(row.bag_id for row in one.records("train"))
    ignore(run_body, "m-1", f"bag = {gone}")
    other = freeze(labelled, run_body, "snap-2")
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", labelled.settings.database_url)
    monkeypatch.setenv("SCANLOOP_HOME", str(labelled.settings.home))
    assert cli(["snapshot", "diff", one.snapshot_id[:10], other.snapshot_id[:10]]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown.splitlines()[-1])["removed"] == 2
    assert gone in shown
    assert cli(["snapshot", "diff", one.snapshot_id, other.snapshot_id, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["scan_id"]: line["kind"] for line in lines} == differing(one, other)
    assert cli(["snapshot", "lineage", other.snapshot_id]) == 0
    told = capsys.readouterr().out
    assert one.snapshot_id[:12] in told
    assert other.snapshot_id[:12] in told
    assert cli(["snapshot", "diff", one.snapshot_id, "nothing"]) == 64
