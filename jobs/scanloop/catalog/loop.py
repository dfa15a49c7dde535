"""The loop of every product line at a glance: how much is at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.catalog.definitions import active_definitions
from scanloop.labelling.trusted import is_trusted, is_trusted_report, not_replaced
from scanloop.product_lines import ProductLine
from scanloop.query.sql import of_product_line
from scanloop.taxonomy.lineage import Lineage, lineage_of


@dataclass(frozen=True)
class LoopStatus:
    """Where one product line stands."""

    product_line: str
    """Its key."""
    title: str
    """What people call it."""
    validated_scans: int
    """Scans of its scanners that passed validation."""
    chosen_scans: int
    """Scans chosen for labelling."""
    untasked_scans: int
    """Chosen scans without a labelling task."""
    open_tasks: int
    """Labelling tasks that people have not finished."""
    submitted_tasks: int
    """Finished tasks that nobody checked."""
    returned_tasks: int
    """Tasks that review sent back and that have no new round yet."""
    accepted_scans: int
    """Scans with an accepted annotation, or one that is trusted as it came."""
    snapshots: int
    """Frozen datasets."""
    snapshot_scans: int
    """Accepted scans that the newest snapshot was made from, those that its balance left out included."""
    models: int
    """Trained models."""
    champion_id: str | None
    """The serving model."""
    champion_since: datetime | None
    """When it became champion."""
    verdict: str | None
    """The newest decision's verdict."""
    release_version: int | None
    """The newest release that was signed."""


def loop_status(connection: sa.Connection) -> list[LoopStatus]:
    """The status of every active product line, by key."""
    return [_status(connection, definition) for definition in active_definitions(connection)]


def covered_scanners(connection: sa.Connection, definition: ProductLine) -> list[str]:
    """Ids of the scanners that deliver for a product line."""
    return [scanner for scanner in connection.execute(sa.select(t.scanners.c.scanner_id)).scalars() if definition.covers(scanner)]


def _accepted(definition: ProductLine, covered: Sequence[str], lineage: Lineage) -> sa.CompoundSelect[tuple[str]]:
    """Scans with an accepted annotation, or one that is trusted as it came and speaks about a category of the product line."""
    notes = t.annotations
    reviewed = (
        sa.select(t.reviews.c.scan_id)
        .join(notes, notes.c.annotation_id == t.reviews.c.annotation_id)
        .where(t.reviews.c.product_line == definition.product_line, t.reviews.c.verdict == "accepted", lineage.counts(notes))
    )
    as_it_came = sa.and_(notes.c.product_line == definition.product_line, is_trusted(notes), not_replaced(notes))
    trusted = (
        sa.select(notes.c.scan_id)
        .join(t.scans, t.scans.c.scan_id == notes.c.scan_id)
        .where(
            sa.or_(as_it_came, is_trusted_report(notes, definition)),
            lineage.is_about(notes, definition.categories),
            t.scans.c.state == "validated",
            t.scans.c.scanner_id.in_(covered),
        )
    )
    if not definition.query:
        return sa.union(reviewed, trusted)
    wanted = sa.select(t.scans.c.scan_id).where(of_product_line(definition.query))
    return sa.union(reviewed.where(t.reviews.c.scan_id.in_(wanted)), trusted.where(t.scans.c.scan_id.in_(wanted)))


def _status(connection: sa.Connection, definition: ProductLine) -> LoopStatus:
    name = definition.product_line

    def count(query: sa.Select[tuple[int]]) -> int:
        return int(connection.execute(query).scalar_one())

    def rows(table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.Select[tuple[int]]:
        return sa.select(sa.func.count()).select_from(table).where(table.c.product_line == name, *where)

    tasks, items = t.labelling_tasks, t.selection_items
    chosen = (
        sa.select(items.c.scan_id)
        .join(t.selections, t.selections.c.selection_id == items.c.selection_id)
        .where(t.selections.c.product_line == name, items.c.is_chosen)
    )
    later = tasks.alias()
    has_later_round = (
        sa.select(later.c.task_id)
        .where(
            later.c.product_line == name,
            later.c.scan_id == tasks.c.scan_id,
            later.c.schema_version == tasks.c.schema_version,
            later.c.round > tasks.c.round,
        )
        .exists()
    )
    newest = connection.execute(
        sa.select(t.snapshots.c.counts).where(t.snapshots.c.product_line == name).order_by(t.snapshots.c.sequence.desc()).limit(1)
    ).scalar_one_or_none()
    champion = connection.execute(
        sa.select(t.champion_history.c.model_id, t.champion_history.c.created_at)
        .where(t.champion_history.c.product_line == name)
        .order_by(t.champion_history.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    tasked = sa.select(tasks.c.selection_id, tasks.c.scan_id).where(tasks.c.product_line == name)
    pairs = (
        chosen.with_only_columns(t.selections.c.selection_id, items.c.scan_id)
        .join(t.scans, t.scans.c.scan_id == items.c.scan_id)
        .where(t.scans.c.state == "validated")
    )
    covered = covered_scanners(connection, definition)
    return LoopStatus(
        product_line=name,
        title=definition.title,
        validated_scans=count(
            sa.select(sa.func.count())
            .select_from(t.scans)
            .where(t.scans.c.state == "validated", t.scans.c.scanner_id.in_(covered), of_product_line(definition.query))
        ),
        chosen_scans=count(sa.select(sa.func.count()).select_from(chosen.distinct().subquery())),
        untasked_scans=count(sa.select(sa.func.count()).select_from(sa.except_(pairs, tasked).subquery())),
        open_tasks=count(rows(tasks, tasks.c.state == "open")),
        submitted_tasks=count(rows(tasks, tasks.c.state == "submitted")),
        returned_tasks=count(rows(tasks, tasks.c.state == "returned", ~has_later_round)),
        accepted_scans=count(
            sa.select(sa.func.count()).select_from(_accepted(definition, covered, lineage_of(connection, definition)).subquery())
        ),
        snapshots=count(rows(t.snapshots)),
        snapshot_scans=int((newest or {}).get("accepted", 0)),
        models=count(rows(t.models)),
        champion_id=champion.model_id if champion else None,
        champion_since=champion.created_at if champion else None,
        verdict=connection.execute(
            sa.select(t.decisions.c.verdict).where(t.decisions.c.product_line == name).order_by(t.decisions.c.created_at.desc()).limit(1)
        ).scalar_one_or_none(),
        release_version=connection.execute(
            sa.select(sa.func.max(t.releases.c.version)).where(t.releases.c.product_line == name, t.releases.c.state == "released")
        ).scalar_one_or_none(),
    )
