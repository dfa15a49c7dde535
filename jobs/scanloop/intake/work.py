"""What one run has to do, found once by its plan and kept in the store for its shards: one list a shard, in the order that is fair."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import zstandard

from scanloop.errors import DataWrong
from scanloop.execution.receipts import Receipt, load_receipt, receipt_key
from scanloop.intake.landing import Delivery, scanner_folder
from scanloop.store import Store, StoredObject

PREFIX = "intake/work"
SUFFIX = ".jsonl.zst"
PLAN_JOB = "ingest.plan"


@dataclass(frozen=True)
class Kept:
    """A content in quarantine that has to be read again."""

    sha256: str
    """Its SHA-256, which is also its quarantine id."""
    raw_key: str
    """Where its bytes are kept."""
    landing_key: str
    """Where it was first delivered."""
    stage: str
    """What had refused it: intake or validation."""
    state: str
    """released, or held where its sidecar has come since."""


@dataclass(frozen=True)
class Work:
    """One thing to do: a delivery to be received, or a content to be read again."""

    delivery: Delivery | None = None
    """What lies in the landing zone."""
    kept: Kept | None = None
    """What lies in quarantine."""

    @property
    def landing_key(self) -> str:
        """Where it was delivered."""
        if self.delivery is not None:
            return self.delivery.file.key
        assert self.kept is not None
        return self.kept.landing_key

    @property
    def scanner(self) -> str:
        """Whose turn it is."""
        return scanner_folder(self.landing_key)


def _as_list(found: StoredObject | None) -> list[Any] | None:
    return [found.key, found.size_bytes, found.etag, found.modified_at.isoformat()] if found else None


def _as_object(value: list[Any] | None) -> StoredObject | None:
    return StoredObject(value[0], value[1], value[2], datetime.fromisoformat(value[3])) if value else None


def encode_work(items: Iterable[Work]) -> bytes:
    """Deterministic bytes: JSON lines, zstd."""
    lines = []
    for item in items:
        if item.delivery is not None:
            lines.append(json.dumps({"file": _as_list(item.delivery.file), "sidecar": _as_list(item.delivery.sidecar)}))
        elif item.kept is not None:
            lines.append(json.dumps({"kept": vars(item.kept)}, sort_keys=True))
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress("\n".join(lines).encode())


def decode_work(content: bytes) -> Iterator[Work]:
    """The inverse of `encode_work`, item by item. Raises DataWrong."""
    try:
        with (
            zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)) as stream,
            io.TextIOWrapper(stream, "utf-8", newline="\n") as lines,
        ):
            for line in lines:
                found = json.loads(line)
                if "kept" in found:
                    yield Work(kept=Kept(**found["kept"]))
                else:
                    file = _as_object(found["file"])
                    assert file is not None
                    yield Work(Delivery(file, _as_object(found["sidecar"])))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise DataWrong(f"Not a list of work: {error}.") from None


def plan_of(store: Store, run_id: str) -> Receipt | None:
    """The receipt of this run's plan, or None if it made none."""
    return load_receipt(store, receipt_key(run_id, PLAN_JOB))
