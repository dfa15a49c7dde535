"""Receive one shard of the landing zone: keep the bytes first, then read them, then say what became of them."""

from __future__ import annotations

import logging
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from scanloop.errors import ObjectNotFound, WrongArguments
from scanloop.execution import JobRun
from scanloop.intake.fairness import in_turns
from scanloop.intake.landing import Shard, delivered_site, delivery_id
from scanloop.intake.ledger import Known, deliveries_of, known_contents, known_deliveries, sidecar_of
from scanloop.intake.poll import Poller, batched
from scanloop.intake.rows import PLANES_PREFIX, RAW_PREFIX, Row, delivery_row, identity_rows, measurement, quarantine_row, raw_key
from scanloop.intake.work import Kept, Work, decode_work, plan_of
from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.planes import encode_planes
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.scans.sidecar import SUFFIX
from scanloop.steps import step
from scanloop.store import Store, StoredObject, open_store

log = logging.getLogger(__name__)

BATCH = 32
"""Deliveries on local disk at a time, twice: one batch is brought while the one before is read."""
CHUNK = 1000
"""Deliveries in one publication. A shard publishes as it goes, so its memory does not grow with what it receives, and a kill costs one chunk."""
FETCHERS = 4
"""Objects brought at the same time: a store over HTTP answers each after a while."""
KEEPERS = 2
"""Scans whose planes are compressed and kept at the same time."""


_ACTIONS = {
    "sites": ("site.seen", "site_id"),
    "scanners": ("scanner.seen", "scanner_id"),
    "bags": ("bag.seen", "bag_id"),
    "scans": ("scan.received", "scan_id"),
    "quarantine": ("content.quarantined", "quarantine_id"),
    "deliveries": ("delivery.received", "delivery_id"),
}
"""Table to the action in the audit log and the column that names the subject, in the order that foreign keys want."""
_OUTCOMES = ("scans", "duplicates", "quarantined", "sidecars", "reread")


_Columns = tuple[StoredObject, Row]


@dataclass(frozen=True)
class _Item:
    """One content on local disk, its bytes already in the store."""

    path: Path
    sha256: str
    landing_key: str
    kept: list[StoredObject]
    """What was put into the store for it."""
    file: StoredObject | None = None
    """Where it lies in the landing zone; None for a content released from quarantine."""
    sidecar: StoredObject | None = None
    """Where its sidecar lies in the landing zone."""
    sidecar_path: Path | None = None
    sidecar_sha256: str | None = None
    again: Kept | None = None
    """For a content from quarantine: what is known about it there."""


@dataclass
class _Rows:
    """Rows of one chunk, by table; each of a site, scanner or bag once."""

    rows: dict[str, dict[str, Row]] = field(default_factory=lambda: {name: {} for name in _ACTIONS})

    def add(self, table: str, row: Row) -> None:
        self.rows[table].setdefault(row[_ACTIONS[table][1]], row)

    def publish(self, run: JobRun) -> None:
        for table, rows in self.rows.items():
            action, subject = _ACTIONS[table]
            run.publication.insert(table, rows.values(), action=action, subject=subject)


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
    counts = {name: sum(int(chunk[name]) for chunk in chunks) for name in (*_OUTCOMES, "deliveries")}
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


