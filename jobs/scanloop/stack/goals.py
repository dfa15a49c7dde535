"""When a product line has come round."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.catalog.loop import LoopStatus


@dataclass(frozen=True)
class Standing:
    """Whether one product line has come round, and what is missing."""

    product_line: str
    """Its key."""
    missing: str
    """What has not happened yet; empty when it has come round."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def standing(connection: sa.Connection, state: LoopStatus, rounds: int) -> Standing:
    """Whether a product line has made `rounds` snapshots, decided on the newest one, and released its champion."""
    name = state.product_line
    newest = connection.execute(
        sa.select(t.snapshots.c.snapshot_id).where(t.snapshots.c.product_line == name).order_by(t.snapshots.c.sequence.desc()).limit(1)
    ).scalar_one_or_none()
    decision = connection.execute(
        sa.select(t.decisions.c.verdict, t.decisions.c.candidate_id)
        .where(t.decisions.c.product_line == name, t.decisions.c.snapshot_id == newest)
        .order_by(t.decisions.c.created_at.desc())
        .limit(1)
    ).one_or_none()
    released = connection.execute(
        sa.select(t.releases.c.release_id).where(
            t.releases.c.product_line == name, t.releases.c.model_id == state.champion_id, t.releases.c.state == "released"
        )
    ).first()
    open_work = state.untasked_scans + state.open_tasks + state.submitted_tasks + state.returned_tasks
    if open_work:
        return Standing(name, f"{name}: {open_work} scans are being labelled or checked")
    if state.snapshots < rounds:
        return Standing(name, f"{name}: {state.snapshots} of {rounds} snapshots")
    if decision is None:
        return Standing(name, f"{name}: no decision on the newest snapshot")
    if decision.verdict == "promote" and decision.candidate_id != state.champion_id:
        return Standing(name, f"{name}: the promoted candidate is not champion yet")
    if state.champion_id is not None and released is None:
        return Standing(name, f"{name}: the champion is not released")
    return Standing(name, "")
