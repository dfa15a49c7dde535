"""Empty the landing zone of what is safe: the last act of an ingest run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import deliveries
from scanloop.execution import JobRun
from scanloop.execution.receipts import Receipt
from scanloop.intake.landing import delivery_id, is_sidecar, list_deliveries
from scanloop.intake.ledger import known_deliveries
from scanloop.intake.poll import batched
from scanloop.intake.queue import EventQueue
from scanloop.intake.rows import raw_key
from scanloop.intake.work import decode_work, plan_of
from scanloop.scans.sidecar import SUFFIX
from scanloop.steps import step
from scanloop.store import Store, StoredObject, open_store

log = logging.getLogger(__name__)
_BATCH = 500
_DELETERS = 4
"""Objects that are verified and deleted at the same time."""


def acknowledge(run: JobRun) -> dict[str, Any]:
    """Delete from the landing zone each object whose delivery the catalog holds and whose bytes the store holds under their SHA-256.

    Looks at what the run's plan named; where the run has none, at everything that lies there. An object that was replaced since it was received
    is a new delivery and stays. So does everything else: deliveries of a later run, and sidecars whose picture has not come (`waiting_sidecars`).
    Messages of the queue go after everything that they name is safe, or is no longer there.

    Where two shards received the same content at the same time, both wrote it down as the delivery of its scan or report; all but the first become
    duplicates here.
    """
    landing = open_store(run.settings.landing_url)
    plan = plan_of(run.store, run.identity.run_id)
    batches = _planned(run.store, landing, plan) if plan is not None else _listed(landing)
    acknowledged, kept, waiting = 0, 0, 0
    digests: set[str] = set()
    with ThreadPoolExecutor(_DELETERS, "delete") as pool:
        for objects, lone_sidecars in batches:
            ids = {found: delivery_id(landing, found) for found in objects + lone_sidecars}
            received = known_deliveries(run.catalog, list(ids.values()))
            waiting += sum(ids[found] not in received for found in lone_sidecars)
            kept += sum(ids[found] not in received for found in objects)
            safe = [(found, received[identity]) for found, identity in ids.items() if identity in received]
            for (_, sha256), is_gone in zip(safe, pool.map(lambda pair: _remove(run.store, landing, *pair), safe), strict=True):
                acknowledged += is_gone
                kept += not is_gone
                digests.update([sha256] if is_gone else [])
    _mark_duplicates(run, sorted(digests))
    done = {"acknowledged": acknowledged, "kept": kept, "waiting_sidecars": waiting}
    if plan is not None and plan.result["messages"]:
        done["messages"] = _delete_messages(run, landing, plan.result["messages"])
    return done


Batch = tuple[list[StoredObject], list[StoredObject]]
"""Objects of deliveries, and sidecars without a picture beside them."""


def _listed(landing: Store) -> Iterator[Batch]:
    for found, lone_sidecars in list_deliveries(landing):
        objects = [delivery.file for delivery in found]
        yield objects + [delivery.sidecar for delivery in found if delivery.sidecar is not None], lone_sidecars


def _planned(store: Store, landing: Store, plan: Receipt) -> Iterator[Batch]:
    """What the plan named, as it is now; what is gone is left out."""
    keys = [*plan.result["work"].values(), *([plan.result["known"]] if plan.result["known"] else [])]
    for work in batched((item for key in keys for item in decode_work(store.get(key))), _BATCH):
        objects, lone = [], []
        for item in work:
            if item.delivery is not None:
                objects += [item.delivery.file, *([item.delivery.sidecar] if item.delivery.sidecar else [])]
            elif (sidecar := landing.head(item.landing_key + SUFFIX)) is not None:
                lone.append(sidecar)
        yield objects, lone


def _delete_messages(run: JobRun, landing: Store, key: str) -> int:
    """Delete the messages of which nothing remains to be received; returns how many the queue took."""
    queue = EventQueue(run.settings.landing_queue_url)
    messages = [json.loads(line) for line in run.store.get(key).splitlines()]
    done: list[str] = []
    for batch in batched(messages, _BATCH):
        named = dict.fromkeys(name for message in batch for name in message["keys"])
        there = {name: found for name in named if (found := landing.head(name)) is not None}
        received = known_deliveries(run.catalog, [delivery_id(landing, found) for found in there.values()])
        # A sidecar whose picture has not come is found again by its picture's own event.
        open_names = {name for name, found in there.items() if delivery_id(landing, found) not in received and not is_sidecar(name)}
        done += [message["handle"] for message in batch if open_names.isdisjoint(message["keys"])]
    step("queue.before_delete")
    return queue.delete(done)


def _remove(store: Store, landing: Store, found: StoredObject, sha256: str) -> bool:
    """Delete one received object; False if its bytes are not safe, or if it is no longer what was received."""
    if not store.verify(raw_key(sha256), sha256):
        log.error("%s stays: the store does not hold its bytes under %s.", landing.uri(found.key), raw_key(sha256))
        return False
    now = landing.head(found.key)
    if now is None:
        return True  # an earlier attempt of this run deleted it
    if (now.etag, now.size_bytes) != (found.etag, found.size_bytes):
        return False
    step("intake.before_delete")
    landing.delete(found.key)
    step("intake.after_delete")
    return True


def _mark_duplicates(run: JobRun, digests: list[str]) -> None:
    """Leave one delivery of each content as its scan's or report's own: the first by landing key."""
    query = (
        sa.select(deliveries.c.delivery_id, deliveries.c.content_sha256, deliveries.c.outcome)
        .where(deliveries.c.outcome.in_(("scan", "report")), deliveries.c.content_sha256.in_(digests))
        .order_by(deliveries.c.content_sha256, deliveries.c.landing_key, deliveries.c.delivery_id)
    )
    with run.catalog.read() as connection:
        rows = connection.execute(query).all()
    for before, row in pairwise(rows):
        if before.content_sha256 == row.content_sha256:
            run.publication.update(
                "deliveries",
                key={"delivery_id": row.delivery_id},
                expect={"outcome": row.outcome},
                set={"outcome": "duplicate"},
                action="delivery.duplicate_found",
            )
