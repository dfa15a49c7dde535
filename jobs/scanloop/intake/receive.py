"""What becomes of deliveries, wherever they come from: keep the bytes first, then read them, then say what each one is."""

from __future__ import annotations

import logging
import shutil
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from scanloop.allocator import give_back_freed_memory, keep_freed_memory
from scanloop.execution import JobRun
from scanloop.intake.landing import delivered_site
from scanloop.intake.ledger import Known, deliveries_of, known_contents
from scanloop.intake.poll import batched
from scanloop.intake.reports import category_names, keep_masks, report_row
from scanloop.intake.rows import PLANES_PREFIX, Row, delivery_row, identity_rows, measurement, quarantine_row, raw_key
from scanloop.intake.work import Kept
from scanloop.scans.content import ScanContent
from scanloop.scans.decoder_rooms import open_reader
from scanloop.scans.decoders import chosen_decoders
from scanloop.scans.errors import ScanRefused
from scanloop.scans.planes import encode_planes
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.scans.threat_report import Content, ReportContent
from scanloop.steps import step
from scanloop.store import StoredObject

log = logging.getLogger(__name__)

BATCH = 32
"""Deliveries on local disk at a time, twice: one batch is brought while the one before is read."""
FETCHERS = 4
"""Objects brought at the same time: a store over HTTP answers each after a while."""
KEEPERS = 2
"""Scans whose planes are compressed and kept at the same time."""


_ACTIONS = {
    "sites": ("site.seen", "site_id"),
    "scanners": ("scanner.seen", "scanner_id"),
    "bags": ("bag.seen", "bag_id"),
    "scans": ("scan.received", "scan_id"),
    "threat_reports": ("report.received", "report_id"),
    "quarantine": ("content.quarantined", "quarantine_id"),
    "deliveries": ("delivery.received", "delivery_id"),
}
"""Table to the action in the audit log and the column that names the subject, in the order that foreign keys want."""
OUTCOMES = ("scans", "reports", "duplicates", "quarantined", "sidecars", "reread")
"""What deliveries are counted as."""

_COUNTED = {"scan": "scans", "report": "reports", "duplicate": "duplicates", "quarantined": "quarantined"}
"""Outcome of a delivery to its name in results."""

Wanted = TypeVar("Wanted")
_Columns = tuple[StoredObject, Row]


@dataclass(frozen=True)
class Item:
    """One content on local disk, its bytes already in the store."""

    path: Path
    sha256: str
    landing_key: str
    kept: list[StoredObject]
    """What was put into the store for it."""
    file: StoredObject | None = None
    """Where it lies at its source; None for a content released from quarantine."""
    sidecar: StoredObject | None = None
    """Where its sidecar lies at its source."""
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


