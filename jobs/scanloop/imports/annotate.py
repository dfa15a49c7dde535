"""From entries whose pictures are scans to annotations, each of which replaces the one before it of the same set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog, tables
from scanloop.imports.boxes import placed
from scanloop.imports.entries import Entry
from scanloop.imports.problems import Problems
from scanloop.labelling.boxes import Box
from scanloop.labelling.trusted import REPORT, is_import

Row = dict[str, Any]


def content_of(entry: Entry, width_px: int, height_px: int, problems: Problems) -> tuple[list[dict[str, Any]], list[str]]:
    """Boxes and looked-for categories of an entry, once its picture's size is known. What does not fit is a problem.

    A category of which a box had to be left out was not looked for: the image is not clean of it, and where the thing is is not known.
    """
    said = (entry.width_px, entry.height_px)
    if any(one is not None and one != found for one, found in zip(said, (width_px, height_px), strict=True)):
        expected = f"{entry.width_px} x {entry.height_px}, as {entry.index} says"
        problems.report("size_differs", entry.path, entry.entry, expected, f"{width_px} x {height_px}")
        return [], []
    kept, looked_for = [], set(entry.looked_for)
    for box in entry.boxes:
        inside, misplaced = placed(box.bbox_xywh, width_px, height_px)
        if misplaced is not None:
            problems.report(misplaced.kind, entry.index, box.entry, misplaced.expected, misplaced.found)
        if inside is None:
            looked_for.discard(box.category)
        else:
            kept.append(Box(box.category, inside))
    return [box.as_json() for box in sorted(kept) if box.category in looked_for], sorted(looked_for)


def sizes_of(catalog: Catalog, scan_ids: Sequence[str]) -> dict[str, tuple[str, int, int]]:
    """Of these ids, the scans in the catalog: state, width and height."""
    scans = tables.scans
    query = sa.select(scans.c.scan_id, scans.c.state, scans.c.planes).where(scans.c.scan_id.in_(scan_ids))
    with catalog.read() as connection:
        return {row.scan_id: (row.state, *size_of(row.planes)) for row in connection.execute(query)}


def size_of(planes: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Width and height of a scan, from its row's planes; 0 where there are none."""
    return (int(planes[0]["width_px"]), int(planes[0]["height_px"])) if planes else (0, 0)


def newest_of(catalog: Catalog, product_line: str, dataset: str, scan_ids: Sequence[str]) -> dict[str, Row]:
    """Scan to this set's annotation of it that no other replaces."""
    notes = tables.annotations
    query = sa.select(notes).where(
        notes.c.product_line == product_line,
        notes.c.scan_id.in_(scan_ids),
        is_import(notes),
        notes.c.author.startswith(f"{dataset} ", autoescape=True),
    )
    with catalog.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query.order_by(notes.c.annotation_id))]
    replaced = {row["supersedes"] for row in rows}
    return {row["scan_id"]: row for row in rows if row["annotation_id"] not in replaced}


def annotation_row(about: Row, boxes: list[dict[str, Any]], looked_for: list[str], before: Row | None) -> Row | None:
    """The row for an entry, or None if `before`, this set's newest annotation of the scan, says the same.

    `about` has scan_id, product_line, author, tool and taxonomy_version. The id follows from what is said, about what, and what it replaces.
    """
    said = {"boxes": boxes, "looked_for": looked_for, "taxonomy_version": about["taxonomy_version"]}
    if before is not None and all(before[name] == value for name, value in said.items()):
        return None
    supersedes = before["annotation_id"] if before is not None else None
    dataset = about["author"].partition(" ")[0]
    identity = {**said, "dataset": dataset, "product_line": about["product_line"], "scan_id": about["scan_id"], "supersedes": supersedes}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return {**about, **said, "annotation_id": f"import-{digest[:32]}", "author_kind": REPORT, "supersedes": supersedes}
