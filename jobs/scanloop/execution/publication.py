"""What a job asks the catalog to change: a document first, one transaction later.

The document is written to the store before the receipt that names it, so the catalog can always be brought level with the receipts, and a job
killed between the two acts loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
import zstandard
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop.catalog import audit
from scanloop.catalog.tables import metadata
from scanloop.errors import DataWrong, Superseded

BATCH_ROWS = 500
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Insert:
    """One row to add, unless its key is there."""

    table: str
    """Name of a table of the catalog."""
    row: dict[str, Any]
    """Columns and values, as JSON."""
    action: str
    """What the audit log calls it, `noun.verb`."""
    subject: str
    """Column, or columns joined by `/`, that name what changed."""


@dataclass(frozen=True)
class Update:
    """One row to change, if it still is as expected."""

    table: str
    """Name of a table of the catalog."""
    key: dict[str, Any]
    """Columns that name the row."""
    expect: dict[str, Any]
    """Columns that must hold these values now."""
    set: dict[str, Any]
    """Columns to change."""
    action: str
    """What the audit log calls it, `noun.verb`."""


class Publication:
    """An ordered list of changes."""

    def __init__(self, changes: Iterable[Insert | Update] = ()) -> None:
        self.changes: list[Insert | Update] = list(changes)

    def insert(self, table: str, rows: Iterable[Row], *, action: str, subject: str) -> None:
        """Add rows; one whose primary key exists is left as it is. `run_id` is filled in."""
        known = metadata.tables[table]
        for row in rows:
            unknown = set(row) - set(known.c.keys())
            if unknown:
                raise ValueError(f"{table} has no column {min(unknown)}")
            self.changes.append(Insert(table, dict(row), action, subject))

    def update(self, table: str, *, key: Row, expect: Row, set: Row, action: str) -> None:  # noqa: A002  SQL's own word
        """Change one row if the columns of `expect` still hold; a row that already holds `set` counts as changed."""
        for column in (*key, *expect, *set):
            metadata.tables[table].c[column]
        self.changes.append(Update(table, dict(key), dict(expect), dict(set), action))

    def encode(self) -> bytes:
        """Deterministic bytes: JSON lines, zstd.

        Raises:
            DataWrong: a value that PostgreSQL never takes (NUL, half a surrogate pair, NaN, infinity), refused before a receipt makes it final.
        """
        lines = [_line(change) for change in self.changes]
        return zstandard.ZstdCompressor(level=3, write_checksum=True).compress("\n".join(lines).encode())

    @classmethod
    def decode(cls, content: bytes) -> Publication:
        """The inverse of `encode`. Raises DataWrong."""
        try:
            text = zstandard.ZstdDecompressor().decompress(content).decode()
            kinds = {"Insert": Insert, "Update": Update}
            return cls(kinds[kind](**change) for line in text.splitlines() for kind, change in json.loads(line).items())
        except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataWrong(f"Not a publication: {error}.") from None


def _line(change: Insert | Update) -> str:
    where = f"{change.action} on {change.table}"
    try:
        line = json.dumps({type(change).__name__: asdict(change)}, sort_keys=True, default=_as_json, allow_nan=False)
    except ValueError as error:
        raise DataWrong(f"{where}: {error}.") from None
    # The two escapes by which JSON can carry what PostgreSQL's text cannot; rare, so the full check is made only where one occurs.
    if ("\\u0000" in line or "\\ud" in line) and not _is_storable(asdict(change)):
        raise DataWrong(f"{where}: a text holds a NUL or half a surrogate pair, which the catalog cannot store.")
    return line


def _is_storable(value: object) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, Mapping):
        return all(_is_storable(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(map(_is_storable, value))
    return True


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong in a publication")


def apply(connection: sa.Connection, publication: Publication, *, run_id: str, actor: str) -> Iterator[audit.Entry]:
    """Make every change in the caller's transaction; yields an audit entry for each row that really changed.

    Raises:
        Superseded: a row is not as an update expects, or another row took a unique place.
    """
    pending = iter(publication.changes)
    change = next(pending, None)
    while change is not None:
        if isinstance(change, Update):
            yield from _update(connection, change, run_id, actor)
            change = next(pending, None)
            continue
        batch, following = _batch(change, pending)
        yield from _insert(connection, batch, run_id, actor)
        change = following


def _batch(first: Insert, pending: Iterator[Insert | Update]) -> tuple[list[Insert], Insert | Update | None]:
    """`first` and the inserts after it that one statement can take; and the change after those."""
    batch = [first]
    for change in islice(pending, BATCH_ROWS):
        if not isinstance(change, Insert) or (change.table, change.row.keys()) != (first.table, first.row.keys()):
            return batch, change
        batch.append(change)
    return batch, next(pending, None)


def _bound(table: sa.Table, values: Row) -> dict[str, Any]:
    """JSON values as the column types want them."""
    return {
        name: datetime.fromisoformat(value) if isinstance(value, str) and isinstance(table.c[name].type, sa.DateTime) else value
        for name, value in values.items()
    }


def _insert(connection: sa.Connection, batch: Sequence[Insert], run_id: str, actor: str) -> Iterator[audit.Entry]:
    table = metadata.tables[batch[0].table]
    keys = list(table.primary_key.columns)
    rows = {tuple(str(change.row[column.name]) for column in keys): change for change in batch}
    values = [{**_bound(table, change.row), "run_id": run_id} for change in rows.values()]
    statement = pg_insert(table).values(values).on_conflict_do_nothing(index_elements=keys).returning(*keys)
    try:
        added = {tuple(str(part) for part in row) for row in connection.execute(statement)}
    except sa.exc.IntegrityError as error:
        said = str(error.orig).strip().splitlines()
        raise Superseded(
            f"A row for {table.name} cannot take its place: {said[0]} {said[-1] if len(said) > 1 else ''}".strip() + "."
        ) from None
    for key, change in rows.items():
        if key in added:
            subject = "/".join(str(change.row[name]) for name in change.subject.split("/"))
            content = json.dumps(change.row, sort_keys=True, default=_as_json).encode()
            digest = {"row_sha256": hashlib.sha256(content).hexdigest()}
            yield audit.Entry(actor, change.action, table.name, subject, run_id, digest)


def _update(connection: sa.Connection, change: Update, run_id: str, actor: str) -> Iterator[audit.Entry]:
    table = metadata.tables[change.table]

    def holds(values: Row) -> list[sa.ColumnElement[bool]]:
        return [table.c[name].is_not_distinct_from(value) for name, value in _bound(table, values).items()]

    changed = connection.execute(
        sa.update(table).where(*holds(change.key), *holds(change.expect)).values(**_bound(table, change.set))
    ).rowcount
    subject = "/".join(str(value) for value in change.key.values())
    if not changed:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).where(*holds(change.key), *holds(change.set))).first():
            return
        raise Superseded(f"{change.action} of {subject}: expected {change.expect}, which no longer holds. Another run came first.")
    yield audit.Entry(actor, change.action, table.name, subject, run_id, {"from": change.expect, "to": change.set})
