"""Receive one shard of the landing zone: keep the bytes first, then read them, then say what became of them."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from scanloop.errors import ObjectNotFound
from scanloop.execution import JobRun
from scanloop.intake.landing import Delivery, Shard, delivered_site, delivery_id, list_deliveries
from scanloop.intake.ledger import Known, ReleasedContent, deliveries_of, known_contents, known_deliveries, released_contents, sidecar_of
from scanloop.intake.rows import PLANES_PREFIX, RAW_PREFIX, Row, delivery_row, identity_rows, measurement, quarantine_row, raw_key
from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.planes import encode_planes
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.scans.sidecar import SUFFIX
from scanloop.steps import step
from scanloop.store import Store, StoredObject, open_store

T = TypeVar("T")
log = logging.getLogger(__name__)

BATCH = 32
"""Deliveries on local disk at a time."""
MAX_DELIVERIES = 5000
"""One run of a shard receives at most so many; the next run goes on. Bounds time, memory and the receipt."""


_ACTIONS = {
    "sites": ("site.seen", "site_id"),
    "scanners": ("scanner.seen", "scanner_id"),
    "bags": ("bag.seen", "bag_id"),
    "scans": ("scan.received", "scan_id"),
    "quarantine": ("content.quarantined", "quarantine_id"),
    "deliveries": ("delivery.received", "delivery_id"),
}
"""Table to the action in the audit log and the column that names the subject, in the order that foreign keys want."""


@dataclass(frozen=True)
class _Item:
    """One content on local disk, its bytes already in the store."""

    path: Path
    sha256: str
    landing_key: str
    file: StoredObject | None = None
    """Where it lies in the landing zone; None for a content released from quarantine."""
    sidecar: StoredObject | None = None
    """Where its sidecar lies in the landing zone."""
    sidecar_path: Path | None = None
    sidecar_sha256: str | None = None
    stage: str = ""
    """For a released content: what had refused it."""


@dataclass
class _Batch:
    """Rows of one batch, by table."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in _ACTIONS})

    def publish(self, run: JobRun) -> None:
        for table, rows in self.rows.items():
            action, subject = _ACTIONS[table]
            run.publication.insert(table, rows, action=action, subject=subject)


def ingest_shard(run: JobRun, shard: Shard) -> dict[str, Any]:
    """Receive every new delivery of `shard`, and read again what was released from quarantine.

    The result counts deliveries by outcome; `left` says that a later run has to go on.
    """
    return _ShardIngest(run, shard).all()


