"""What is left in the cluster is cleared away; what a task will still settle is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import airflow_here  # noqa: F401
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from kubernetes_api.cluster import Cluster, Fault
from pod_world import Task, context, sized

from scanloop_plugin.outcome import JobUnavailable, JobWrong
from scanloop_plugin.pods.names import TASK
from scanloop_plugin.reaper import ALIVE, GRACE, ReapPodsOperator, is_orphan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = {"dag_id": "train_detector", "task_id": "train", "run_id": "r", "map_index": -1}


def _manifest(age: timedelta = timedelta(hours=1), **annotations: str) -> dict[str, Any]:
    created = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"name": "p", "creationTimestamp": created, "annotations": {TASK: json.dumps(KEY)} | annotations}}


@pytest.mark.parametrize("state", sorted(ALIVE))
def test_a_task_that_goes_on_keeps_its_pod(state: str) -> None:
    assert not is_orphan(_manifest(), lambda key: state, NOW)


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed", None])
def test_a_task_that_is_over_or_gone_leaves_an_orphan(state: str | None) -> None:
    assert is_orphan(_manifest(), lambda key: state, NOW)


@pytest.mark.parametrize("annotation", ["", "[]", "{}", "not json"])
def test_a_pod_that_is_nobodys_is_an_orphan(annotation: str) -> None:
    assert is_orphan(_manifest(**{TASK: annotation}), lambda key: "running", NOW)


def test_a_young_pod_is_left_alone() -> None:
    assert not is_orphan(_manifest(GRACE - timedelta(seconds=1)), lambda key: None, NOW)


def test_a_pod_that_is_going_already_is_left_alone() -> None:
    manifest = _manifest()
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T11:59:00Z"
    assert not is_orphan(manifest, lambda key: None, NOW)


class TestOperator:
    def _old(self, cluster: Cluster) -> None:
        for one in cluster.objects.values():
            one["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"

    def _reap(self, monkeypatch: pytest.MonkeyPatch, states: dict[str, str | None]) -> dict[str, int]:
        monkeypatch.setattr(ReapPodsOperator, "_state_of", lambda self, key: states.get(key["run_id"]))
        return ReapPodsOperator(task_id="reap_pods").execute(context())

    def test_orphans_go_and_others_stay(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        kept, pod, job = Task(cluster, run_id="kept"), Task(cluster, run_id="over"), Task(cluster, sized(nodes=2), run_id="gone")
        names = [task.begin().trigger.name for task in (kept, pod, job)]
        self._old(cluster)
        assert self._reap(monkeypatch, {"kept": "deferred", "over": "failed"}) == {"found": 3, "deleted": 2}
        assert sorted(cluster.objects) == [("pods", names[0])]

    def test_one_that_cannot_be_deleted_keeps_no_other(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [Task(cluster, run_id=run_id).begin().trigger.name for run_id in ("a", "b", "c")]
        self._old(cluster)
        with cluster.faulty(Fault("DELETE", names[0], 9, status=403)), pytest.raises(JobWrong, match="1 of 3 orphans cannot be deleted"):
            self._reap(monkeypatch, {})
        assert [pod["metadata"]["name"] for pod in cluster.pods()] == [names[0]]

    def test_one_machine_has_nothing_to_clear_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANLOOP_RUNNER", "local")
        with pytest.raises(AirflowSkipException):
            ReapPodsOperator(task_id="reap_pods").execute(context())

    def test_a_cluster_that_is_away_is_tried_again(self, cluster: Cluster) -> None:
        with cluster.faulty(Fault("GET", "/pods", 9, status=503)), pytest.raises(JobUnavailable):
            ReapPodsOperator(task_id="reap_pods").execute(context())


def test_the_delay_before_a_retry_is_that_of_its_cause() -> None:
    from airflow.sdk.definitions.retry_policy import RetryAction

    from scanloop_plugin.outcome import JobInterrupted
    from scanloop_plugin.retry import CauseRetryPolicy

    failure = JobInterrupted("preempted")
    failure.delay_s = 77
    decision = CauseRetryPolicy().evaluate(failure, 1, 40)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=77))
    assert CauseRetryPolicy().evaluate(ValueError(), 1, 40).action is RetryAction.DEFAULT


@pytest.mark.parametrize(
    ("result", "link"),
    [({"experiment_url": "https://clearml.example/x"}, "https://clearml.example/x"), ({"experiment_url": None}, ""), ({}, ""), (None, ""),
     ({"experiment_url": "javascript:alert(1)"}, "")],
)  # fmt: skip
def test_a_task_links_to_its_experiment(monkeypatch: pytest.MonkeyPatch, result: Any, link: str) -> None:
    from airflow.sdk.bases.xcom import BaseXCom

    from scanloop_plugin.links import ExperimentLink

    monkeypatch.setattr(BaseXCom, "get_value", lambda **_: result)
    assert ExperimentLink().get_link(None, ti_key=None) == link  # type: ignore[arg-type]
