"""Who a job is, as told by the DAG run it belongs to. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Protocol

MAX_RUN_ID_LENGTH = 200


class AssetEvent(Protocol):
    """What woke a DAG run."""

    source_dag_id: str | None
    source_run_id: str | None


class DagRun(Protocol):
    """What is read of Airflow's DAG run."""

    dag_id: str
    run_id: str
    triggering_user_name: str | None
    consumed_asset_events: list[AssetEvent]


def safe_run_id(dag_id: str, run_id: str) -> str:
    """The run id of a DAG run, safe in a path, a URL and a label.

    Letters, digits, `_`, `.` and `-` stay; the rest becomes `-`. A digest of the original ends it, so that two DAG runs never share one.
    """
    whole = f"{dag_id}__{run_id}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", whole)[: MAX_RUN_ID_LENGTH - 9]
    return f"{plain}-{digest}"


def consumed_run_ids(events: Iterable[AssetEvent]) -> list[str]:
    """Run ids of the DAG runs whose asset events woke this one, each once, sorted."""
    return sorted(
        {safe_run_id(event.source_dag_id, event.source_run_id) for event in events if event.source_dag_id and event.source_run_id}
    )


def actor_of(dag_run: DagRun) -> str:
    """Who the audit log names: the person who started the run, or the DAG."""
    if dag_run.triggering_user_name:
        return f"airflow:{dag_run.triggering_user_name}"
    return f"airflow:{dag_run.dag_id}"
