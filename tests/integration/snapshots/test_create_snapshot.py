"""Snapshots from a real catalog and store: the same state gives the same digest, and nothing leaks between splits."""

from __future__ import annotations

import pytest

from scanloop.errors import NothingToDo
from scanloop.snapshots.manifest import SnapshotDamaged, load_snapshot
from scanloop.snapshots.verify import violations
from small_world import add_bags, define, label_everything, rows_of, run_job_of

BAGS = [f"bag-{number}" for number in range(60)]


@pytest.fixture
def labelled(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    return world


def test_a_snapshot_holds_what_was_accepted(labelled, run_body):
    result = run_job_of(run_body, "snapshot.create", "snap-1")
    reader = load_snapshot(labelled.store, result["snapshot_id"])
    records = list(reader.records())
    assert list(violations(reader)) == []
    assert {record.split for record in records} == {"train", "val", "test"}
    assert result["counts"]["scans"] == len(records) > 60
    accepted = {row["annotation_id"] for row in rows_of(labelled, "annotations", author_kind="consensus")}
    assert {annotation_id for record in reader.rows() for annotation_id in record.annotation_ids} <= accepted
    assert rows_of(labelled, "snapshots")[0]["snapshot_id"] == result["snapshot_id"]
