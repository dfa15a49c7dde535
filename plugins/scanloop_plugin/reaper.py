"""Clears away pods and Jobs that no task of Airflow's will ever settle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from scanloop_plugin.outcome import JobUnavailable, JobWrong
from scanloop_plugin.pods.started import ClusterRefuses, ClusterUnavailable
from scanloop_plugin.runners import RunnerUnavailable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from scanloop_plugin.runners.kubernetes import KubernetesRunner

ALIVE = frozenset({"scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule", "awaiting_input"})
"""States of a task instance that will still settle its pod."""
GRACE = timedelta(minutes=5)
"""A pod younger than this is left alone: its task may be between two states."""
Manifest = Mapping[str, Any]


class ReapPodsOperator(BaseOperator):
    """Delete pods and Jobs whose task instance is over, or no longer there. Skipped where jobs are no pods."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("execution_timeout", timedelta(minutes=5))
        super().__init__(**kwargs)

    def execute(self, context: Context) -> dict[str, int]:
        """Returns how many there are and how many were deleted. Raises JobUnavailable while the cluster does not answer."""
        if (os.environ.get("SCANLOOP_RUNNER") or "local") != "kubernetes":
            raise AirflowSkipException("Jobs are no pods in this deployment.")
        from scanloop_plugin.runners.kubernetes import KubernetesRunner

        try:
            runner = KubernetesRunner()
            managed = runner.api.managed()
            orphans = [(kind, manifest) for kind, manifest in managed if is_orphan(manifest, self._state_of, datetime.now(UTC))]
            refusals = [said for kind, manifest in orphans if (said := self._delete(runner, kind, manifest))]
        except RunnerUnavailable as error:
            raise JobWrong(str(error)) from error
        except ClusterRefuses as error:
            raise JobWrong(str(error)) from error
        except ClusterUnavailable as error:
            raise JobUnavailable(str(error)) from error
        if refusals:
            raise JobWrong(f"{len(refusals)} of {len(orphans)} orphans cannot be deleted: {refusals[0]}")
        return {"found": len(managed), "deleted": len(orphans)}

    def _delete(self, runner: KubernetesRunner, kind: str, manifest: Manifest) -> str:
        """Delete one. Returns why the cluster refuses that; the others go all the same."""
        self.log.warning("Deleting %s %s: no task will settle it.", kind, manifest["metadata"]["name"])
        try:
            runner.api.delete(runner.api.started(kind, manifest), is_cancelled=True)
        except ClusterRefuses as error:
            return str(error)
        return ""

    def _state_of(self, key: Mapping[str, Any]) -> str | None:
        """State of a task instance; None when it is not there. Airflow answers for one DAG run at a time."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        index = int(key["map_index"])
        states = RuntimeTaskInstance.get_task_states(
            dag_id=key["dag_id"], task_ids=[key["task_id"]], run_ids=[key["run_id"]], map_index=None if index < 0 else index
        )
        found = states.get(key["run_id"]) or {}
        state = found.get(key["task_id"] if index < 0 else f"{key['task_id']}_{index}")
        return None if state is None else str(state)


def is_orphan(manifest: Manifest, state_of: Any, now: datetime) -> bool:
    """Whether nobody will settle `manifest`. One that does not say whose it is is nobody's, once it is old enough."""
    from scanloop_plugin.pods.names import TASK

    metadata = manifest["metadata"]
    created = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00")[:19] + "+00:00")
    if metadata.get("deletionTimestamp") or now - created < GRACE:
        return False
    try:
        key = json.loads((metadata.get("annotations") or {})[TASK])
        wanted = {name: key[name] for name in ("dag_id", "task_id", "run_id", "map_index")}
    except (KeyError, ValueError, TypeError):
        return True
    return state_of(wanted) not in ALIVE
