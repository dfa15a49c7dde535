"""What the page shows of Airflow: the newest run of each DAG of the loop, and who is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

CLOCK_DAGS = ("wake_product_lines", "ingest_scans", "validate_scans", "watch_fleet", "sync_tracking")
"""DAGs that work for all product lines at once."""
KEYED_DAGS = (
    "curate_scans", "sync_annotations", "review_annotations", "snapshot_datasets", "train_detector", "publish_release",
)  # fmt: skip
"""DAGs with one run per product line, in the order of the loop."""


@dataclass(frozen=True)
class RunFacts:
    """The newest run of one DAG, for one product line or for all."""

    dag_id: str
    """Its DAG."""
    product_line: str | None
    """Its partition key."""
    run_id: str
    """Its id in Airflow."""
    state: str
    """queued, running, success or failed; `waiting` while it waits for a person."""
    since: datetime | None
    """When it came into that state, as far as Airflow keeps it."""

    @property
    def path(self) -> str:
        """Where Airflow shows it, relative to the page."""
        return f"../dags/{quote(self.dag_id)}/runs/{quote(self.run_id, safe='')}"


def read_runs(session: Session) -> tuple[RunFacts, ...]:
    """The newest run of each DAG of the loop and product line."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    query = (
        sa.select(DagRun.dag_id, DagRun.partition_key, DagRun.run_id, DagRun.state, DagRun.queued_at, DagRun.start_date, DagRun.end_date)
        .where(DagRun.dag_id.in_(CLOCK_DAGS + KEYED_DAGS))
        .ext(distinct_on(DagRun.dag_id, DagRun.partition_key))
        .order_by(DagRun.dag_id, DagRun.partition_key, DagRun.run_after.desc(), DagRun.id.desc())
    )
    waiting = sa.select(TaskInstance.dag_id, TaskInstance.run_id).where(TaskInstance.state == "awaiting_input")
    held_up = {(row.dag_id, row.run_id) for row in session.execute(waiting)}
    return tuple(
        RunFacts(
            dag_id=row.dag_id,
            product_line=row.partition_key,
            run_id=row.run_id,
            state="waiting" if (row.dag_id, row.run_id) in held_up else str(row.state),
            since=row.end_date or row.start_date or row.queued_at,
        )
        for row in session.execute(query)
    )
