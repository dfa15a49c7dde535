"""What the catalog says about validation: results of a run, and how each machine is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import scanners, validation_results
from scanloop.errors import WrongArguments
from scanloop.validation.baselines import RECALIBRATED


@dataclass(frozen=True)
class MachineState:
    """The last result of one machine."""

    scope: str
    """The scanner."""
    suite: str
    """Suite and version."""
    state: str
    """steady, drifted, new; of arrivals: regular, silent, flooding, few, new or gone."""
    until: str
    """Until when it was judged."""
    failed: tuple[str, ...]
    """Failed checks because of which its scans are held."""
    counts: dict[str, Any]
    """Everything that was measured."""
    docs_key: str
    """Its page."""


def latest_states(catalog: Catalog, suite_part: str = "history") -> list[MachineState]:
    """The last result of every machine, of suites that end with `suite_part` (and their version), by scanner."""
    result = validation_results.c
    last = (
        sa.select(result.suite, result.failed, result.counts, result.docs_key)
        .where(result.scope == scanners.c.scanner_id, result.suite.regexp_match(f"[-_]{suite_part}-[0-9a-f]+$"))
        .order_by(result.created_at.desc(), result.counts["until"].astext.desc(), result.validation_id.desc())
        .limit(1)
        .lateral("last")
    )
    query = sa.select(scanners.c.scanner_id, last).select_from(scanners.join(last, sa.true())).order_by(scanners.c.scanner_id)
    with catalog.read() as connection:
        rows = connection.execute(query).all()
    return [
        MachineState(scanner_id, suite, counts.get("state", ""), counts.get("until", ""), tuple(failed), counts, docs_key)
        for scanner_id, suite, failed, counts, docs_key in rows
    ]


def results_of(catalog: Catalog, run_id: str) -> list[dict[str, Any]]:
    """The results of one run, `latest`: of the last run that has any, in the order of suite and scope.

    Raises:
        WrongArguments: the run has none.
    """
    result = validation_results
    with catalog.read() as connection:
        if run_id == "latest":
            newest = (
                sa.select(result.c.run_id)
                .where(result.c.suite != RECALIBRATED, ~result.c.suite.startswith("fleet-"))
                .order_by(result.c.created_at.desc(), result.c.validation_id)
                .limit(1)
            )
            run_id = connection.scalars(newest).first() or run_id
        query = sa.select(result).where(result.c.run_id == run_id).order_by(result.c.suite, result.c.scope, result.c.validation_id)
        rows = [dict(row._mapping) for row in connection.execute(query)]
    if not rows:
        raise WrongArguments(f"No validation result of the run {run_id!r} is in the catalog.")
    return rows
