"""Freeze what is known about a product line's scans into a snapshot."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables
from scanloop.catalog.due import is_of_age
from scanloop.errors import DataWrong, NothingToDo
from scanloop.execution import JobRun
from scanloop.snapshots.build import SHARD_SUFFIX, build_root, check_enough
from scanloop.snapshots.collect import labelled_scans, records_of, unmapped_scans
from scanloop.snapshots.manifest import SHARDS_PREFIX, load_snapshot, root_key
from scanloop.snapshots.past import PAST_PREFIX, PAST_SUFFIX, past_of
from scanloop.steps import step

log = logging.getLogger(__name__)


def create_snapshot(run: JobRun) -> dict[str, Any]:
    """Write the snapshot of what is accepted now. The same definition, catalog and earlier snapshots give the same digest.

    Raises:
        DataWrong: the definition's version of the test set is older than the parent's.
        NothingToDo: nothing changed, or there are too few scans, or too few new ones, or a split would be empty; the message says how many more.
    """
    definition = run.definition
    with run.catalog.read() as connection:
        scans = labelled_scans(connection, definition)
        unmapped = unmapped_scans(connection, definition, {scan.facts["scan_id"] for scan in scans})
        parent_id, sequence = latest(connection, definition.product_line)
        serving = connection.execute(
            sa.select(tables.champions.c.model_id).where(tables.champions.c.product_line == definition.product_line)
        ).scalar_one_or_none()
        since = connection.execute(
            sa.select(sa.func.max(tables.champion_history.c.created_at)).where(
                tables.champion_history.c.product_line == definition.product_line, tables.champion_history.c.model_id == serving
            )
        ).scalar_one()
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        known = set(connection.execute(sa.select(tables.snapshots.c.snapshot_id)).scalars())
    parent = load_snapshot(run.store, parent_id) if parent_id else None
    past = past_of(parent)
    if past.test_set > definition.snapshot.test_set:
        raise DataWrong(
            f"The newest snapshot of {definition.product_line} has version {past.test_set} of its test set; test_set is "
            f"{definition.snapshot.test_set}. A test set only grows: choose {past.test_set} or more."
        )
    collected = records_of(scans, definition, past)
    for reason, count in unmapped.items():
        log.warning("%d scans of %s are not used: %s.", count, definition.product_line, reason)
    now_tested = {record.scan_id for record in collected.records if record.split == "test"}
    lost = sum(split == "test" and item.scan_id not in now_tested for item, split in past.prints) if past.test_set else 0
    if lost:
        log.warning("%d scans that were in the frozen test set of %s are not in it now.", lost, definition.product_line)
    built = build_root(collected, definition, parent, past)
    content = built.root.to_bytes()
    snapshot_id = hashlib.sha256(content).hexdigest()
    if snapshot_id in known:
        raise NothingToDo(f"Nothing changed: what is accepted now is snapshot {snapshot_id[:12]} of {definition.product_line}.")
    check_enough(built, definition, parent, is_of_age=is_of_age(since, definition, now))
    for shard in built.root.shards:
        if shard.key in built.new_files:
            step("snapshot.before_shard")
            run.add_output(run.store.put_content(SHARDS_PREFIX, built.new_files[shard.key], SHARD_SUFFIX))
    if built.root.remembered is not None and built.root.remembered.key in built.new_files:
        step("snapshot.before_past")
        run.add_output(run.store.put_content(PAST_PREFIX, built.new_files[built.root.remembered.key], PAST_SUFFIX))
    step("snapshot.before_root")
    stored = run.store.put(root_key(snapshot_id), content, content_type="application/json")
    step("snapshot.after_root")
    run.add_output(stored)
    if parent is not None:
        run.add_input("snapshot", parent.snapshot_id)
    counts = built.root.counts | {
        "accepted": len(scans),
        "left_out": collected.left_out | unmapped,
        "withheld_because": collected.withheld,
        "missing_in_test_set": lost,
    }
    row = {
        "snapshot_id": snapshot_id,
        "product_line": definition.product_line,
        "definition_version": definition.version,
        "parent_id": parent_id,
        "root_key": stored.key,
        "counts": counts,
        "state": "ready",
        "sequence": sequence + 1,
    }
    run.publication.insert("snapshots", [row], action="snapshot.created", subject="snapshot_id")
    log.info("Snapshot %s of %s: %d scans of %d bags.", snapshot_id[:12], definition.product_line, counts["scans"], counts["bags"])
    return {"snapshot_id": snapshot_id, "sequence": sequence + 1, "parent_id": parent_id, "counts": counts}


def latest(connection: sa.Connection, product_line: str) -> tuple[str | None, int]:
    """The newest snapshot of a product line and its number; (None, 0) before the first."""
    row = connection.execute(
        sa.select(tables.snapshots.c.snapshot_id, tables.snapshots.c.sequence)
        .where(tables.snapshots.c.product_line == product_line)
        .order_by(tables.snapshots.c.sequence.desc())
        .limit(1)
    ).first()
    return (row.snapshot_id, row.sequence) if row else (None, 0)