class _ShardIngest:
    def __init__(self, run: JobRun, shard: Shard) -> None:
        self.run, self.shard = run, shard
        self.landing: Store = open_store(run.settings.landing_url)
        self.counts: Counter[str] = Counter()
        self.rows = _Rows()
        self.decided: dict[str, dict[str, str | None]] = {}
        """Content to what this chunk decided about it."""
        self.changes: list[dict[str, Any]] = []
        """Updates of rows that are there, after all that is new."""
        self.folder = run.workdir / "received"

    def receive(self, chunk: int) -> dict[str, Any]:
        planned = work_of(self.run, self.shard)
        if planned is None:
            work, is_left = self._listed()
        else:
            upcoming = islice(planned, chunk * CHUNK, None)
            work = list(islice(upcoming, CHUNK))
            is_left = next(upcoming, None) is not None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        received = self._receive_all(self._unknown(work))
        self.rows.publish(self.run)
        for change in self.changes:
            self.run.publication.update(**change)
        return {**{name: self.counts[name] for name in _OUTCOMES}, "deliveries": received, "left": is_left, "shard": str(self.shard)}

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

    def _receive_all(self, work: Sequence[Work]) -> int:
        """Bring one batch while the one before is read; returns the number of deliveries."""
        received = 0
        with Sandbox(self.folder) as sandbox, ThreadPoolExecutor(FETCHERS, "fetch") as pool, ThreadPoolExecutor(KEEPERS, "keep") as keepers:
            coming: list[Future[_Item | None]] = []
            for number, batch in enumerate((*batched(work, BATCH), [])):
                arrived = [future.result() for future in coming]
                coming = [pool.submit(self._fetch, item, f"{number:04d}-{index:02d}") for index, item in enumerate(batch)]
                items = [item for item in arrived if item is not None]
                if items:
                    self._receive(sandbox, keepers, items)
                received += sum(item.delivery is not None for item in batch)
                if batch and number:
                    log.info("Shard %s: %d of %d deliveries received.", self.shard, number * BATCH, len(work))
        return received

    def _keep(self, store: Store, found: StoredObject, path: Path) -> StoredObject:
        """Bring an object to `path` and into the store under its own digest."""
        store.download(found.key, path)
        kept = self.run.store.put_content(RAW_PREFIX, path, is_given=True, is_lazy=True)
        step("intake.after_raw")
        return kept

    def _fetch(self, work: Work, name: str) -> _Item | None:
        """Keep the bytes of one delivery, or bring back those of a content in quarantine. None if it went away since it was found."""
        path = self.folder / name
        try:
            if work.delivery is None:
                assert work.kept is not None
                return self._fetch_again(work.kept, path)
            found, sidecar = work.delivery.file, work.delivery.sidecar
            kept = [self._keep(self.landing, found, path)]
            if sidecar is None:
                return _Item(path, str(kept[0].sha256), found.key, kept, found)
            sidecar_path = path.with_suffix(".sidecar")
            kept.append(self._keep(self.landing, sidecar, sidecar_path))
        except ObjectNotFound:
            log.warning("%s went away while it was being received.", self.landing.uri(work.landing_key))
            return None
        return _Item(path, str(kept[0].sha256), found.key, kept, found, sidecar, sidecar_path, kept[1].sha256)

    def _fetch_again(self, content: Kept, path: Path) -> _Item:
        """Bring back a content with the newest sidecar: one that came to the landing zone since, or the one that was received."""
        self.run.store.download(content.raw_key, path)
        sidecar_key, sidecar_path = content.landing_key + SUFFIX, path.with_suffix(".sidecar")
        newer = self.landing.head(sidecar_key)
        if newer is not None:
            kept = self._keep(self.landing, newer, sidecar_path)
            return _Item(path, content.sha256, content.landing_key, [kept], None, newer, sidecar_path, kept.sha256, content)
        received = sidecar_of(self.run.catalog, sidecar_key)
        if received is None:
            return _Item(path, content.sha256, content.landing_key, [], again=content)
        self.run.store.download(raw_key(received), sidecar_path)
        return _Item(path, content.sha256, content.landing_key, [], None, None, sidecar_path, received, content)

    def _receive(self, sandbox: Sandbox, keepers: ThreadPoolExecutor, items: list[_Item]) -> None:
        """Read what is new among the contents of one batch, and put down what became of each delivery."""
        for stored in (stored for item in items for stored in item.kept):
            self.run.add_output(stored)
        known = known_contents(self.run.catalog, sorted({item.sha256 for item in items}))
        unread: dict[str, _Item] = {}
        for item in items:
            if item.again or not (known[item.sha256].is_scan or known[item.sha256].is_held or item.sha256 in self.decided):
                unread.setdefault(item.sha256, item)
        outcomes = sandbox.read_all(Received(item.path, item.sidecar_path) for item in unread.values())
        first_of: dict[str, _Item] = {}
        keeping: deque[tuple[_Item, ScanContent, Future[_Columns]]] = deque()
        for item, outcome in zip(unread.values(), outcomes, strict=True):
            first_of[item.sha256] = item
            if item.again is not None:
                self._read_again(item, item.again, outcome)
            elif isinstance(outcome, ScanRefused):
                log.warning("%s goes to quarantine: %s (%s)", item.sha256[:12], outcome.message, outcome.reason_code)
                self.rows.add("quarantine", quarantine_row(item.sha256, outcome, item.landing_key, delivered_site(item.landing_key)))
                self.decided[item.sha256] = {"outcome": "quarantined", "quarantine_id": item.sha256}
            else:
                # Compressing and storing let go of the interpreter: the reader's next answer is taken meanwhile.
                while len(keeping) >= KEEPERS:
                    self._add_scan(*keeping.popleft())
                keeping.append((item, outcome, keepers.submit(self._columns, item, outcome)))
                self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}
        for one in keeping:
            self._add_scan(*one)
        for item in items:
            self._add_deliveries(item, known[item.sha256], is_first=first_of.get(item.sha256) is item)
        for item in items:
            item.path.unlink(missing_ok=True)
            if item.sidecar_path is not None:
                item.sidecar_path.unlink(missing_ok=True)

    def _columns(self, item: _Item, content: ScanContent) -> _Columns:
        """Keep the planes; return them with the columns that come from reading."""
        kept = self.run.store.put_content(PLANES_PREFIX, encode_planes(content.planes, content.bits), ".tiff", is_lazy=True)
        step("intake.after_planes")
        site = delivered_site(item.landing_key)
        return kept, measurement(content, kept.key, delivered_site=site, sidecar_sha256=item.sidecar_sha256)

    def _add_identity(self, content: ScanContent) -> None:
        for table, row in identity_rows(content).items():
            self.rows.add(table, row)

    def _add_scan(self, item: _Item, content: ScanContent, columns: Future[_Columns]) -> None:
        kept, row = columns.result()
        self.run.add_output(kept)
        self._add_identity(content)
        self.rows.add("scans", {"scan_id": item.sha256, "raw_key": raw_key(item.sha256), **row})

    def _read_again(self, item: _Item, content: Kept, outcome: ScanContent | ScanRefused) -> None:
        """A content from quarantine: back there with the reason of today, or into the catalog."""
        self.counts["reread"] += 1
        was = {"table": "quarantine", "key": {"quarantine_id": item.sha256}, "expect": {"state": content.state}}
        if isinstance(outcome, ScanRefused):
            held = {"state": "held", "reason_code": outcome.reason_code, "reason": outcome.message}
            self.changes.append({**was, "set": held, "action": "content.quarantined"})
            return
        if content.state == "held":
            self.changes.append({**was, "set": {"state": "released"}, "action": "content.released"})
        kept, columns = self._columns(item, outcome)
        self.run.add_output(kept)
        self._add_identity(outcome)
        if content.stage == "intake":
            self.rows.add("scans", {"scan_id": item.sha256, "raw_key": raw_key(item.sha256), **columns})
        else:
            scan = {"table": "scans", "key": {"scan_id": item.sha256}, "expect": {"state": "quarantined"}}
            self.changes.append({**scan, "set": columns, "action": "scan.received"})
        for index, identity in enumerate(deliveries_of(self.run.catalog, item.sha256)):
            changed = {"outcome": "duplicate" if index else "scan", "scan_id": item.sha256, "quarantine_id": None}
            delivery = {"table": "deliveries", "key": {"delivery_id": identity}, "expect": {"outcome": "quarantined"}}
            self.changes.append({**delivery, "set": changed, "action": "delivery.read_again"})
        self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}

    def _add_deliveries(self, item: _Item, known: Known, *, is_first: bool) -> None:
        """The ledger's lines for one delivery and its sidecar."""
        site, decided = delivered_site(item.landing_key), self.decided.get(item.sha256)
        if known.is_scan or (decided is not None and decided["outcome"] == "scan"):
            outcome: dict[str, str | None] = {"outcome": "scan" if is_first and not known.is_scan else "duplicate", "scan_id": item.sha256}
        else:
            outcome = {"outcome": "quarantined", "quarantine_id": item.sha256}
        lines = [(item.sidecar, item.sidecar_sha256, {**outcome, "outcome": "sidecar"})]
        if item.file is not None:
            lines.append((item.file, item.sha256, outcome))
            self.counts[{"scan": "scans", "duplicate": "duplicates", "quarantined": "quarantined"}[str(outcome["outcome"])]] += 1
        for found, sha256, what in lines:
            if found is not None and sha256 is not None:
                self.counts["sidecars"] += what["outcome"] == "sidecar"
                self.rows.add("deliveries", delivery_row(delivery_id(self.landing, found), found.key, site, found.size_bytes, sha256, what))
