"""The catalog in canonical form: equal contents give equal lines, whenever and in however many attempts they came to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import metadata

_NOT_CONTENT = {"created_at", "finished_at", "receipt_sha256", "attempt"}
_NOT_TABLES = {"leases", "job_ends", "tracked", "audit_log", "audit_head"}


def canonical_lines(catalog: Catalog) -> Iterator[str]:
    """One JSON line a row, tables and rows in a fixed order; without clocks, attempts, leases and the audit log."""
    with catalog.read() as connection:
        for table in sorted(metadata.tables.values(), key=lambda table: table.name):
            if table.name in _NOT_TABLES:
                continue
            columns = [column for column in table.columns if column.name not in _NOT_CONTENT]
            rows = connection.execute(sa.select(*columns)).mappings()
            yield from sorted(json.dumps({"table": table.name, **_plain(dict(row))}, sort_keys=True, default=str) for row in rows)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
