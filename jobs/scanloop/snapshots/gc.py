"""Delete what no snapshot needs: shards, roots and memories that runs left behind which ended before their receipt.

A snapshot itself is never deleted. What is kept is whatever a root in the catalog names, and whatever a receipt of a snapshot names that the
catalog has not caught up with. While it deletes, no snapshot can be made: the leases of all product lines are held, and their rows are locked for
each few deletions, so that nobody can come to rely on an object between the look and the deletion.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.errors import NothingToDo
from scanloop.execution import JobRun, leases
from scanloop.execution.receipts import load_receipt
from scanloop.snapshots.manifest import load_snapshot
from scanloop.steps import step
from scanloop.store import Store, StoredObject

log = logging.getLogger(__name__)
PREFIX = "snapshots/"
JOB = "snapshot.create"
_AT_ONCE = 50


@dataclass(frozen=True)
class Garbage:
    """What may go and what may not."""

    unused: tuple[StoredObject, ...]
    """Objects that nothing names, older than asked."""
    young: int
    """Objects that nothing names and that are too young."""
    used: int
    """Objects that something names."""


def named_keys(catalog: Catalog, store: Store) -> set[str]:
    """Keys of everything that a snapshot in the catalog, or a receipt of one, needs. Raises SnapshotDamaged, ObjectNotFound."""
    with catalog.read() as connection:
        ids = connection.execute(sa.select(t.snapshots.c.snapshot_id)).scalars().all()
    found: set[str] = set()
    for snapshot_id in ids:
        found |= load_snapshot(store, snapshot_id).keys()
    for entry in store.list("receipts/"):
        if entry.key.endswith(f"/{JOB}.json") and (receipt := load_receipt(store, entry.key)) is not None:
            found |= {output["key"] for output in receipt.outputs}
    return found


def garbage_of(catalog: Catalog, store: Store, *, min_age_h: float) -> Garbage:
    """Look, without deleting. Ages are by the store's clock and the database's. Raises as `named_keys`."""
    # What is listed first and named later is kept; the other way round it would not be.
    listed = list(store.list(PREFIX))
    named = named_keys(catalog, store)
    with catalog.read() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
    unused = [entry for entry in listed if entry.key not in named]
    old = tuple(entry for entry in unused if now - entry.modified_at >= timedelta(hours=min_age_h))
    return Garbage(old, len(unused) - len(old), len(listed) - len(unused))


def collect_garbage(run: JobRun, *, min_age_h: float) -> dict[str, Any]:
    """Delete what nothing needs and is at least `min_age_h` hours old.

    Raises:
        LeaseHeld: a snapshot is being made; run again later.
        NothingToDo: there is nothing to delete.
        SnapshotDamaged, ObjectNotFound: a snapshot cannot be read, so nobody can say what it needs; nothing is deleted.
    """
    freed = deleted = 0
    with ExitStack() as stack:
        held = list(_leases(run, stack))
        found = garbage_of(run.catalog, run.store, min_age_h=min_age_h)
        if not found.unused:
            raise NothingToDo(f"{found.used} objects are in use, {found.young} others are younger than {min_age_h:g} hours.")
        for start in range(0, len(found.unused), _AT_ONCE):
            with run.catalog.begin() as connection:
                for lease in held:
                    lease.check(connection)
                for entry in found.unused[start : start + _AT_ONCE]:
                    step("snapshot.gc_before_delete")
                    run.store.delete(entry.key)
                    freed, deleted = freed + entry.size_bytes, deleted + 1
            log.info("Deleted %d of %d objects.", deleted, len(found.unused))
        step("snapshot.gc_after_delete")
    return {"deleted": deleted, "freed_bytes": freed, "kept": found.used, "young": found.young}


def _leases(run: JobRun, stack: ExitStack) -> Iterator[leases.Lease]:
    """Take the lease on the definitions, so that no product line comes to be, then on the snapshots of each."""
    holder = f"{run.identity.run_id}/{run.identity.job}"

    def take(resources: Collection[str]) -> Iterator[leases.Lease]:
        for resource in resources:
            lease = leases.acquire(run.catalog, resource, holder)
            stack.callback(lease.release)
            yield lease

    yield from take(["definitions"])
    with run.catalog.read() as connection:
        lines = connection.execute(sa.select(t.product_lines.c.product_line).distinct().order_by(sa.text("1"))).scalars().all()
    yield from take([f"{line}/snapshot" for line in lines])
