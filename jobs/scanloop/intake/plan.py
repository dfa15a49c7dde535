"""Decide how many jobs the landing zone needs."""

from __future__ import annotations

from typing import Any

from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.intake.landing import MAX_SHARDS, Shard, delivery_id, list_deliveries, scanner_folder
from scanloop.intake.ledger import known_deliveries, released_contents
from scanloop.store import open_store


def plan_ingest(run: JobRun, max_shards: int) -> dict[str, Any]:
    """List the landing zone and name the shards that have work: at most `max_shards`, at most one a scanner, never none.

    Deliveries that the catalog holds but that were not acknowledged count as work for the run (its last job acknowledges them), and so do contents
    released from quarantine.

    Raises:
        NothingToDo: nothing but sidecars that wait for their pictures lies in the landing zone, and nothing was released.
        WrongArguments: `max_shards` is no sensible number.
    """
    if not 1 <= max_shards <= MAX_SHARDS:
        raise WrongArguments(f"Expected 1 to {MAX_SHARDS} shards, found {max_shards}.")
    landing = open_store(run.settings.landing_url)
    new, known, waiting = 0, 0, 0
    keys: dict[str, str] = {}
    for deliveries, lone_sidecars in list_deliveries(landing):
        waiting += len(lone_sidecars)
        ids = {delivery_id(landing, delivery.file): delivery.file.key for delivery in deliveries}
        received = known_deliveries(run.catalog, list(ids))
        known += len(received)
        for identity, key in ids.items():
            if identity not in received:
                new += 1
                keys.setdefault(scanner_folder(key), key)
    released = list(released_contents(run.catalog))
    for content in released:
        keys.setdefault(scanner_folder(content.landing_key), content.landing_key)
    if not (new or known or released):
        also = f"; {waiting} sidecars wait there for their pictures" if waiting else ""
        raise NothingToDo(f"nothing new lies in the landing zone {run.settings.landing_url}{also}.")
    count = max(1, min(max_shards, len(keys)))
    shards = sorted({str(shard) for key in keys.values() for shard in _shards(count) if shard.holds(key)}) or [str(Shard(0, count))]
    return {
        "shards": shards,
        "count": len(shards),
        "deliveries": new,
        "unacknowledged": known,
        "released": len(released),
        "waiting_sidecars": waiting,
    }


def _shards(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]
