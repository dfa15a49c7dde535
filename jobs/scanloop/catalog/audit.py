"""The audit log: append-only, each entry chained to the one before by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa

from scanloop.allocator import collection_paused
from scanloop.catalog.copying import copy_rows
from scanloop.catalog.tables import audit_head, audit_log

GENESIS = "0" * 64
"""The hash before the first entry."""


@dataclass(frozen=True)
class Entry:
    """One change of state."""

    actor: str
    """Who asked for it: a person, or the DAG that ran."""
    action: str
    """What happened, as `noun.verb`."""
    subject_kind: str
    """The table of what changed."""
    subject_id: str
    """The key of what changed."""
    run_id: str
    """The run whose receipt vouches for it."""
    details: Mapping[str, Any]
    """What changed to what; small."""


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_ENCODE_PLAIN = msgspec.json.Encoder(order="sorted").encode
_NAMES = ("actor", "action", "subject_kind", "subject_id", "run_id")
_COLUMNS = (*_NAMES, "details", "seq", "at", "previous_hash", "hash")
BATCH = 5000
"""Entries in memory at a time."""


def entry_hash(seq: int, at: datetime, entry: Mapping[str, Any], previous_hash: str) -> str:
    """The hash of one entry over everything in it and the hash before it.

    Source: hash chains as in Haber and Stornetta, "How to time-stamp a digital document", 1991.
    """
    said_at = at.astimezone(UTC).isoformat(timespec="microseconds")
    details = dict(entry["details"])
    return _hash((seq, said_at, previous_hash, *(entry[name] for name in _NAMES), details), is_plain=_is_plain(details))


def _is_plain(details: Mapping[str, Any]) -> bool:
    """Whether details hold texts only, as most do."""
    return all(type(value) is str for value in details.values())


def _hash(content: tuple[Any, ...], *, is_plain: bool) -> str:
    """`content` is a number, texts, and the details. Both encoders write the same bytes where there is no float; the fast one takes most entries."""
    return hashlib.sha256(_ENCODE_PLAIN(content) if is_plain else _ENCODE(content).encode()).hexdigest()


def hold_head(connection: sa.Connection) -> None:
    """Make every other writer of the log wait until this transaction ends; taken first, it keeps writers from deadlocks."""
    connection.execute(sa.select(audit_head.c.seq).with_for_update()).one()


def _as_postgres(text: str) -> float | int:
    """A number as it comes back from JSONB, which keeps numerics: no negative zero, and no exponent, so 1e+20 comes back whole."""
    number = float(text) + 0.0
    return number if "e" not in repr(number) or not number.is_integer() else int(Decimal(repr(number)))


def append(connection: sa.Connection, entries: Iterable[Entry]) -> tuple[int, str]:
    """Append `entries` in the caller's transaction, holding the chain's head until it ends. Returns the new head (seq, hash).

    `entries` may make changes in the same transaction as it goes.
    """
    head = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash).with_for_update()).one()
    seq, previous = first, _ = int(head.seq), str(head.hash)
    at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    said_at = at.astimezone(UTC).isoformat(timespec="microseconds")
    source = iter(entries)
    with collection_paused():
        while batch := list(islice(source, BATCH)):
            rows = []
            for entry in batch:
                seq += 1
                details = entry.details
                if not (is_plain := _is_plain(details)):
                    details = _stored(details)
                content = (seq, said_at, previous, entry.actor, entry.action, entry.subject_kind, entry.subject_id, entry.run_id, details)
                digest = _hash(content, is_plain=is_plain)
                rows.append((*content[3:], seq, said_at, previous, digest))
                previous = digest
            copy_rows(connection, f"COPY {audit_log.name} ({', '.join(_COLUMNS)}) FROM STDIN", audit_log, _COLUMNS, rows)
    if seq != first:
        connection.execute(sa.update(audit_head).values(seq=seq, hash=previous))
    return seq, previous


def _stored(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details as PostgreSQL gives them back."""
    stored: dict[str, Any] = json.loads(json.dumps(dict(details), default=str), parse_float=_as_postgres)
    return stored


def head(connection: sa.Connection) -> tuple[int, str]:
    """The last entry's number and hash."""
    row = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).one()
    return int(row.seq), str(row.hash)


def violations(connection: sa.Connection, anchors: Mapping[int, str] | None = None) -> Iterator[str]:
    """What is wrong with the log, one sentence each: a gap, an edit, a reorder, a truncation, or a fork.

    `anchors` are heads (seq, hash) that receipts outside the database remember. A log that was cut or rewritten as a whole disagrees with them.
    """
    anchors = dict(anchors or {})
    expected_seq, previous = 0, GENESIS
    for row in connection.execute(sa.select(audit_log).order_by(audit_log.c.seq).execution_options(yield_per=5000)).mappings():
        expected_seq += 1
        if row["seq"] != expected_seq:
            yield f"Entry {expected_seq} is missing; {row['seq']} follows {expected_seq - 1}."
            expected_seq = row["seq"]
        if row["previous_hash"] != previous:
            yield f"Entry {row['seq']} does not continue the entry before it."
        if entry_hash(row["seq"], row["at"], dict(row), row["previous_hash"]) != row["hash"]:
            yield f"Entry {row['seq']} ({row['action']} {row['subject_id']}) was changed after it was written."
        previous = row["hash"]
        if anchors.pop(row["seq"], previous) != previous:
            yield f"Entry {row['seq']} differs from what a receipt remembers: the log was rewritten."
    if head(connection) != (expected_seq, previous):
        yield f"The log ends at entry {expected_seq}, its head says {head(connection)[0]}."
    anchors.pop(0, None)
    if anchors:
        yield f"Receipts remember entries up to {max(anchors)}, the log ends at {expected_seq}: it was cut."
