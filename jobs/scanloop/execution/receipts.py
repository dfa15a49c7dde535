"""Completion receipts: the one act that makes a job's result count.

A receipt is written to the store once, conditionally. Whoever finds it knows what the job read, what it wrote and under which hashes, and which
publication the catalog owes to it. Nothing becomes ready, passed, promoted or released without one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from scanloop.errors import DataWrong
from scanloop.store import Store


@dataclass(frozen=True)
class Receipt:
    """What one job run did."""

    run_id: str
    """The run, as Airflow or a person named it."""
    job: str
    """Name of the job, `room.verb`."""
    part: str
    """Which part of a job that was split, empty otherwise."""
    attempt: int
    """Which attempt wrote it."""
    actor: str
    """Who asked."""
    product_line: str | None
    """Key of the run, where it has one."""
    fence: int | None
    """Fence of the lease it was written under."""
    arguments: dict[str, Any]
    """The job's arguments."""
    consumed: list[str]
    """Runs whose results started this one."""
    inputs: list[dict[str, str]]
    """What was read: `{kind, id}`."""
    outputs: list[dict[str, Any]]
    """What was written to the store: `{key, sha256, size_bytes}`."""
    publication: dict[str, str]
    """The changes owed to the catalog: `{key, sha256}`."""
    result: dict[str, Any]
    """Counts, ids and URIs, small."""
    audit_head: dict[str, Any]
    """The audit log's end as it was before: `{seq, hash}`; an anchor outside the database."""
    scanloop_version: str
    """Version of this package."""
    finished_at: str
    """UTC, ISO 8601."""
    format: int = field(default=1)
    """Version of this layout."""


def folder_name(run_id: str) -> str:
    """A run id as one path component. Injective: different runs never share a folder."""
    return quote(run_id, safe="-_.~+")


def receipt_key(run_id: str, job: str, part: str = "") -> str:
    """Where the receipt of one job run lies."""
    return f"receipts/{folder_name(run_id)}/{job}{'.' + folder_name(part) if part else ''}.json"


def encode(receipt: Receipt) -> bytes:
    """Canonical bytes."""
    return json.dumps(asdict(receipt), sort_keys=True, indent=1).encode()


def load_receipt(store: Store, key: str) -> Receipt | None:
    """The receipt under `key`, or None. Raises DataWrong if what lies there is no receipt."""
    found = load_with_hash(store, key)
    return found[0] if found else None


def load_with_hash(store: Store, key: str) -> tuple[Receipt, str] | None:
    """The receipt under `key` with its SHA-256, or None. Raises DataWrong if what lies there is no receipt."""
    if store.head(key) is None:
        return None
    content = store.get(key)
    try:
        return Receipt(**json.loads(content)), hashlib.sha256(content).hexdigest()
    except (ValueError, TypeError) as error:
        raise DataWrong(f"{store.uri(key)} is not a receipt: {error}.") from None
