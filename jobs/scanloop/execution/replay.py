"""Whether the catalog is what its record says: every publication played again, in the order of the audit log, into empty tables beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import audit_log, metadata
from scanloop.errors import DataWrong, ObjectNotFound, Superseded
from scanloop.execution.publication import Publication, apply
from scanloop.execution.receipts import load_with_hash
from scanloop.store import Store

NOT_PUBLISHED = ("runs", "run_links", "leases", "job_ends", "tracked", "audit_log", "audit_head")
"""Tables that execution itself keeps, and `tracked`: what a tracking server was told, on which nothing depends. Every other row comes from a
publication."""
NOT_RECORDED = ("created_at",)
"""Columns that the database fills in by its clock."""
MOST = 20
"""Differing rows named for each table and kind at most."""


def row_violations(catalog: Catalog, store: Store, on_run: Callable[[int, int], None] = lambda done, total: None) -> Iterator[str]:
    """Rows that are not as the publications say: changed, added or removed by other means than a job. One sentence each.

    Works on temporary tables in one transaction that is rolled back; takes time and disk in proportion to the catalog. `on_run` is told how
    many runs of how many were played again.

    Raises:
        CatalogUnavailable: the database cannot be reached, or lets nobody make temporary tables.
    """
    names = [name for name in metadata.tables if name not in NOT_PUBLISHED]
    with catalog.scratch() as connection:
        schema = str(connection.execute(sa.text("SELECT current_schema()")).scalar_one())
        query = sa.select(audit_log.c.run_id, audit_log.c.actor, audit_log.c.details).where(audit_log.c.action == "run.finished")
        finished = connection.execute(query.order_by(audit_log.c.seq)).all()
        quote = connection.dialect.identifier_preparer.quote
        for name in names:
            source = f"{quote(schema)}.{quote(name)}"
            connection.execute(sa.text(f"CREATE TEMPORARY TABLE {quote(name)} (LIKE {source} INCLUDING DEFAULTS INCLUDING INDEXES)"))
        # Names without a schema mean the temporary tables from here on.
        for number, entry in enumerate(finished, start=1):
            yield from _played(connection, store, entry.run_id, entry.actor, str(entry.details["receipt_key"]))
            on_run(number, len(finished))
        for name in names:
            yield from _differences(connection, schema, metadata.tables[name])


def _played(connection: sa.Connection, store: Store, run_id: str, actor: str, receipt_key: str) -> Iterator[str]:
    found = load_with_hash(store, receipt_key)
    if found is None:
        yield f"The log names the receipt {receipt_key}, which is not in the store."
        return
    named = found[0].publication
    try:
        content = store.get(named["key"])
        if hashlib.sha256(content).hexdigest() != named["sha256"]:
            yield f"{named['key']} is not the publication that the receipt {receipt_key} names."
            return
        with connection.begin_nested():
            for _ in apply(connection, Publication.decode(content), run_id=run_id, actor=actor):
                pass
    except ObjectNotFound:
        yield f"{named['key']}, the publication of the receipt {receipt_key}, is not in the store."
    except (DataWrong, Superseded) as error:
        yield f"The publication of the receipt {receipt_key} does not follow from those before it: {error.message}"


def _differences(connection: sa.Connection, schema: str, table: sa.Table) -> Iterator[str]:
    """Rows of one table that the catalog and the record do not share."""
    catalog, record = (table.to_metadata(sa.MetaData(), schema=name) for name in (schema, "pg_temp"))
    same_key = sa.and_(*(catalog.c[column.name] == record.c[column.name] for column in table.primary_key))

    def keys_in(side: sa.Table, query: sa.Select[tuple[str]]) -> sa.ScalarResult[str]:
        subject = sa.func.concat_ws("/", *(side.c[column.name] for column in table.primary_key))
        return connection.execute(query.with_only_columns(subject).order_by(subject).limit(MOST)).scalars()

    for key in keys_in(catalog, sa.select(catalog).where(~sa.exists().where(same_key).correlate(catalog))):
        yield f"{table.name} {key} is in the catalog, and no run put it there."
    for key in keys_in(record, sa.select(record).where(~sa.exists().where(same_key).correlate(record))):
        yield f"{table.name} {key} was put into the catalog and is gone."
    names = [column.name for column in table.c if column.name not in NOT_RECORDED]
    is_changed = sa.or_(*(catalog.c[name].is_distinct_from(record.c[name]) for name in names))
    for key in keys_in(catalog, sa.select(catalog).join(record, same_key).where(is_changed)):
        yield f"{table.name} {key} was changed behind the record's back."
