"""Pictures of a set become scans as delivered ones do: kept under their digest, read in the sandbox, scans, duplicates or quarantine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scanloop.execution import JobRun
from scanloop.imports.entries import Entry
from scanloop.imports.layout import SetFolder
from scanloop.imports.source import Source
from scanloop.intake.ledger import known_deliveries
from scanloop.intake.receive import Item, Receiver
from scanloop.intake.rows import RAW_PREFIX
from scanloop.scans.content import clean_text
from scanloop.scans.sidecar import SUFFIX
from scanloop.steps import step
from scanloop.store import StoredObject
from scanloop.store.base import sha256_of

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Files of a set have no time of delivery that would say anything."""


def ledger_key(dataset: str, path: str) -> str:
    """What the ledger calls a picture: dataset and path, whatever machine and folder it was imported from; odd names cleaned, but never two alike."""
    key = f"{dataset}/{path}"
    cleaned = "/".join(clean_text(part) for part in key.split("/"))
    return key if cleaned == key else f"{dataset}/{hashlib.sha256(path.encode()).hexdigest()[:12]}-{cleaned.rpartition('/')[2]}"


class ImportReceiver(Receiver[Entry]):
    """Receives entries of one set."""

    def __init__(self, run: JobRun, source: Source, folder: SetFolder, on_done: Callable[[], None]) -> None:
        super().__init__(run, f"Import of {source.dataset}")
        self.source, self.set_folder, self.on_done = source, folder, on_done
        self.gone: dict[str, tuple[str, str, str]] = {}
        """Pictures that were missing or had changed: what kind of problem, what was expected, what was found."""

    def receive(self, entries: Sequence[Entry]) -> None:
        """Receive every entry whose picture the ledger does not have."""
        ids = {self._identity(self._file(entry)): entry for entry in entries}
        known = known_deliveries(self.run.catalog, list(ids))
        for _ in known:
            self.on_done()
        self._receive_all([entry for identity, entry in ids.items() if identity not in known])

    def quarantined(self, entry: Entry) -> str | None:
        """Why this chunk put an entry's picture into quarantine; None if it did not."""
        row = self.rows.rows["quarantine"].get(entry.sha256)
        return f"{row['reason_code']}: {row['reason']}" if row else None

    def _file(self, entry: Entry) -> StoredObject:
        return StoredObject(ledger_key(self.source.dataset, entry.path), entry.size_bytes, entry.sha256, _NO_TIME, entry.sha256)

    def _identity(self, found: StoredObject) -> str:
        return hashlib.sha256(f"import:{found.key}|{found.etag}|{found.size_bytes}".encode()).hexdigest()

    def _fetch(self, wanted: Entry, name: str) -> Item | None:
        path = self.folder / name
        try:
            shutil.copyfile(self.set_folder.file(wanted.path), path)
        except OSError as error:
            self.gone[wanted.path] = ("picture_missing", "the file that was there", error.strerror or type(error).__name__)
            return None
        if sha256_of(path)[0] != wanted.sha256:
            self.gone[wanted.path] = ("picture_changed", f"the SHA-256 {wanted.sha256[:12]}", "another one")
            path.unlink()
            return None
        sidecar_path = path.with_suffix(".sidecar")
        content = self.source.sidecar(wanted)
        sidecar_path.write_bytes(content)
        kept = [self._keep(found) for found in (path, sidecar_path)]
        file, digest = self._file(wanted), str(kept[1].sha256)
        sidecar = StoredObject(file.key + SUFFIX, len(content), digest, _NO_TIME, digest)
        self.on_done()
        return Item(path, wanted.sha256, file.key, kept, file, sidecar, sidecar_path, digest)

    def _keep(self, path: Path) -> StoredObject:
        kept = self.run.store.put_content(RAW_PREFIX, path, is_given=True, is_lazy=True)
        step("imports.after_raw")
        return kept
