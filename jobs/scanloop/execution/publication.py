"""What a job asks the catalog to change: a document first, one transaction later.

The document is written to the store before the receipt that names it, so the catalog can always be brought level with the receipts, and a job
killed between the two acts loses nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec
import sqlalchemy as sa
import zstandard
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop.catalog import audit
from scanloop.catalog.copying import copy_rows
from scanloop.catalog.tables import metadata
from scanloop.errors import DataWrong, Superseded

BATCH_ROWS = 5000
"""Rows in one statement, and in memory, at most."""
COPY_FROM_ROWS = 50
"""From so many rows on, a temporary table costs less than it saves."""
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
    """An ordered list of changes, kept compressed as it grows: a job may publish more rows than fit into its memory."""

    def __init__(self, changes: Iterable[Insert | Update] = ()) -> None:
        self._compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
        self._lines: list[str] = []
        self._parts: list[bytes] = []
        self._is_whole = False
        self.extend(changes)

    def extend(self, changes: Iterable[Insert | Update]) -> None:
        """Add changes as they are. Raises DataWrong as `insert` does."""
        if self._is_whole:
            raise RuntimeError("the publication was encoded already")
        for change in changes:
            self._lines.append(_line(change))
            if len(self._lines) >= BATCH_ROWS:
                self._compress()

    def _compress(self) -> None:
        self._parts.append(self._compressor.compress("".join(self._lines).encode()))
        self._lines.clear()

    def insert(self, table: str, rows: Iterable[Row], *, action: str, subject: str) -> None:
        """Add rows; one whose primary key exists is left as it is. `run_id` is filled in.

        Raises:
            DataWrong: a value that PostgreSQL never takes (NUL, half a surrogate pair, NaN, infinity), refused before a receipt makes it final.
        """
        known = frozenset(metadata.tables[table].c.keys())
        for row in rows:
            if not known.issuperset(row):
                raise ValueError(f"{table} has no column {min(set(row) - known)}")
            self.extend([Insert(table, dict(row), action, subject)])

    def update(self, table: str, *, key: Row, expect: Row, set: Row, action: str) -> None:  # noqa: A002  SQL's own word
        """Change one row if the columns of `expect` still hold; a row that already holds `set` counts as changed. Raises as `insert`."""
        for column in (*key, *expect, *set):
            metadata.tables[table].c[column]
        self.extend([Update(table, dict(key), dict(expect), dict(set), action)])

    def encode(self) -> bytes:
        """Deterministic bytes: JSON lines, zstd. Nothing can be added afterwards."""
        if not self._is_whole:
            self._compress()
            self._parts = [b"".join((*self._parts, self._compressor.flush()))]
            self._is_whole = True
        return self._parts[0]

    @classmethod
    def decode(cls, content: bytes) -> Publication:
        """The inverse of `encode`. What is no publication is found where it is read: see `__iter__`."""
        publication = cls()
        publication._parts, publication._is_whole = [content], True
        return publication

    def __iter__(self) -> Iterator[Insert | Update]:
        """The changes in order, a few in memory at a time. Raises DataWrong where the bytes are no publication."""
        if not self._is_whole:
            self._compress()
            self._parts.append(self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        kinds = {"Insert": Insert, "Update": Update}
        content = io.BytesIO(b"".join(self._parts))
        try:
            if not content.getvalue():
                raise ValueError("it is empty")
            with zstandard.ZstdDecompressor().stream_reader(content) as stream, io.BufferedReader(stream, 1 << 18) as lines:
                for line in lines:
                    for kind, change in _DECODE(line).items():
                        yield kinds[kind](**change)
        except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataWrong(f"Not a publication: {error}.") from None

    @property
    def changes(self) -> list[Insert | Update]:
        """All of them, in memory."""
        return list(self)


def _line(change: Insert | Update) -> str:
    try:
        line = _ENCODE({type(change).__name__: vars(change)})
    except ValueError as error:
        raise DataWrong(f"{change.action} on {change.table}: {error}.") from None
    # The two escapes by which JSON can carry what PostgreSQL's text cannot; rare, so the full check is made only where one occurs.
    if ("\\u0000" in line or "\\ud" in line) and not _is_storable(vars(change)):
        where = f"{change.action} on {change.table}"
        raise DataWrong(f"{where}: a text holds a NUL or half a surrogate pair, which the catalog cannot store.")
    return line + "\n"


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


_DECODE = msgspec.json.Decoder().decode
_CANONICAL = msgspec.json.Encoder(order="sorted").encode
_ENCODE = json.JSONEncoder(sort_keys=True, default=_as_json, allow_nan=False).encode


def apply(connection: sa.Connection, publication: Publication, *, run_id: str, actor: str) -> Iterator[audit.Entry]:
    """Make every change in the caller's transaction; yields an audit entry for each row that really changed.

    Raises:
        Superseded: a row is not as an update expects, or another row took a unique place.
        DataWrong: it is no publication.
    """
    batch: list[Insert | Update] = []
    kind: tuple[Any, ...] = ()
    for change in publication:
        now = _kind(change)
        if batch and (now != kind or len(batch) >= BATCH_ROWS):
            yield from _applied(connection, batch, run_id, actor)
            batch = []
        kind = now
        batch.append(change)
    if batch:
        yield from _applied(connection, batch, run_id, actor)


def _kind(change: Insert | Update) -> tuple[Any, ...]:
    """What changes have in common that one statement can make."""
    if isinstance(change, Insert):
        return (Insert, change.table, change.row.keys())
    return (Update, change.table, change.action, change.key.keys(), change.expect.keys(), change.set.keys())


def _applied(connection: sa.Connection, batch: Sequence[Insert | Update], run_id: str, actor: str) -> Iterator[audit.Entry]:
    """Make changes of one kind."""
    if isinstance(batch[0], Insert):
        yield from _insert(connection, cast("Sequence[Insert]", batch), run_id, actor)
        return
    updates = cast("Sequence[Update]", batch)
    if len(updates) >= COPY_FROM_ROWS and _is_one_statement(updates):
        yield from _update_many(connection, updates, run_id, actor)
        return
    for update in updates:
        yield from _update(connection, update, run_id, actor)


def _is_one_statement(updates: Sequence[Update]) -> bool:
    """Whether the order of changes of one kind does not matter: each has a row of its own, named by its primary key, which stays."""
    table, first = metadata.tables[updates[0].table], updates[0]
    names = {column.name for column in table.primary_key.columns}
    if first.key.keys() != names or first.set.keys() & names:
        return False
    documents = [name for name in first.set if isinstance(table.c[name].type, JSONB)]
    if any(update.set[name] is None for update in updates for name in documents):
        return False
    return len({json.dumps(update.key, sort_keys=True, default=str) for update in updates}) == len(updates)


def _bound(table: sa.Table, values: Row) -> dict[str, Any]:
    """JSON values as the column types want them."""
    return {
        name: datetime.fromisoformat(value) if isinstance(value, str) and isinstance(table.c[name].type, sa.DateTime) else value
        for name, value in values.items()
    }


def _insert(connection: sa.Connection, batch: Sequence[Insert], run_id: str, actor: str) -> Iterator[audit.Entry]:
    """Add rows of one table and one set of columns, but for those whose primary key is there."""
    table = metadata.tables[batch[0].table]
    keys = list(table.primary_key.columns)
    names = [column.name for column in keys]
    rows = {tuple(str(change.row[name]) for name in names): change for change in batch}
    try:
        added = (_insert_few if len(rows) < COPY_FROM_ROWS else _copy_many)(connection, table, rows.values(), run_id)
    except sa.exc.IntegrityError as error:
        said = str(error.orig).strip().splitlines()
        raise Superseded(
            f"A row for {table.name} cannot take its place: {said[0]} {said[-1] if len(said) > 1 else ''}".strip() + "."
        ) from None
    for key, change in rows.items():
        if added is None or key in added:
            subject = "/".join([str(change.row[name]) for name in change.subject.split("/")])
            digest = hashlib.sha256(_CANONICAL(change.row)).hexdigest()
            yield audit.Entry(actor, change.action, change.table, subject, run_id, {"row_sha256": digest})


def _insert_few(connection: sa.Connection, table: sa.Table, changes: Iterable[Insert], run_id: str) -> set[tuple[str, ...]] | None:
    """Add rows with one statement; returns the keys of those that were added."""
    keys = list(table.primary_key.columns)
    values = [{**_bound(table, change.row), "run_id": run_id} for change in changes]
    statement = pg_insert(table).values(values).on_conflict_do_nothing(index_elements=keys).returning(*keys)
    return {tuple(str(part) for part in row) for row in connection.execute(statement)}


def _copy_many(connection: sa.Connection, table: sa.Table, changes: Collection[Insert], run_id: str) -> set[tuple[str, ...]] | None:
    """The same for many rows, with COPY; None: all were added, which is the usual case and needs no detour."""
    given = list(next(iter(changes)).row)
    names = [*given, "run_id"]
    rows = [(*(change.row[name] for name in given), run_id) for change in changes]
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(map(quote, names))
    try:
        with connection.begin_nested():
            copy_rows(connection, f"COPY {quote(table.name)} ({columns}) FROM STDIN", table, names, rows)
    except sa.exc.IntegrityError:
        return _copy_by_a_detour(connection, table, names, rows)
    return None


def _copy_by_a_detour(
    connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Collection[Sequence[Any]]
) -> set[tuple[str, ...]]:
    """Rows of which some are there already: into a temporary table first, then one statement from there."""
    quote = connection.dialect.identifier_preparer.quote
    stage = sa.table(f"stage_{table.name}", *(sa.column(name) for name in names))
    keys = list(table.primary_key.columns)
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE {quote(stage.name)} (LIKE {quote(table.name)}) ON COMMIT DROP"))
    for column in (column for column in table.c if column.name not in names and not column.nullable):
        connection.execute(sa.text(f"ALTER TABLE {quote(stage.name)} ALTER COLUMN {quote(column.name)} DROP NOT NULL"))
    copy_rows(connection, f"COPY {quote(stage.name)} ({', '.join(map(quote, names))}) FROM STDIN", table, names, rows)
    statement = pg_insert(table).from_select(names, sa.select(*stage.c)).on_conflict_do_nothing(index_elements=keys).returning(*keys)
    added = {tuple(map(str, row)) for row in connection.execute(statement)}
    connection.execute(sa.text(f"DROP TABLE {quote(stage.name)}"))
    return added


def _update(connection: sa.Connection, change: Update, run_id: str, actor: str) -> Iterator[audit.Entry]:
    table = metadata.tables[change.table]

    def holds(values: Row) -> list[sa.ColumnElement[bool]]:
        # Not IS NOT DISTINCT FROM: no index serves that, and a table of scans would be read from end to end for each of them.
        # Literals, because SQLAlchemy writes `= true` as SQL, which no JSON value equals.
        return [
            table.c[name].is_(None) if value is None else table.c[name] == sa.literal(value, table.c[name].type)
            for name, value in _bound(table, values).items()
        ]

    changed = connection.execute(
        sa.update(table).where(*holds(change.key), *holds(change.expect)).values(**_bound(table, change.set))
    ).rowcount
    if changed:
        yield _updated(change, run_id, actor)
    elif not connection.execute(sa.select(sa.literal(1)).select_from(table).where(*holds(change.key), *holds(change.set))).first():
        raise _superseded(change)


def _update_many(connection: sa.Connection, changes: Sequence[Update], run_id: str, actor: str) -> Iterator[audit.Entry]:
    """The same for many rows that are changed alike, each once: by way of a temporary table, in one statement."""
    table, first, quote = metadata.tables[changes[0].table], changes[0], connection.dialect.identifier_preparer.quote
    parts = {"k": list(first.key), "e": list(first.expect), "s": list(first.set)}
    columns = [sa.column(f"{part}_{name}", table.c[name].type) for part, names in parts.items() for name in names]
    stage = sa.table(f"changes_{table.name}", sa.column("place", sa.BigInteger), *columns)
    typed = ", ".join(f"{quote(column.name)} {column.type.compile(connection.dialect)}" for column in stage.c)
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE {quote(stage.name)} ({typed}) ON COMMIT DROP"))
    names = [column.name for column in stage.c]
    rows = (
        (
            place,
            *(change.key[name] for name in parts["k"]),
            *(change.expect[name] for name in parts["e"]),
            *(change.set[name] for name in parts["s"]),
        )
        for place, change in enumerate(changes)
    )
    copy_rows(connection, f"COPY {quote(stage.name)} ({', '.join(map(quote, names))}) FROM STDIN", cast("sa.Table", stage), names, rows)
    is_row = [table.c[name] == stage.c[f"k_{name}"] for name in parts["k"]]
    is_expected = [table.c[name].is_not_distinct_from(stage.c[f"e_{name}"]) for name in parts["e"]]
    is_there = [table.c[name].is_not_distinct_from(stage.c[f"s_{name}"]) for name in parts["s"]]
    changed = set(
        connection.execute(
            sa.update(table)
            .where(*is_row, *is_expected)
            .values({name: stage.c[f"s_{name}"] for name in parts["s"]})
            .returning(stage.c.place)
        ).scalars()
    )
    if len(changed) < len(changes):
        done = set(connection.execute(sa.select(stage.c.place).join(table, sa.and_(*is_row)).where(*is_there)).scalars())
        for place, change in enumerate(changes):
            if place not in changed and place not in done:
                raise _superseded(change)
    connection.execute(sa.text(f"DROP TABLE {quote(stage.name)}"))
    for place, change in enumerate(changes):
        if place in changed:
            yield _updated(change, run_id, actor)


def _updated(change: Update, run_id: str, actor: str) -> audit.Entry:
    details = {"from": change.expect, "to": change.set}
    return audit.Entry(actor, change.action, change.table, _subject(change), run_id, details)


def _superseded(change: Update) -> Superseded:
    return Superseded(f"{change.action} of {_subject(change)}: expected {change.expect}, which no longer holds. Another run came first.")


def _subject(change: Update) -> str:
    return "/".join(str(value) for value in change.key.values())
