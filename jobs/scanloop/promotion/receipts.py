"""Whether a row of the catalog is what a completed run made it: the receipt is there, the catalog remembers it, and it publishes that very row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import metadata, runs
from scanloop.errors import DataWrong
from scanloop.execution.publication import Insert, Publication
from scanloop.execution.receipts import Receipt, load_with_hash
from scanloop.store import Store

CHANGES_LATER = {"models": {"state"}, "decisions": {"approver"}}
"""Columns that later runs may change; their changes have receipts of their own."""


class NotVouched(DataWrong):
    """A row without a receipt, with a forged one, or changed since."""


def vouched(store: Store, connection: sa.Connection, table: str, key: str) -> tuple[dict[str, Any], Receipt]:
    """The row with this primary key and the receipt that vouches for it.

    Raises:
        NotVouched: there is no such row; its run has no receipt; the receipt is missing from the store or is not the one that the catalog
            remembers; or what the run published differs from the row.
    """
    known = metadata.tables[table]
    (primary,) = known.primary_key.columns
    found = connection.execute(sa.select(known).where(primary == key)).mappings().one_or_none()
    what = f"{table.removesuffix('s')} {key[:12]}"
    if found is None:
        raise NotVouched(f"There is no {what}.")
    row = dict(found)
    for receipt in _receipts(store, connection, row["run_id"], what):
        published = _published(store, receipt, table, primary.name, key)
        if published is None:
            continue
        fixed = published.keys() - CHANGES_LATER.get(table, set())
        changed = sorted(name for name in fixed if row[name] != published[name])
        if changed:
            raise NotVouched(f"The {what} was changed after run {receipt.run_id} published it: {', '.join(changed)}. Nothing was promoted.")
        return row, receipt
    raise NotVouched(f"No completion receipt of run {row['run_id']} vouches for {what}. Nothing was promoted.")


def _receipts(store: Store, connection: sa.Connection, run_id: str, what: str) -> Iterator[Receipt]:
    remembered = connection.execute(
        sa.select(runs.c.job, runs.c.part, runs.c.receipt_key, runs.c.receipt_sha256).where(runs.c.run_id == run_id)
    )
    for job, part, receipt_key, receipt_sha256 in remembered.all():
        found = load_with_hash(store, receipt_key)
        if found is None:
            raise NotVouched(f"The receipt {store.uri(receipt_key)}, which {what} rests on, is not in the store. Nothing was promoted.")
        receipt, digest = found
        if digest != receipt_sha256 or (receipt.run_id, receipt.job, receipt.part) != (run_id, job, part):
            raise NotVouched(
                f"The receipt {store.uri(receipt_key)} is not the one that the catalog remembers: it was forged. Nothing was promoted."
            )
        yield receipt


def _published(store: Store, receipt: Receipt, table: str, primary: str, key: str) -> dict[str, Any] | None:
    """The row as the run published it, or None if the run did not."""
    where, sha256 = receipt.publication["key"], receipt.publication["sha256"]
    if not store.verify(where, sha256):
        raise NotVouched(f"{store.uri(where)} is not the publication that the receipt of {receipt.job} names. Nothing was promoted.")
    for change in Publication.decode(store.get(where)):
        if isinstance(change, Insert) and change.table == table and change.row.get(primary) == key:
            return change.row
    return None
