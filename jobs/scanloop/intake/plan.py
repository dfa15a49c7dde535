"""Decide what one run receives, and how many jobs that needs: the one poller of the landing zone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import scans
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.intake.fairness import in_turns
from scanloop.intake.landing import MAX_SHARDS, Delivery, Shard
from scanloop.intake.poll import Poller, encode_lines, is_sweep_due
from scanloop.intake.queue import EventQueue
from scanloop.intake.work import PREFIX, SUFFIX, Work, encode_work
from scanloop.steps import step
from scanloop.store import open_store

log = logging.getLogger(__name__)

MAX_DELIVERIES = 50_000
"""One run receives at most so many; the next goes on. Bounds the poller's memory and how long a run takes."""
MAX_WAITING = 500_000
"""With more received scans than this waiting for validation, nothing more is received."""
UNREADABLE_EVENTS = "intake/unreadable-events"
MESSAGES_PREFIX = "intake/messages"


def plan_ingest(
    run: JobRun, max_shards: int, *, max_deliveries: int = MAX_DELIVERIES, min_a_shard: int = 1, max_waiting: int = MAX_WAITING
) -> dict[str, Any]:
    """Find what waits and share it out: at most `max_shards` shards, at most one a scanner, at least `min_a_shard` deliveries each, never none.

    Where a queue of events is set, it says what came, and the landing zone is listed only once in a while. Of more than `max_deliveries`, every
    scanner gets its fair share; the others wait for the next run. Deliveries that the catalog holds but that were not acknowledged count as
    work for the run (its last job acknowledges them), and so do contents released from quarantine, and pictures there whose sidecar has come.

    Raises:
        NothingToDo: nothing but sidecars that wait for their pictures lies in the landing zone, and nothing was released; or validation is
            so far behind that more than `max_waiting` scans wait for it.
        WrongArguments: a number is not sensible.
    """
    if not 1 <= max_shards <= MAX_SHARDS:
        raise WrongArguments(f"Expected 1 to {MAX_SHARDS} shards, found {max_shards}.")
    if min(max_deliveries, min_a_shard, max_waiting) < 1:
        raise WrongArguments("Expected limits of at least 1.")
    if (behind := _waiting_for_validation(run.catalog, max_waiting)) > max_waiting:
        raise NothingToDo(
            f"validation is behind: more than {behind - 1} received scans wait for it. What lies in the landing zone stays there."
        )
    landing = open_store(run.settings.landing_url)
    poller = Poller(run.catalog, landing, max_deliveries)
    queue = EventQueue(run.settings.landing_queue_url) if run.settings.landing_queue_url else None
    is_swept = queue is None or is_sweep_due(run.catalog)
    poller.ask_quarantine()
    if queue is not None:
        poller.ask_queue(queue, lambda body: run.add_output(run.store.put_content(UNREADABLE_EVENTS, body.encode("utf-8", "replace"))))
    if is_swept:
        poller.list_landing()
    found = poller.found
    chosen = found.choice.chosen()
    if not (chosen or found.known or found.messages):
        waiting = found.counts["waiting_sidecars"]
        also = f"; {waiting} sidecars wait there for their pictures" if waiting else ""
        raise NothingToDo(f"nothing new lies in the landing zone {run.settings.landing_url}{also}.")
    work = _shared_out(run, chosen, max_shards, min_a_shard)
    step("intake.after_work")
    return {
        "shards": list(work),
        "count": len(work),
        "work": work,
        "known": _kept(run, PREFIX, encode_work(Work(Delivery(one, None)) for one in found.known), SUFFIX) if found.known else None,
        "messages": _kept(run, MESSAGES_PREFIX, encode_lines(found.messages), ".jsonl") if found.messages else None,
        "swept": is_swept,
        "deliveries": found.counts["new"],
        "postponed": found.choice.postponed,
        "scanners": len(chosen),
        "unacknowledged": found.counts["known"],
        "released": found.counts["released"],
        **{name: found.counts[name] for name in ("late_sidecars", "waiting_sidecars", "unreadable_events", "ignored_events")},
    }


def _waiting_for_validation(catalog: Catalog, most: int) -> int:
    """How many received scans wait, counted no further than one beyond `most`."""
    some = sa.select(scans.c.scan_id).where(scans.c.state == "received").limit(most + 1).subquery()
    with catalog.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def _shared_out(run: JobRun, chosen: Mapping[str, list[Work]], max_shards: int, min_a_shard: int) -> dict[str, str]:
    """Shard to the key of its list of work. A scanner's work is all in one shard."""
    total = sum(map(len, chosen.values()))
    count = max(1, min(max_shards, len(chosen), -(-total // min_a_shard)))
    shares: dict[int, dict[str, list[Work]]] = {}
    for scanner, queue in chosen.items():
        shares.setdefault(Shard.index_of(queue[0].landing_key, count), {})[scanner] = queue
    # A run that has only to acknowledge what another one left still has a shard, so that every run has the same form.
    shares = shares or {0: {}}
    return {str(Shard(index, count)): _kept(run, PREFIX, encode_work(in_turns(shares[index])), SUFFIX) for index in sorted(shares)}


def _kept(run: JobRun, prefix: str, content: bytes, suffix: str) -> str:
    stored = run.store.put_content(prefix, content, suffix)
    run.add_output(stored)
    return stored.key
