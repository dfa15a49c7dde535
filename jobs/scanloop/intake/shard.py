"""Receive one shard of the landing zone: what the run's plan says, chunk by chunk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from scanloop.errors import ObjectNotFound, WrongArguments
from scanloop.execution import JobRun
from scanloop.intake.fairness import in_turns
from scanloop.intake.landing import Shard, delivery_id, scanner_folder
from scanloop.intake.ledger import held_and_unread_with, known_deliveries, sidecar_of
from scanloop.intake.poll import Poller
from scanloop.intake.receive import OUTCOMES, Item, Receiver
from scanloop.intake.rows import RAW_PREFIX, raw_key
from scanloop.intake.work import Kept, Work, decode_work, plan_of
from scanloop.scans.sandbox import Sandbox
from scanloop.scans.sidecar import SUFFIX
from scanloop.steps import step
from scanloop.store import Store, StoredObject, open_store

log = logging.getLogger(__name__)

CHUNK = 1000
"""Deliveries in one publication. A shard publishes as it goes, so its memory does not grow with what it receives, and a kill costs one chunk."""


def ingest_shard(run: JobRun, shard: Shard, chunk: int = 0) -> dict[str, Any]:
    """Receive the next CHUNK deliveries of `shard`, and read again what is to be: chunk number `chunk` of what the run's plan says.

    Where the run has no plan, the landing zone is listed, and every chunk is the first of what is new. The result counts deliveries by outcome;
    `left` says that another chunk follows.

    Raises:
        WrongArguments: the run's plan has no such shard.
    """
    return _ShardIngest(run, shard).receive(chunk)


def total_of(shard: Shard, chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of a shard from those of its chunks."""
    counts = {name: sum(int(chunk[name]) for chunk in chunks) for name in (*OUTCOMES, "deliveries")}
    return {**counts, "chunks": len(chunks), "left": False, "shard": str(shard)}


def work_of(run: JobRun, shard: Shard) -> Iterator[Work] | None:
    """What the run's plan says this shard has to do; None if the run has no plan.

    Raises:
        WrongArguments: the plan has no such shard.
    """
    receipt = plan_of(run.store, run.identity.run_id)
    if receipt is None:
        return None
    key = receipt.result["work"].get(str(shard))
    if key is None:
        known = ", ".join(receipt.result["shards"])
        raise WrongArguments(f"The plan of the run {run.identity.run_id} has no shard {shard}; it has {known}.")
    return decode_work(run.store.get(key))


class _ShardIngest(Receiver[Work]):
    def __init__(self, run: JobRun, shard: Shard) -> None:
        super().__init__(run, f"Shard {shard}")
        self.shard = shard
        self.landing: Store = open_store(run.settings.landing_url)

    def _identity(self, found: StoredObject) -> str:
        return delivery_id(self.landing, found)

    def receive(self, chunk: int) -> dict[str, Any]:
        planned = work_of(self.run, self.shard)
        if planned is None:
            work, is_left = self._listed()
        else:
            upcoming = islice(planned, chunk * CHUNK, None)
            work = list(islice(upcoming, CHUNK))
            is_left = next(upcoming, None) is not None
        wanted = self._unknown(work)
        self._receive_all(wanted)
        received = sum(item.delivery is not None for item in wanted)
        return {**{name: self.counts[name] for name in OUTCOMES}, "deliveries": received, "left": is_left, "shard": str(self.shard)}

    def _listed(self) -> tuple[list[Work], bool]:
        """The next chunk of what the landing zone holds, and whether more is left."""
        poller = Poller(self.run.catalog, self.landing, CHUNK, self.shard)
        poller.ask_quarantine()
        poller.list_landing()
        return list(in_turns(poller.found.choice.chosen())), poller.found.choice.postponed > 0

    def _unknown(self, work: Sequence[Work]) -> list[Work]:
        """What another run has not received since it was planned."""
        ids = {delivery_id(self.landing, item.delivery.file): item for item in work if item.delivery is not None}
        known = known_deliveries(self.run.catalog, list(ids))
        return [item for item in work if item.delivery is None or delivery_id(self.landing, item.delivery.file) not in known]

    def _receive(self, sandbox: Sandbox, keepers: ThreadPoolExecutor, items: list[Item]) -> None:
        super()._receive(sandbox, keepers, self._with_new_sidecars(items))

    def _with_new_sidecars(self, items: list[Item]) -> list[Item]:
        """The same; contents in quarantine that come again from their scanner, with a sidecar that is new to them, are to be read again."""
        brought = {item.sha256: item.sidecar_sha256 for item in items if item.again is None and item.sidecar_sha256 is not None}
        held = held_and_unread_with(self.run.catalog, brought)
        return [
            replace(item, again=held[item.sha256])
            if item.sidecar_sha256 is not None
            and item.sidecar_sha256 == brought.get(item.sha256)
            and item.sha256 in held
            and scanner_folder(held[item.sha256].landing_key) == scanner_folder(item.landing_key)
            else item
            for item in items
        ]

    def _keep(self, store: Store, found: StoredObject, path: Path) -> StoredObject:
        """Bring an object to `path` and into the store under its own digest."""
        kept = self.run.store.put_content(RAW_PREFIX, store.fetch(found.key, path), is_given=True, is_lazy=True)
        step("intake.after_raw")
        return kept

    def _fetch(self, work: Work, name: str) -> Item | None:
        """Keep the bytes of one delivery, or bring back those of a content in quarantine. None if it went away since it was found."""
        path = self.folder / name
        try:
            if work.delivery is None:
                assert work.kept is not None
                return self._fetch_again(work.kept, path)
            found, sidecar = work.delivery.file, work.delivery.sidecar
            kept = [self._keep(self.landing, found, path)]
            if sidecar is None:
                return Item(path, str(kept[0].sha256), found.key, kept, found)
            sidecar_path = path.with_suffix(".sidecar")
            kept.append(self._keep(self.landing, sidecar, sidecar_path))
        except ObjectNotFound:
            log.warning("%s went away while it was being received.", self.landing.uri(work.landing_key))
            return None
        return Item(path, str(kept[0].sha256), found.key, kept, found, sidecar, sidecar_path, kept[1].sha256)

    def _fetch_again(self, content: Kept, path: Path) -> Item:
        """Bring back a content with the newest sidecar: one that came to the landing zone since, or the one that was received."""
        self.run.store.download(content.raw_key, path)
        sidecar_key, sidecar_path = content.landing_key + SUFFIX, path.with_suffix(".sidecar")
        newer = self.landing.head(sidecar_key)
        if newer is not None:
            kept = self._keep(self.landing, newer, sidecar_path)
            return Item(path, content.sha256, content.landing_key, [kept], None, newer, sidecar_path, kept.sha256, content)
        received = sidecar_of(self.run.catalog, sidecar_key)
        if received is None:
            return Item(path, content.sha256, content.landing_key, [], again=content)
        self.run.store.download(raw_key(received), sidecar_path)
        return Item(path, content.sha256, content.landing_key, [], None, None, sidecar_path, received, content)