class Receiver(ABC, Generic[Wanted]):
    """Receives the deliveries of one source in one publication; the source says how to bring one and what identifies it."""

    def __init__(self, run: JobRun, name: str) -> None:
        self.run, self.name = run, name
        self.counts: Counter[str] = Counter()
        self.rows = _Rows()
        self.decided: dict[str, dict[str, str | None]] = {}
        """Content to what this chunk decided about it."""
        self.changes: list[dict[str, Any]] = []
        """Updates of rows that are there, after all that is new."""
        self.read_again: set[str] = set()
        """Contents from quarantine that this chunk has read."""
        self.folder = run.workdir / "received"

    @abstractmethod
    def _fetch(self, wanted: Wanted, name: str) -> Item | None:
        """Bring one delivery to `self.folder / name` and its bytes into the store. None if it went away since it was found."""

    @abstractmethod
    def _identity(self, found: StoredObject) -> str:
        """The id of the delivery of an object."""

    def _receive_all(self, work: Sequence[Wanted]) -> None:
        """Bring one batch while the one before is read; then describe what is to change in the catalog."""
        keep_freed_memory()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        reader = open_reader(self.folder, decoders=chosen_decoders(self.run.settings))
        with reader as sandbox, ThreadPoolExecutor(FETCHERS, "fetch") as pool, ThreadPoolExecutor(KEEPERS, "keep") as keepers:
            coming: list[Future[Item | None]] = []
            for number, batch in enumerate((*batched(work, BATCH), [])):
                arrived = [future.result() for future in coming]
                coming = [pool.submit(self._fetch, wanted, f"{number:04d}-{index:02d}") for index, wanted in enumerate(batch)]
                items = [item for item in arrived if item is not None]
                if items:
                    self._receive(sandbox, keepers, items)
                if batch and number:
                    log.info("%s: %d of %d deliveries received.", self.name, number * BATCH, len(work))
        give_back_freed_memory()
        self.rows.publish(self.run)
        for change in self.changes:
            self.run.publication.update(**change)

    def _receive(self, sandbox: Sandbox, keepers: ThreadPoolExecutor, items: list[Item]) -> None:
        """Read what is new among the contents of one batch, and put down what became of each delivery."""
        for stored in (stored for item in items for stored in item.kept):
            self.run.add_output(stored)
        known = known_contents(self.run.catalog, sorted({item.sha256 for item in items}))
        unread: dict[str, Item] = {}
        for item in items:
            if self._is_unread(item, known[item.sha256]):
                unread.setdefault(item.sha256, item)
        outcomes = sandbox.read_all(Received(item.path, item.sidecar_path) for item in unread.values())
        first_of: dict[str, Item] = {}
        keeping: deque[tuple[Item, ScanContent, Future[_Columns]]] = deque()
        for item, outcome in zip(unread.values(), outcomes, strict=True):
            first_of[item.sha256] = item
            if item.again is not None:
                self._read_again(item, item.again, outcome)
            elif isinstance(outcome, ScanRefused):
                log.warning("%s goes to quarantine: %s (%s)", item.sha256[:12], outcome.message, outcome.reason_code)
                self.rows.add("quarantine", quarantine_row(item.sha256, outcome, item.landing_key, delivered_site(item.landing_key)))
                self.decided[item.sha256] = {"outcome": "quarantined", "quarantine_id": item.sha256}
            elif isinstance(outcome, ReportContent):
                self._add_report(item, outcome)
            else:
                # Compressing and storing let go of the interpreter: the reader's next answer is taken meanwhile.
                while len(keeping) >= KEEPERS:
                    self._add_scan(*keeping.popleft())
                keeping.append((item, outcome, keepers.submit(self._columns, item, outcome)))
                self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}
        for one in keeping:
            self._add_scan(*one)
        for item in items:
            self._add_deliveries(item, known[item.sha256], is_first=item.again is None and first_of.get(item.sha256) is item)
        for item in items:
            item.path.unlink(missing_ok=True)
            if item.sidecar_path is not None:
                item.sidecar_path.unlink(missing_ok=True)

    def _is_unread(self, item: Item, known: Known) -> bool:
        if item.again is None:
            return not (known.is_read or known.is_held or item.sha256 in self.decided)
        # A delivery with a new sidecar may have had it read already, in this chunk or the one before.
        return item.sha256 not in self.read_again and not (item.again.state == "held" and known.is_read)

    def _columns(self, item: Item, content: ScanContent) -> _Columns:
        """Keep the planes; return them with the columns that come from reading."""
        kept = self.run.store.put_content(PLANES_PREFIX, encode_planes(content.planes, content.bits), ".tiff", is_lazy=True)
        step("intake.after_planes")
        site = delivered_site(item.landing_key)
        return kept, measurement(content, kept.key, delivered_site=site, sidecar_sha256=item.sidecar_sha256)

    def _add_identity(self, content: ScanContent) -> None:
        for table, row in identity_rows(content).items():
            self.rows.add(table, row)

    def _add_scan(self, item: Item, content: ScanContent, columns: Future[_Columns]) -> None:
        kept, row = columns.result()
        self.run.add_output(kept)
        self._add_identity(content)
        self.rows.add("scans", {"scan_id": item.sha256, "raw_key": raw_key(item.sha256), **row})

    def _add_report(self, item: Item, content: ReportContent) -> None:
        masks = keep_masks(self.run.store, content)
        step("intake.after_masks")
        for stored in masks:
            self.run.add_output(stored)
        site, keys = delivered_site(item.landing_key), [stored.key for stored in masks]
        row = report_row(item.sha256, raw_key(item.sha256), content, keys, delivered=site, known_names=self._category_names)
        self.rows.add("threat_reports", row)
        self.decided[item.sha256] = {"outcome": "report", "report_id": item.sha256}

    @cached_property
    def _category_names(self) -> frozenset[str]:
        return category_names(self.run.catalog)

    def _read_again(self, item: Item, content: Kept, outcome: Content | ScanRefused) -> None:
        """A content from quarantine: back there with the reason of today, or into the catalog."""
        self.counts["reread"] += 1
        self.read_again.add(item.sha256)
        was = {"table": "quarantine", "key": {"quarantine_id": item.sha256}, "expect": {"state": content.state}}
        if isinstance(outcome, ScanRefused):
            held = {"state": "held", "reason_code": outcome.reason_code, "reason": outcome.message}
            self.changes.append({**was, "set": held, "action": "content.quarantined"})
            return
        if content.state == "held":
            self.changes.append({**was, "set": {"state": "released"}, "action": "content.released"})
        if isinstance(outcome, ReportContent):
            self._add_report(item, outcome)
            self._deliver_again(item, {"outcome": "report", "report_id": item.sha256})
            return
        kept, columns = self._columns(item, outcome)
        self.run.add_output(kept)
        self._add_identity(outcome)
        if content.stage == "intake":
            self.rows.add("scans", {"scan_id": item.sha256, "raw_key": raw_key(item.sha256), **columns})
        else:
            scan = {"table": "scans", "key": {"scan_id": item.sha256}, "expect": {"state": "quarantined"}}
            self.changes.append({**scan, "set": columns, "action": "scan.received"})
        self.decided[item.sha256] = {"outcome": "scan", "scan_id": item.sha256}
        self._deliver_again(item, {"outcome": "scan", "scan_id": item.sha256})

    def _deliver_again(self, item: Item, outcome: dict[str, str]) -> None:
        """Say of every delivery of a content from quarantine what it became: the first is its own, the others are duplicates."""
        for index, identity in enumerate(deliveries_of(self.run.catalog, item.sha256)):
            changed = {**outcome, "quarantine_id": None} | ({"outcome": "duplicate"} if index else {})
            delivery = {"table": "deliveries", "key": {"delivery_id": identity}, "expect": {"outcome": "quarantined"}}
            self.changes.append({**delivery, "set": changed, "action": "delivery.read_again"})

    def _add_deliveries(self, item: Item, known: Known, *, is_first: bool) -> None:
        """The ledger's lines for one delivery and its sidecar."""
        site, decided = delivered_site(item.landing_key), self.decided.get(item.sha256, {}).get("outcome")
        outcome: dict[str, str | None] = {"outcome": "quarantined", "quarantine_id": item.sha256}
        for kind, is_known in (("scan", known.is_scan), ("report", known.is_report)):
            if is_known or decided == kind:
                outcome = {"outcome": kind if is_first and not is_known else "duplicate", f"{kind}_id": item.sha256}
        lines = [(item.sidecar, item.sidecar_sha256, {**outcome, "outcome": "sidecar"})]
        if item.file is not None:
            lines.append((item.file, item.sha256, outcome))
            self.counts[_COUNTED[str(outcome["outcome"])]] += 1
        for found, sha256, what in lines:
            if found is not None and sha256 is not None:
                self.counts["sidecars"] += what["outcome"] == "sidecar"
                self.rows.add("deliveries", delivery_row(self._identity(found), found.key, site, found.size_bytes, sha256, what))
