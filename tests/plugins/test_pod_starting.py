"""What a worker meets when it starts, adopts and deletes pods and Jobs: an API that is busy, pods that are leaving, quotas and admission."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import airflow_here  # noqa: F401
import pytest
from kubernetes_api.cluster import Cluster, Fault
from kubernetes_api.server import kubeconfig
from pod_world import Task, Triggerer, sized, until

from scanloop_plugin.outcome import JobInterrupted, JobWrong


@pytest.fixture
def task(cluster: Cluster) -> Task:
    return Task(cluster)


@pytest.fixture
def nodes(cluster: Cluster) -> Task:
    return Task(cluster, sized(nodes=2))


BUSY = {
    "quota changed meanwhile": (409, 'Operation cannot be fulfilled on resourcequotas "jobs": the object has been modified'),
    "too many requests": (429, "the server has received too many requests and has asked us to try again later"),
    "webhook away": (500, 'Internal error occurred: failed calling webhook "mpod.kb.io": connection refused'),
    "etcd away": (503, "etcdserver: leader changed"),
    "timed out": (504, "Timeout: request did not complete within requested timeout"),
}


class TestABusyApi:
    @pytest.mark.parametrize(("status", "message"), BUSY.values(), ids=BUSY)
    def test_what_passes_is_asked_again_at_once(self, task: Task, status: int, message: str) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", 3, status, message)):
            task.begin()
        assert task.ends() == {}
        assert len(task.cluster.created) == 1

    def test_a_connection_that_is_cut_is_made_again(self, task: Task) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", 2, 0)):
            task.begin()
        assert len(task.cluster.created) == 1

    def test_it_is_given_the_time_it_asks_for(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr("scanloop_plugin.pods.api.time.sleep", slept.append)
        headers = {"Retry-After": "4"}
        with task.cluster.faulty(
            Fault("POST", "/pods", 1, 429, headers=headers), Fault("POST", "/pods", 1, 429, headers={"Retry-After": "999"})
        ):
            task.begin()
        assert slept == [4.0, 10.0]

    @pytest.mark.parametrize("message", ["exceeded quota: jobs, requested: pods=1", "status unknown for quota: jobs, resources: pods"])
    def test_a_quota_without_room_is_another_attempt(self, task: Task, message: str) -> None:
        with (
            task.cluster.faulty(Fault("POST", "/pods", 99, 403, f'pods "x" is forbidden: {message}')),
            pytest.raises(JobInterrupted, match="quota"),
        ):
            task.begin()
        assert task.cluster.requests.count(("POST", "/api/v1/namespaces/scanloop-jobs/pods")) == 1
        assert list(task.ends().values()) == ["refused"]

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (400, 'admission webhook "policy.example" denied the request: no owner label'),
            (403, 'admission webhook "validate.kyverno.svc" denied the request: image not signed'),
            (403, 'pods "x" is forbidden: maximum memory usage per Container is 8Gi, but limit is 16Gi'),
            (422, 'Pod "x" is invalid: spec.containers[0].resources.requests: Invalid value'),
            (413, "Request entity too large: limit is 3145728"),
        ],
    )
    def test_what_is_refused_for_good_is_said_and_never_tried_again(self, task: Task, status: int, message: str) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", 99, status, message)), pytest.raises(JobWrong) as caught:
            task.begin()
        assert message in str(caught.value)
        assert task.cluster.requests.count(("POST", "/api/v1/namespaces/scanloop-jobs/pods")) == 1

    def test_a_pod_that_went_between_refusal_and_reading_is_made_again(self, task: Task) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", 1, 409, 'pods "x" already exists')):
            task.begin()
        assert len(task.cluster.created) == 1

    def test_no_way_to_the_cluster_is_said(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = {"conn_type": "kubernetes", "extra": {"in_cluster": True}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(JobWrong, match="kubernetes_default leads to no cluster"):
            task.begin()


class TestAToken:
    def test_one_that_was_renewed_is_taken_up(self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "kubeconfig"
        at_hand = json.loads(json.loads(os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]["kube_config"])
        server = at_hand["clusters"][0]["cluster"]["server"]

        def issue(token: str) -> None:
            content: dict[str, Any] = kubeconfig(server)
            content["users"][0]["user"]["token"] = task.cluster.token = token
            file.write_text(json.dumps(content))

        issue("first")
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(file)}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        task.cluster.say(name, "step 1")
        triggerer = Triggerer(deferred)
        until(lambda: "step 1" in triggerer.tail)
        issue("second")
        task.cluster.say(name, "step 2")
        until(lambda: "step 2" in triggerer.tail)
        task.cluster.end(name, 1)
        triggerer.join()


class TestLeaving:
    """A worker finds a pod that is being deleted and that nobody has settled."""

    def _leaving(self, task: Task, **status: Any) -> str:
        name: str = task.begin().trigger.name
        task.cluster.run(name)
        if status:
            task.cluster.status(name, **status)
        task.cluster.patch("pods", name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        return name

    @pytest.mark.parametrize(
        ("kind", "reason", "cause"),
        [
            ("DisruptionTarget", "PreemptionByScheduler", "preempted"),
            ("DisruptionTarget", "DeletionByTaintManager", "node_lost"),
            ("TerminationTarget", "WorkloadEvictedDueToPreempted", "preempted"),
        ],
    )
    def test_why_it_leaves_is_counted(self, task: Task, kind: str, reason: str, cause: str) -> None:
        name = self._leaving(task, conditions=[{"type": kind, "status": "True", "reason": reason}])
        assert task.begin(2).trigger.name != name
        assert list(task.ends().values()) == [cause]

    def test_what_it_said_itself_is_counted(self, task: Task) -> None:
        name: str = task.begin().trigger.name
        task.cluster.run(name)
        task.cluster.end(name, 75)
        task.cluster.patch(
            "pods", name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kueue.x-k8s.io/managed"]}}
        )
        task.begin(2)
        assert list(task.ends().values()) == ["unavailable"]

    def test_a_success_that_a_finalizer_holds_is_settled(self, task: Task) -> None:
        task.receipt()
        first = task.begin()
        task.cluster.run(first.trigger.name)
        task.cluster.end(first.trigger.name, 0)
        task.cluster.patch("pods", first.trigger.name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        second = task.begin(2)
        assert task.settle(second, task.watch(second), 2)["model_id"]
        assert len(task.cluster.created) == 1


class TestTheServiceOfAJob:
    def test_a_worker_that_died_before_making_it_is_followed_by_one_that_does(self, nodes: Task) -> None:
        with nodes.cluster.faulty(Fault("POST", "/services", 99, 503)), pytest.raises(JobInterrupted):
            nodes.begin(1)
        assert nodes.cluster.listed("services", "") == []
        deferred = nodes.begin(2)
        (service,) = nodes.cluster.listed("services", "")
        (job,) = nodes.cluster.listed("jobs", "")
        assert service["metadata"]["name"] == job["metadata"]["name"] == deferred.trigger.name
        assert service["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]

    def test_one_that_is_there_is_left_alone(self, nodes: Task) -> None:
        nodes.begin(1)
        nodes.begin(2)
        assert len(nodes.cluster.listed("services", "")) == 1


@pytest.mark.parametrize("status", [500, 403, 0])
def test_what_a_worker_cancels_is_deleted_though_it_cannot_be_marked(task: Task, status: int) -> None:
    from airflow.sdk.exceptions import TaskDeferred
    from pod_world import context

    operator = task.operator()
    with pytest.raises(TaskDeferred):
        operator.execute(context())
    with task.cluster.faulty(Fault("PATCH", "/pods/", 99, status)):
        operator.on_kill()
    assert task.cluster.pods() == []
