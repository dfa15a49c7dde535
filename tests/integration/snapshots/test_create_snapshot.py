"""Snapshots from a real catalog and store: the same state gives the same digest, and nothing leaks between splits."""

from __future__ import annotations

import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of, runner_of, scan_id_of

from scanloop.errors import DataWrong, NothingToDo
from scanloop.snapshots.manifest import load_snapshot
from scanloop.snapshots.verify import violations

BAGS = [f"bag-{number}" for number in range(28)]


@pytest.fixture
def labelled(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    return world


def freeze(run_body, run_id):
    return run_job_of(run_body, "snapshot.create", run_id)


def test_a_snapshot_holds_what_was_accepted(labelled, run_body):
    result = freeze(run_body, "snap-1")
    reader = load_snapshot(labelled.store, result["snapshot_id"])
    records = list(reader.records())
    assert list(violations(reader)) == []
    assert {record.split for record in records} == {"train", "val", "test"}
    assert result["counts"]["scans"] == len(records) > 28
    accepted = {row["annotation_id"]: row for row in rows_of(labelled, "annotations", author_kind="consensus")}
    for record in reader.rows():
        (annotation_id,) = record.annotation_ids
        assert accepted[annotation_id]["scan_id"] == record.scan_id
        assert sorted(box.as_json()["bbox_xywh"] for box in record.boxes) == sorted(
            box["bbox_xywh"] for box in accepted[annotation_id]["boxes"]
        )
    row = rows_of(labelled, "snapshots")[0]
    assert (row["snapshot_id"], row["sequence"], row["parent_id"], row["state"]) == (result["snapshot_id"], 1, None, "ready")
    assert row["counts"]["accepted"] == len(accepted)


def test_nothing_new_is_nothing_to_do(labelled, run_body):
    freeze(run_body, "snap-1")
    objects = [entry.key for entry in labelled.store.list("snapshots/")]
    with pytest.raises(NothingToDo, match="Nothing changed"):
        freeze(run_body, "snap-2")
    assert [entry.key for entry in labelled.store.list("snapshots/")] == objects


def test_two_deployments_with_the_same_history_freeze_the_same_digest(labelled, run_body, make_database, tmp_path):
    from scanloop.catalog import Catalog
    from scanloop.cli.options import World
    from scanloop.settings import Settings
    from scanloop.store import open_store

    settings = Settings(home=tmp_path / "other", database_url=make_database())
    other = World(settings, open_store(settings.store_url), Catalog(settings.database_url))
    try:
        run = runner_of(other)
        define(run)
        add_bags(run, other, BAGS[14:], run_id="ingest-1")
        add_bags(run, other, BAGS[:14], run_id="ingest-2")
        label_everything(run, "elsewhere")
        assert freeze(run, "snap-elsewhere")["snapshot_id"] == freeze(run_body, "snap-1")["snapshot_id"]
    finally:
        other.catalog.close()


def test_a_child_keeps_splits_and_shares_unchanged_shards(labelled, run_body):
    first = load_snapshot(labelled.store, freeze(run_body, "snap-1")["snapshot_id"])
    add_bags(run_body, labelled, ["new-1"], run_id="ingest-2")
    label_everything(run_body, "two")
    result = freeze(run_body, "snap-2")
    second = load_snapshot(labelled.store, result["snapshot_id"])
    assert (result["parent_id"], result["sequence"]) == (first.snapshot_id, 2)
    assert len({shard.key for shard in first.root.shards} & {shard.key for shard in second.root.shards}) == len(first.root.shards) - 1
    before = {row.scan_id: row.split for row in first.rows()}
    assert {scan_id: split for scan_id, split in ((row.scan_id, row.split) for row in second.rows()) if scan_id in before} == before


def test_too_few_new_scans_say_how_many_more_it_takes(labelled, run_body):
    freeze(run_body, "snap-1")
    define(run_body, "define-2", snapshot={"min_new_scans": 10})
    add_bags(run_body, labelled, ["new-1"], run_id="ingest-2")
    label_everything(run_body, "two")
    accepted = len(
        [
            row
            for row in rows_of(labelled, "reviews", verdict="accepted")
            if row["scan_id"] in {scan_id_of("new-1", view) for view in ("side", "top")}
        ]
    )
    with pytest.raises(NothingToDo, match=rf"{accepted} scans of cabin changed .* needs 10, {10 - accepted} more"):
        freeze(run_body, "snap-2")


def test_a_changed_rule_makes_a_new_snapshot_without_new_scans(labelled, run_body):
    freeze(run_body, "snap-1")
    define(run_body, "define-2", snapshot={"min_new_scans": 10, "clean_bag_ratio": 0.25})
    result = freeze(run_body, "snap-2")
    splits = result["counts"]["splits"]
    assert splits["train"]["clean_bags"] <= 0.25 * (splits["train"]["bags"] - splits["train"]["clean_bags"])
    assert splits["test"]["clean_bags"] > 0


def test_an_erased_scan_leaves_the_next_snapshot(labelled, run_body):
    first = load_snapshot(labelled.store, freeze(run_body, "snap-1")["snapshot_id"])
    gone = next(iter(first.records("train"))).scan_id

    def erase(run):
        run.publication.update("scans", key={"scan_id": gone}, expect={"state": "validated"}, set={"state": "erased"}, action="scan.erased")
        return {}

    run_body("test.erase", erase, run_id="erase")
    second = load_snapshot(labelled.store, freeze(run_body, "snap-2")["snapshot_id"])
    assert gone not in {row.scan_id for row in second.rows()}


def test_below_the_minimum_it_says_how_many_more(run_body, world):
    define(run_body, snapshot={"min_scans": 500})
    with pytest.raises(NothingToDo, match="0 accepted scans; a snapshot needs 500, 500 more"):
        freeze(run_body, "snap-1")


def test_a_test_set_never_goes_back_to_an_older_version(labelled, run_body):
    define(run_body, "define-2", snapshot={"test_set": 2})
    first = load_snapshot(labelled.store, freeze(run_body, "snap-1")["snapshot_id"])
    add_bags(run_body, labelled, [f"new-{number}" for number in range(20)], run_id="ingest-2")
    label_everything(run_body, "two")
    result = freeze(run_body, "snap-2")
    second = load_snapshot(labelled.store, result["snapshot_id"])
    assert {row.scan_id for row in first.records("test")} == {row.scan_id for row in second.records("test")}
    assert result["counts"]["withheld_because"]["waits for the next version of the test set"] > 0
    for older in (1, 0):
        define(run_body, f"define-3-{older}", snapshot={"test_set": older})
        with pytest.raises(DataWrong, match=rf"version 2 of its test set; test_set is {older}\. A test set only grows"):
            freeze(run_body, f"snap-3-{older}")
    assert result["counts"]["missing_in_test_set"] == 0
    define(run_body, "define-4", snapshot={"test_set": 3})
    third = load_snapshot(labelled.store, freeze(run_body, "snap-4")["snapshot_id"])
    assert {row.scan_id for row in second.records("test")} < {row.scan_id for row in third.records("test")}
    assert list(violations(third)) == []


def test_what_left_a_snapshot_is_remembered_in_the_store(labelled, run_body):
    first = load_snapshot(labelled.store, freeze(run_body, "snap-1")["snapshot_id"])
    gone = next(iter(first.records("train"))).scan_id

    def change(state, other, name):
        def body(run):
            run.publication.update("scans", key={"scan_id": gone}, expect={"state": state}, set={"state": other}, action="scan.held")
            return {}

        run_body("test.hold", body, run_id=name)

    change("validated", "quarantined", "hold")
    second = load_snapshot(labelled.store, freeze(run_body, "snap-2")["snapshot_id"])
    assert second.root.remembered is not None
    assert labelled.store.verify(second.root.remembered.key, second.root.remembered.sha256)
    change("quarantined", "validated", "release")
    define(run_body, "define-2", snapshot={"seed": 12})
    third = load_snapshot(labelled.store, freeze(run_body, "snap-3")["snapshot_id"])
    assert third.root.remembered is None
    assert {row.scan_id: row.split for row in third.rows()} == {row.scan_id: row.split for row in first.rows()}
