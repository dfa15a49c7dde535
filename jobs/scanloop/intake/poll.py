"""What waits to be received: from the listing of the landing zone, from its events, and from quarantine. One poller asks, for all shards."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import runs
from scanloop.errors import WrongArguments
from scanloop.intake.events import UnreadableEvent, parse_event
from scanloop.intake.fairness import FairChoice
from scanloop.intake.landing import Delivery, Shard, delivery_id, is_sidecar, is_usable, list_deliveries
from scanloop.intake.ledger import known_deliveries, late_sidecars, released_contents
from scanloop.intake.queue import EventQueue, Message
from scanloop.intake.work import PLAN_JOB, Work
from scanloop.scans.sidecar import SUFFIX
from scanloop.store import Store, StoredObject

T = TypeVar("T")
log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600
"""Where events say what came, the landing zone is listed all the same so often: an event can be lost."""
_ASK = 500
"""Deliveries that one query asks the ledger about."""


@dataclass
class Found:
    """What a poll found."""

    choice: FairChoice[Work]
    """New work, fairly chosen."""
    known: list[StoredObject] = field(default_factory=list)
    """Objects that the ledger holds and that were not deleted; `limit` at most."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """Messages with the keys that they name: `{handle, keys}`."""
    counts: Counter[str] = field(default_factory=Counter)
    """new, waiting_sidecars, unreadable_events, ignored_events, released."""


class Poller:
    """Finds work for one run. At most `limit` things are taken, and at most twice as many are in memory."""

    def __init__(self, catalog: Catalog, landing: Store, limit: int, shard: Shard | None = None) -> None:
        self._catalog, self._landing, self._limit, self._shard = catalog, landing, limit, shard
        self.found = Found(FairChoice(limit))
        self._asked: set[str] = set()
        """Pictures that events named: the listing finds them once more."""

    def _offer(self, work: Work) -> None:
        self.found.choice.add(work.scanner, work)

    def ask_quarantine(self) -> None:
        """Contents that somebody released."""
        for kept in released_contents(self._catalog, self._shard):
            self.found.counts["released"] += 1
            self._offer(Work(kept=kept))

    def list_landing(self) -> None:
        """Everything that lies in the landing zone."""
        pictures: list[Delivery] = []
        lone: list[StoredObject] = []
        # A fleet of thousands has a folder a scanner with a file or two: the ledger is asked about many folders at once.
        for deliveries, lone_sidecars in list_deliveries(self._landing, self._shard):
            pictures += (one for one in deliveries if one.file.key not in self._asked)
            lone += (one for one in lone_sidecars if one.key.removesuffix(SUFFIX) not in self._asked)
            if len(pictures) + len(lone) >= _ASK:
                self._sort_all(pictures, lone)
                pictures, lone = [], []
        self._sort_all(pictures, lone)

    def _sort_all(self, pictures: list[Delivery], lone: list[StoredObject]) -> None:
        for part in batched(pictures, _ASK):
            self._sort(part)
        for sidecars in batched(lone, _ASK):
            self._sort_sidecars(sidecars)

    def ask_queue(self, queue: EventQueue, on_unreadable: Any) -> None:
        """What the events of the object store name, until there are no more or enough was found. `on_unreadable` is told of each odd message."""
        bucket, prefix = _place(self._landing)
        for batch in batched(queue.receive(), _ASK):
            pictures: dict[str, None] = {}
            for message in batch:
                named = self._named(message, bucket, prefix, on_unreadable)
                pictures.update(dict.fromkeys(key.removesuffix(SUFFIX) for key in named))
                self.found.messages.append({"handle": message.handle, "keys": list(named)})
            new = pictures.keys() - self._asked
            self._asked |= new
            self._look_at(key for key in pictures if key in new)
            if self.found.counts["new"] >= self._limit:
                return

    def _named(self, message: Message, bucket: str, prefix: str, on_unreadable: Any) -> tuple[str, ...]:
        try:
            event = parse_event(message.body, bucket, prefix)
        except UnreadableEvent as error:
            log.warning("A message of the queue is kept aside: %s.", error)
            on_unreadable(message.body)
            self.found.counts["unreadable_events"] += 1
            return ()
        self.found.counts["ignored_events"] += event.ignored
        return tuple(key for key in event.keys if is_usable(key) and (self._shard is None or self._shard.holds(key)))

    def _look_at(self, pictures: Iterable[str]) -> None:
        """What is really there under these keys, each picture with its sidecar."""
        deliveries, lone = [], []
        for key in pictures:
            picture, sidecar = self._landing.head(key), self._landing.head(key + SUFFIX)
            if picture is not None and not is_sidecar(key):
                deliveries.append(Delivery(picture, sidecar))
            elif sidecar is not None:
                lone.append(sidecar)
        self._sort(deliveries)
        self._sort_sidecars(lone)

    def _sort(self, deliveries: list[Delivery]) -> None:
        ids = {delivery_id(self._landing, delivery.file): delivery for delivery in deliveries}
        received = known_deliveries(self._catalog, list(ids))
        for identity, delivery in ids.items():
            if identity not in received:
                self.found.counts["new"] += 1
                self._offer(Work(delivery))
            else:
                self._note_known([delivery.file, *([delivery.sidecar] if delivery.sidecar else [])])

    def _sort_sidecars(self, lone: list[StoredObject]) -> None:
        """Sidecars without a picture beside them: received already, late for a picture that is in quarantine for the lack of it, or early."""
        received = known_deliveries(self._catalog, [delivery_id(self._landing, found) for found in lone])
        unknown = [found for found in lone if delivery_id(self._landing, found) not in received]
        late = late_sidecars(self._catalog, [found.key for found in unknown])
        for found in lone:
            if found.key in late:
                self.found.counts["late_sidecars"] += 1
                self._offer(Work(kept=late[found.key]))
            elif found in unknown:
                self.found.counts["waiting_sidecars"] += 1
            else:
                self._note_known([found])

    def _note_known(self, objects: list[StoredObject]) -> None:
        self.found.counts["known"] += 1
        if len(self.found.known) < self._limit:
            self.found.known += objects


def _place(landing: Store) -> tuple[str, str]:
    """Bucket and prefix of the landing zone. Raises WrongArguments if it has none."""
    from scanloop.store.s3 import S3Store

    if not isinstance(landing, S3Store):
        raise WrongArguments(
            f"SCANLOOP_LANDING_QUEUE_URL is set, and the landing zone {landing.url} is no bucket whose events a queue could hold."
        )
    return landing.bucket, landing.prefix


def is_sweep_due(catalog: Catalog) -> bool:
    """Whether no plan has listed the whole landing zone in the last SWEEP_EVERY_S seconds, by the database's clock."""
    swept = sa.select(sa.literal(1)).where(
        runs.c.job == PLAN_JOB,
        runs.c.result["swept"].astext == "true",
        runs.c.finished_at > sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, SWEEP_EVERY_S),
    )
    with catalog.read() as connection:
        return connection.execute(swept.limit(1)).first() is None


def encode_lines(values: Iterable[Any]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(value, sort_keys=True) + "\n" for value in values).encode()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
