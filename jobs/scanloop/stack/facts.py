"""What the report tells: read from the catalog and the store, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.catalog.loop import LoopStatus, loop_status
from scanloop.store import Store


@dataclass(frozen=True)
class Quarantined:
    """One file that was put aside."""

    landing_key: str
    """What it was called."""
    stage: str
    """Where it was found out."""
    reason: str
    """Why, as a sentence."""


@dataclass(frozen=True)
class Judged:
    """One model's numbers on one snapshot."""

    model_id: str
    """The model."""
    snapshot_sequence: int
    """Which snapshot of the product line it was trained on, from 1."""
    role: str
    """What it is now: champion, retired, rejected, candidate."""
    numbers: dict[str, Any]
    """The evaluation's results as stored."""
    report_key: str
    """The evaluation's own page."""


@dataclass(frozen=True)
class Decided:
    """One decision."""

    candidate_id: str
    """Who wanted the place."""
    champion_id: str | None
    """Who had it."""
    verdict: str
    """promote, reject or insufficient_evidence."""
    reasons: list[Any]
    """Why."""
    approver: str | None
    """Who approved, where somebody had to."""
    judged: list[Judged]
    """Both on the same frozen test split."""


@dataclass(frozen=True)
class LineFacts:
    """One product line."""

    status: LoopStatus
    """Where it stands."""
    verdicts: dict[str, int]
    """How many labelled scans were accepted, returned, escalated."""
    snapshots: list[dict[str, Any]]
    """Counts of each snapshot, the oldest first."""
    decisions: list[Decided]
    """The oldest first."""
    releases: list[dict[str, Any]]
    """Version, channel and model of each signed release."""


@dataclass(frozen=True)
class Facts:
    """Everything that the report says of the loop."""

    deliveries: dict[str, int]
    """Outcome → files."""
    scans: dict[str, int]
    """State → scans."""
    quarantined: list[Quarantined]
    """Files put aside."""
    lines: list[LineFacts]
    """Every product line."""
    receipts: int
    """Job runs that counted."""
    audit_entries: int
    """Changes of state on record."""


def gather(connection: sa.Connection, store: Store) -> Facts:
    """Read everything the report tells."""

    def counts(column: sa.Column[str], *where: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
        return {str(name): int(number) for name, number in connection.execute(query)}

    held = connection.execute(sa.select(t.quarantine).order_by(t.quarantine.c.landing_key)).all()
    return Facts(
        deliveries=counts(t.deliveries.c.outcome),
        scans=counts(t.scans.c.state),
        quarantined=[Quarantined(row.landing_key, row.stage, row.reason) for row in held],
        lines=[_line(connection, store, status) for status in loop_status(connection)],
        receipts=int(connection.execute(sa.select(sa.func.count()).select_from(t.runs)).scalar_one()),
        audit_entries=int(connection.execute(sa.select(t.audit_head.c.seq)).scalar_one()),
    )


def _line(connection: sa.Connection, store: Store, status: LoopStatus) -> LineFacts:
    name = status.product_line
    verdicts = connection.execute(
        sa.select(t.reviews.c.verdict, sa.func.count()).where(t.reviews.c.product_line == name).group_by(t.reviews.c.verdict)
    )
    snapshots = connection.execute(
        sa.select(t.snapshots.c.counts).where(t.snapshots.c.product_line == name).order_by(t.snapshots.c.sequence)
    )
    decisions = connection.execute(
        sa.select(t.decisions).where(t.decisions.c.product_line == name).order_by(t.decisions.c.created_at, t.decisions.c.decision_id)
    )
    releases = connection.execute(
        sa.select(t.releases.c.version, t.releases.c.channel, t.releases.c.model_id, t.releases.c.target_path)
        .where(t.releases.c.product_line == name, t.releases.c.state == "released")
        .order_by(t.releases.c.version)
    )
    return LineFacts(
        status=status,
        verdicts={str(verdict): int(number) for verdict, number in verdicts},
        snapshots=[dict(row.counts) for row in snapshots],
        decisions=[_decision(connection, store, row) for row in decisions],
        releases=[dict(row._mapping) for row in releases],
    )


def _decision(connection: sa.Connection, store: Store, row: Any) -> Decided:
    models = [model for model in (row.champion_id, row.candidate_id) if model is not None]
    judged = connection.execute(
        sa.select(t.evaluations.c.results_key, t.evaluations.c.report_key, t.models.c.model_id, t.models.c.state, t.snapshots.c.sequence)
        .join(t.models, t.models.c.model_id == t.evaluations.c.model_id)
        .join(t.snapshots, t.snapshots.c.snapshot_id == t.models.c.snapshot_id)
        .where(t.evaluations.c.snapshot_id == row.snapshot_id, t.evaluations.c.model_id.in_(models))
        .order_by(t.snapshots.c.sequence)
    )
    return Decided(
        candidate_id=row.candidate_id,
        champion_id=row.champion_id,
        verdict=row.verdict,
        reasons=list(row.reasons),
        approver=row.approver,
        judged=[
            Judged(found.model_id, found.sequence, found.state, json.loads(store.get(found.results_key)), found.report_key)
            for found in judged
        ],
    )
