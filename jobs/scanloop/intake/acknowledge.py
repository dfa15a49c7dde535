"""Empty the landing zone of what is safe: the last act of an ingest run."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import deliveries
from scanloop.execution import JobRun
from scanloop.intake.landing import delivery_id, list_deliveries
from scanloop.intake.ledger import known_deliveries
from scanloop.intake.rows import raw_key
from scanloop.steps import step
from scanloop.store import Store, StoredObject, open_store

log = logging.getLogger(__name__)


def acknowledge(run: JobRun) -> dict[str, Any]:
    """Delete from the landing zone each object whose delivery the catalog holds and whose bytes the store holds under their SHA-256.

    An object that was replaced since it was received is a new delivery and stays. So does everything else: deliveries of a later run, and
    sidecars whose picture has not come (`waiting_sidecars`).

    Where two shards received the same content at the same time, both wrote it down as the scan's delivery; all but the first become duplicates here.
    """
    landing = open_store(run.settings.landing_url)
    acknowledged, kept, waiting = 0, 0, 0
    digests: set[str] = set()
    for found_deliveries, lone_sidecars in list_deliveries(landing):
        objects = [delivery.file for delivery in found_deliveries]
        objects += [delivery.sidecar for delivery in found_deliveries if delivery.sidecar is not None]
        received = known_deliveries(run.catalog, [delivery_id(landing, found) for found in objects + lone_sidecars])
        waiting += sum(delivery_id(landing, found) not in received for found in lone_sidecars)
        for found in objects + lone_sidecars:
            sha256 = received.get(delivery_id(landing, found))
            if sha256 is None:
                kept += found not in lone_sidecars
            elif _remove(run.store, landing, found, sha256):
                acknowledged += 1
                digests.add(sha256)
            else:
                kept += 1
    _mark_duplicates(run, sorted(digests))
    return {"acknowledged": acknowledged, "kept": kept, "waiting_sidecars": waiting}


def _remove(store: Store, landing: Store, found: StoredObject, sha256: str) -> bool:
    """Delete one received object; False if its bytes are not safe, or if it is no longer what was received."""
    if not store.verify(raw_key(sha256), sha256):
        log.error("%s stays: the store does not hold its bytes under %s.", landing.uri(found.key), raw_key(sha256))
        return False
    now = landing.head(found.key)
    if now is None or (now.etag, now.size_bytes) != (found.etag, found.size_bytes):
        return False
    step("intake.before_delete")
    landing.delete(found.key)
    step("intake.after_delete")
    return True


def _mark_duplicates(run: JobRun, digests: list[str]) -> None:
    """Leave one delivery of each content as the scan's own: the first by landing key."""
    query = (
        sa.select(deliveries.c.delivery_id, deliveries.c.content_sha256)
        .where(deliveries.c.outcome == "scan", deliveries.c.content_sha256.in_(digests))
        .order_by(deliveries.c.content_sha256, deliveries.c.landing_key, deliveries.c.delivery_id)
    )
    with run.catalog.read() as connection:
        rows = connection.execute(query).all()
    for before, row in pairwise(rows):
        if before.content_sha256 == row.content_sha256:
            run.publication.update(
                "deliveries",
                key={"delivery_id": row.delivery_id},
                expect={"outcome": "scan"},
                set={"outcome": "duplicate"},
                action="delivery.duplicate_found",
            )
