"""Queries against the catalog: read only, under a role of their own, and never for longer than allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.catalog.migrate import READER
from scanloop.errors import CatalogUnavailable, WrongArguments
from scanloop.query.fields import SCANS, Subject
from scanloop.query.language import parse
from scanloop.query.sql import KEYS, condition

TIMEOUT_S = 10.0
"""Longest time for a query that somebody waits for, in seconds."""
_CANCELLED = "57014"
_COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "scan": {
        "id": t.scans.c.scan_id, "bag": t.scans.c.bag_id, "site": t.scans.c.site_id, "scanner": t.scans.c.scanner_id,
        "view": t.scans.c.view_name, "state": t.scans.c.state, "acquired": t.scans.c.acquired_at,
    },
    "annotation": {
        "id": t.annotations.c.annotation_id, "scan": t.annotations.c.scan_id, "product_line": t.annotations.c.product_line,
        "author_kind": t.annotations.c.author_kind, "author": t.annotations.c.author, "looked_for": t.annotations.c.looked_for,
        "boxes": sa.func.jsonb_array_length(t.annotations.c.boxes).label("boxes"), "created": t.annotations.c.created_at,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search found."""

    rows: list[dict[str, Any]]
    """The newest, with their `tags` (sorted) and `attributes`."""
    total: int
    """How many there are in all."""


@contextmanager
def searching(catalog: Catalog, timeout_s: float = TIMEOUT_S) -> Iterator[sa.Connection]:
    """A connection that can only read what can be asked about, each statement for at most `timeout_s` seconds.

    Raises:
        CatalogUnavailable: the database cannot be reached, or has no such role.
        WrongArguments: a statement took longer.
    """
    with catalog.read() as connection:
        # The other role may have another "$user".
        connection.execute(sa.text("SELECT set_config('search_path', quote_ident(current_schema()), true)"))
        try:
            connection.execute(sa.text(f"SET LOCAL ROLE {READER}"))
        except sa.exc.DBAPIError as error:
            raise CatalogUnavailable(
                f"Queries run under the role {READER}, which this user cannot take ({str(error.orig).strip().splitlines()[0]}). "
                f"As an administrator: CREATE ROLE {READER} NOLOGIN; GRANT {READER} TO the catalog's user; then scanloop catalog migrate."
            ) from None
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {max(1, round(timeout_s * 1000))}"))
        connection.execute(sa.text("SET LOCAL work_mem = '64MB'"))
        try:
            yield connection
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _CANCELLED:
                raise
            raise WrongArguments(
                f"The query took longer than {timeout_s:g} s. Name a state, a scanner, a time or a tag in it, or allow more with --timeout."
            ) from None


def ids_of(found: sa.ColumnElement[bool], subject: Subject) -> sa.Select[tuple[str]]:
    """The ids of everything that meets a condition."""
    key = KEYS[subject.name]
    return sa.select(key).where(found)


def search(catalog: Catalog, query: str, subject: Subject, *, limit: int, timeout_s: float = TIMEOUT_S) -> Found:
    """What a query finds, newest first, and how much there is in all.

    Raises:
        QueryWrong: it is no query.
        WrongArguments: it took longer than allowed.
    """
    where = condition(parse(query, subject), subject)
    key, columns = KEYS[subject.name], _COLUMNS[subject.name]
    at = t.scans.c.acquired_at if subject is SCANS else t.annotations.c.created_at
    # Named twice, so it is looked for once and kept: narrow rows, whatever else is shown of the newest.
    hits = sa.select(key.label("id"), at.label("at")).where(where).cte("hits")
    total = sa.select(sa.func.count()).select_from(hits)
    newest = sa.select(hits.c.id, total.scalar_subquery()).order_by(hits.c.at.desc().nulls_last(), hits.c.id).limit(limit)
    with searching(catalog, timeout_s) as connection:
        if not limit:
            return Found([], int(connection.execute(total).scalar_one()))
        found = connection.execute(newest).all()
        ids = [row[0] for row in found]
        shown = sa.select(*(column.label(name) for name, column in columns.items())).where(key == sa.func.any(ids))
        known = {row["id"]: dict(row) for row in connection.execute(shown).mappings()}
        rows = [known[identity] for identity in ids]
        given = marks_of(connection, subject, ids)
    for row in rows:
        mine = given.get(row["id"], {})
        row["tags"] = sorted(name for kind, name in mine if kind == "tag")
        row["attributes"] = {name: value for (kind, name), value in sorted(mine.items(), key=lambda item: item[0]) if kind == "attribute"}
    return Found(rows, int(found[0][1]) if found else 0)


def explain(catalog: Catalog, query: str, subject: Subject, *, timeout_s: float = TIMEOUT_S) -> list[str]:
    """How the database finds the ids that meet a query, line by line. Raises as `search`."""
    selected = ids_of(condition(parse(query, subject), subject), subject)
    with searching(catalog, timeout_s) as connection:
        return [str(line) for line in connection.execute(_Explained(selected)).scalars()]


class _Explained(Executable, ClauseElement):
    """EXPLAIN of a statement."""

    inherit_cache = False

    def __init__(self, statement: sa.Select[Any]) -> None:
        self.statement = statement


@compiles(_Explained)
def _explained(element: _Explained, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN (ANALYZE, COSTS OFF) {compiler.process(element.statement, **options)}"


def marks_of(connection: sa.Connection, subject: Subject, ids: Sequence[str]) -> dict[str, dict[tuple[str, str], Any]]:
    """By id, the tags and attributes that are set: (kind, name) to value."""
    marks = t.marks
    rows = connection.execute(
        sa.select(marks.c.subject_id, marks.c.kind, marks.c.name, marks.c.value).where(
            marks.c.subject == subject.name, marks.c.subject_id == sa.func.any(list(ids)), marks.c.is_set
        )
    )
    found: dict[str, dict[tuple[str, str], Any]] = {}
    for row in rows:
        found.setdefault(row.subject_id, {})[row.kind, row.name] = row.value
    return found
