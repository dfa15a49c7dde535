"""What a selection chooses from, and what was chosen before, as the catalog knows them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables
from scanloop.curation.choose import Candidate
from scanloop.curation.features import VERSION, describe
from scanloop.curation.near_duplicates import Fingerprint
from scanloop.labelling.trusted import is_trusted, not_replaced
from scanloop.product_lines import ProductLine
from scanloop.query.sql import of_product_line
from scanloop.scans.planes import read_planes
from scanloop.store import Store
from scanloop.taxonomy.lineage import Lineage, lineage_of

log = logging.getLogger(__name__)
KIND = "curation"
"""Selections of what is new. The other kind is `backfill`."""
_READERS = 4


@dataclass(frozen=True)
class Known:
    """A scan as the catalog knows it, before anybody looked at its pixels."""

    fingerprint: Fingerprint
    """Its identity and perceptual hash."""
    scanner_id: str
    """Which machine."""
    acquired_at: str
    """ISO 8601 UTC or empty."""
    planes_key: str
    """Where its planes are."""
    description: tuple[float, ...] | None
    """What an earlier selection found it to look like."""


def candidates_of(
    connection: sa.Connection,
    definition: ProductLine,
    *,
    category: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Known]:
    """Validated, real, operational scans of the product line's scanners that nobody was asked about yet.

    A scan that came with a trusted annotation of every category asked about has its answer. Without `category`: scans that no ordinary
    selection chose. With it: scans that no selection chose for that category, whatever else was looked for in them, acquired from `since` to
    before `until`; what was accepted under an older version of the taxonomy, and is mapped, answers what it says now.
    """
    scans, lineage = tables.scans, lineage_of(connection, definition)
    conditions = [
        scans.c.state == "validated",
        ~scans.c.is_projected,
        scans.c.scan_type == "operational",
        scans.c.modality != "CT",
        ~_was_chosen(definition.product_line, category, lineage),
        ~_is_answered(definition, category, lineage),
        of_product_line(definition.query),
    ]
    if since is not None:
        conditions.append(scans.c.acquired_at >= since)
    if until is not None:
        conditions.append(scans.c.acquired_at < until)
    return _known(connection, conditions, definition)


def history_of(
    connection: sa.Connection, product_line: str, *, taxonomy: str, category: str | None = None, before: datetime | None = None
) -> list[Known]:
    """Scans that earlier selections chose, whatever became of them since.

    If given: for `category`, as the version `taxonomy` means it; and created before `before`.
    """
    return _known(connection, [_was_chosen(product_line, category, Lineage(taxonomy, {taxonomy: ()}), before)], None)


def scans_of(connection: sa.Connection, selection_id: str) -> list[Known]:
    """Every scan that a selection considered."""
    considered = sa.select(tables.selection_items.c.scan_id).where(tables.selection_items.c.selection_id == selection_id)
    return _known(connection, [tables.scans.c.scan_id.in_(considered)], None)


def described(known: Iterable[Known], store: Store) -> list[Candidate]:
    """Look at the pixels of what was not described before."""
    items = list(known)
    missing = [item for item in items if item.description is None]
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda item: describe(read_planes(store.get(item.planes_key))), missing)
        fresh: dict[str, tuple[float, ...]] = {}
        for number, (item, description) in enumerate(zip(missing, found, strict=True), start=1):
            fresh[item.fingerprint.scan_id] = description
            if number % 200 == 0:
                log.info("Looked at %d of %d scans.", number, len(missing))
    return [
        Candidate(item.fingerprint, item.scanner_id, item.acquired_at, item.description or fresh[item.fingerprint.scan_id])
        for item in items
    ]


def _was_chosen(product_line: str, category: str | None, lineage: Lineage, before: datetime | None = None) -> sa.Exists:
    """Whether a selection of the product line chose the scan: an ordinary one, or for `category` any that asks about it, also under what it was
    called in an older version of the taxonomy that counts.
    """
    selections, items = tables.selections, tables.selection_items
    asked = selections.c.parameters
    conditions = [
        items.c.scan_id == tables.scans.c.scan_id,
        items.c.is_chosen,
        selections.c.selection_id == items.c.selection_id,
        selections.c.product_line == product_line,
        asked["kind"].astext == KIND if category is None else lineage.is_asked(asked, category),
    ]
    if before is not None:
        conditions.append(selections.c.created_at < before)
    return sa.exists().where(*conditions)


def _is_answered(definition: ProductLine, category: str | None, lineage: Lineage) -> sa.ColumnElement[bool]:
    """Whether a trusted annotation of the scan speaks about `category`, or about every category of the product line; or an accepted one about
    `category`.
    """
    notes, reviews = tables.annotations, tables.reviews
    asked = list(definition.categories) if category is None else [category]
    of_it = (notes.c.scan_id == tables.scans.c.scan_id, notes.c.product_line == definition.product_line, lineage.is_about_all(notes, asked))
    trusted = sa.exists().where(*of_it, is_trusted(notes), not_replaced(notes))
    if category is None:
        return trusted
    return sa.or_(trusted, sa.exists().where(*of_it, reviews.c.annotation_id == notes.c.annotation_id, reviews.c.verdict == "accepted"))


def _known(connection: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], definition: ProductLine | None) -> list[Known]:
    scans, scanners = tables.scans, tables.scanners
    rows = connection.execute(
        sa.select(
            *(scans.c[name] for name in ("scan_id", "bag_id", "view_name", "scanner_id", "planes_key", "phash", "acquired_at")),
            scanners.c.manufacturer,
            scanners.c.model,
        )
        .join(scanners, scanners.c.scanner_id == scans.c.scanner_id)
        .where(*conditions)
        .order_by(scans.c.scan_id)
    ).all()
    kept = [row for row in rows if definition is None or definition.covers(row.scanner_id)]
    descriptions = _descriptions(connection, [row.scan_id for row in kept])
    return [
        Known(
            Fingerprint(row.scan_id, row.bag_id, f"{row.manufacturer} {row.model}", row.view_name, row.phash or None),
            row.scanner_id,
            row.acquired_at.isoformat() if row.acquired_at else "",
            row.planes_key,
            descriptions.get(row.scan_id),
        )
        for row in kept
    ]


def _descriptions(connection: sa.Connection, scan_ids: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
    """What earlier selections, of any product line, found scans to look like."""
    items = tables.selection_items
    rows = connection.execute(
        sa.select(items.c.scan_id, items.c.scores["description"])
        .where(items.c.scan_id == sa.func.any(list(scan_ids)), items.c.scores["features"].astext == VERSION)
        .distinct(items.c.scan_id)
        .order_by(items.c.scan_id, items.c.selection_id)
    )
    return {scan_id: _numbers(description) for scan_id, description in rows}


def _numbers(description: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in description)