class _ShardIngest:
    def __init__(self, run: JobRun, shard: Shard) -> None:
        self.run, self.shard = run, shard
        self.landing: Store = open_store(run.settings.landing_url)
        self.counts: Counter[str] = Counter()
        self.decided: dict[str, dict[str, str | None]] = {}
        """Content to what this run decided about it."""
        self.folder = run.workdir / "received"

    def all(self) -> dict[str, Any]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        new = self._new_deliveries()
        with Sandbox(self.folder) as sandbox:
            for released in _batches(released_contents(self.run.catalog, self.shard), BATCH):
                self._receive(sandbox, [self._fetch_released(content, index) for index, content in enumerate(released)])
            received = 0
            while received < MAX_DELIVERIES and (deliveries := list(islice(new, BATCH))):
                items = [self._fetch(delivery, index) for index, delivery in enumerate(deliveries)]
                self._receive(sandbox, [item for item in items if item is not None])
                received += len(deliveries)
                log.info("Shard %s: %d deliveries received.", self.shard, received)
        left = next(new, None) is not None
        outcomes = {name: self.counts[name] for name in ("scans", "duplicates", "quarantined", "sidecars", "reread")}
        return {**outcomes, "deliveries": received, "left": left, "shard": str(self.shard)}

    def _new_deliveries(self) -> Iterator[Delivery]:
        for deliveries, _ in list_deliveries(self.landing, self.shard):
            for part in _batches(deliveries, 500):
                ids = {delivery_id(self.landing, delivery.file): delivery for delivery in part}
                known = known_deliveries(self.run.catalog, list(ids))
                yield from (delivery for identity, delivery in ids.items() if identity not in known)

    def _keep(self, store: Store, found: StoredObject, path: Path) -> str:
        """Bring an object to `path` and into the store under its own digest; return the digest."""
        store.download(found.key, path)
        kept = self.run.store.put_content(RAW_PREFIX, path)
        step("intake.after_raw")
        self.run.add_output(kept)
        assert kept.sha256 is not None
        return kept.sha256

    def _fetch(self, delivery: Delivery, index: int) -> _Item | None:
        """Keep the bytes of one delivery. None if it went away since it was listed."""
        path = self.folder / f"{index:04d}"
        try:
            sha256 = self._keep(self.landing, delivery.file, path)
            if delivery.sidecar is None:
                return _Item(path, sha256, delivery.file.key, delivery.file)
            sidecar_path = path.with_suffix(".sidecar")
            sidecar_sha256 = self._keep(self.landing, delivery.sidecar, sidecar_path)
        except ObjectNotFound:
            log.warning("%s went away while it was being received.", self.landing.uri(delivery.file.key))
            return None
        return _Item(path, sha256, delivery.file.key, delivery.file, delivery.sidecar, sidecar_path, sidecar_sha256)

    def _fetch_released(self, content: ReleasedContent, index: int) -> _Item:
        """Bring back a released content with the newest sidecar: one that came to the landing zone since, or the one that was received."""
        path = self.run.store.download(content.raw_key, self.folder / f"{index:04d}")
        sidecar_key, sidecar_path = content.landing_key + SUFFIX, path.with_suffix(".sidecar")
        newer = self.landing.head(sidecar_key)
        if newer is not None:
            sha256 = self._keep(self.landing, newer, sidecar_path)
            return _Item(path, content.sha256, content.landing_key, None, newer, sidecar_path, sha256, content.stage)
        received = sidecar_of(self.run.catalog, sidecar_key)
        if received is None:
            return _Item(path, content.sha256, content.landing_key, stage=content.stage)
        self.run.store.download(raw_key(received), sidecar_path)
        return _Item(path, content.sha256, content.landing_key, None, None, sidecar_path, received, content.stage)

    def _receive(self, sandbox: Sandbox, items: list[_Item]) -> None:
        """Read what is new among the contents of one batch, and put down what became of each delivery."""
        known = known_contents(self.run.catalog, sorted({item.sha256 for item in items}))
        unread: dict[str, _Item] = {}
        for item in items:
            if item.stage or not (known[item.sha256].is_scan or known[item.sha256].is_held or item.sha256 in self.decided):
                unread.setdefault(item.sha256, item)
        batch = _Batch()
        outcomes = sandbox.read_all(Received(item.path, item.sidecar_path) for item in unread.values())
        first_of: dict[str, _Item] = {}
        for item, outcome in zip(unread.values(), outcomes, strict=True):
            first_of[item.sha256] = item
            if item.stage:
                self._read_again(batch, item, outcome)
            elif isinstance(outcome, ScanRefused):
                log.warning("%s goes to quarantine: %s (%s)", item.sha256[:12], outcome.message, outcome.reason_code)
                batch.rows["quarantine"].append(quarantine_row(item.sha256, outcome, item.landing_key, delivered_site(item.landing_key)))
                self.decided[item.sha256] = {"outcome": "quarantined", "quarantine_id": item.sha256}
            else:
                self._add_scan(batch, item, outcome)
                self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}
        for item in items:
            self._add_deliveries(batch, item, known[item.sha256], is_first=first_of.get(item.sha256) is item)
        batch.publish(self.run)
        for item in items:
            item.path.unlink(missing_ok=True)
            if item.sidecar_path is not None:
                item.sidecar_path.unlink(missing_ok=True)

    def _columns(self, item: _Item, content: ScanContent) -> Row:
        """Keep the planes; return the columns that come from reading."""
        kept = self.run.store.put_content(PLANES_PREFIX, encode_planes(content.planes, content.bits), ".tiff")
        step("intake.after_planes")
        self.run.add_output(kept)
        site = delivered_site(item.landing_key)
        return measurement(content, kept.key, delivered_site=site, sidecar_sha256=item.sidecar_sha256)

    def _add_scan(self, batch: _Batch, item: _Item, content: ScanContent) -> None:
        columns = self._columns(item, content)
        for table, row in identity_rows(content).items():
            batch.rows[table].append(row)
        batch.rows["scans"].append({"scan_id": item.sha256, "raw_key": raw_key(item.sha256), **columns})

    def _read_again(self, batch: _Batch, item: _Item, outcome: ScanContent | ScanRefused) -> None:
        """A released content: back into quarantine with the reason of today, or into the catalog."""
        self.counts["reread"] += 1
        publication = self.run.publication
        if isinstance(outcome, ScanRefused):
            held = {"state": "held", "reason_code": outcome.reason_code, "reason": outcome.message}
            publication.update(
                "quarantine", key={"quarantine_id": item.sha256}, expect={"state": "released"}, set=held, action="content.quarantined"
            )
            return
        if item.stage == "intake":
            self._add_scan(batch, item, outcome)
        else:
            columns = self._columns(item, outcome)
            for table, row in identity_rows(outcome).items():
                self.run.publication.insert(table, [row], action=_ACTIONS[table][0], subject=_ACTIONS[table][1])
            publication.update("scans", key={"scan_id": item.sha256}, expect={"state": "quarantined"}, set=columns, action="scan.received")
        for index, identity in enumerate(deliveries_of(self.run.catalog, item.sha256)):
            changed = {"outcome": "duplicate" if index else "scan", "scan_id": item.sha256, "quarantine_id": None}
            publication.update(
                "deliveries", key={"delivery_id": identity}, expect={"outcome": "quarantined"}, set=changed, action="delivery.read_again"
            )
        self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}

    def _add_deliveries(self, batch: _Batch, item: _Item, known: Known, *, is_first: bool) -> None:
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
                batch.rows["deliveries"].append(
                    delivery_row(delivery_id(self.landing, found), found.key, site, found.size_bytes, sha256, what)
                )


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
