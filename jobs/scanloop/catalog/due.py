"""Which product lines have something due, and why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.catalog.definitions import active_definitions
from scanloop.catalog.loop import LoopStatus, loop_status
from scanloop.errors import NothingToDo
from scanloop.product_lines import ProductLine

if TYPE_CHECKING:
    from scanloop.execution import JobRun


def reasons_due(status: LoopStatus, definition: ProductLine, now: datetime) -> list[str]:
    """Why a product line is due; empty if it is not. Pure."""
    reasons = []
    if status.untasked_scans:
        reasons.append(f"{status.untasked_scans} chosen scans wait for a labelling task")
    if status.open_tasks:
        reasons.append(f"{status.open_tasks} labelling tasks may have been finished")
    if status.submitted_tasks:
        reasons.append(f"{status.submitted_tasks} finished labelling tasks wait for their check")
    if status.returned_tasks:
        reasons.append(f"{status.returned_tasks} scans go back to the labellers")
    new_scans = status.accepted_scans - status.snapshot_scans
    if status.accepted_scans >= definition.snapshot.min_scans and new_scans >= definition.snapshot.min_new_scans:
        reasons.append(f"{new_scans} accepted scans are in no snapshot")
    elif new_scans > 0 and is_of_age(status.champion_since, definition, now):
        reasons.append(f"the champion is older than {definition.wake.max_age_days} days, and there are {new_scans} accepted scans since")
    return reasons


def is_of_age(champion_since: datetime | None, definition: ProductLine, now: datetime) -> bool:
    """Whether a champion has served so long that whatever is new is worth a snapshot."""
    return champion_since is not None and now - champion_since > timedelta(days=definition.wake.max_age_days)


def find_due(run: JobRun) -> dict[str, Any]:
    """Every product line with something due. Raises NothingToDo if there is none."""
    with run.catalog.read() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        definitions = {definition.product_line: definition for definition in active_definitions(connection)}
        due = {status.product_line: reasons_due(status, definitions[status.product_line], now) for status in loop_status(connection)}
    due = {product_line: reasons for product_line, reasons in due.items() if reasons}
    if not due:
        raise NothingToDo("no product line has anything due.")
    return {"product_lines": sorted(due), "reasons": due}
