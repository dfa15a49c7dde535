"""A job as a pod, through the operator, the trigger and a Kubernetes API over HTTP: what may happen to workers, triggerers, pods and the API."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import airflow_here  # noqa: F401
import pytest
from airflow.sdk.exceptions import TaskDeferred
from kubernetes_api.cluster import Cluster, Fault
from pod_world import WAIT_S, Task, Triggerer, context, sized

from scanloop_plugin.causes import BUDGETS, Cause
from scanloop_plugin.outcome import JobFailed, JobGivenUp, JobInterrupted, JobSkipped, JobUnavailable, JobWrong, ReceiptMissing
from scanloop_plugin.pods.names import LOGGED_UNTIL
from scanloop_plugin.pods.status import CANCELLED
from scanloop_plugin.pods.trigger import STUCK_S


@pytest.fixture
def task(cluster: Cluster) -> Task:
    return Task(cluster)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def _ended(task: Task, exit_code: int, reason: str = "", **status: Any) -> Callable[[str], None]:
    def play(name: str) -> None:
        task.cluster.run(name)
        task.cluster.say(name, "step 1", f"Error: ended with {exit_code}" if exit_code else "done")
        task.cluster.end(name, exit_code, reason, **status)

    return play


class TestSuccess:
    def test_the_result_is_that_of_the_receipt(self, task: Task) -> None:
        task.receipt(metrics={"ap50": 0.9})
        assert task.attempt(_ended(task, 0))["metrics"] == {"ap50": 0.9}
        assert task.cluster.pods() == []
        assert task.ends() == {}

    def test_lines_of_the_pod_are_lines_of_the_task(self, task: Task, caplog: pytest.LogCaptureFixture) -> None:
        task.receipt()
        deferred = task.begin()
        _ended(task, 0)(deferred.trigger.name)
        with caplog.at_level(logging.INFO):
            triggerer = Triggerer(deferred)
            triggerer.join()
        assert triggerer.tail == ["step 1", "done"]

    def test_a_pod_that_vanished_after_its_end_was_seen_counts_by_its_receipt(self, task: Task) -> None:
        task.receipt()
        deferred = task.begin()
        _ended(task, 0)(deferred.trigger.name)
        event = task.watch(deferred)
        task.cluster.vanish(deferred.trigger.name)
        assert task.settle(deferred, event)["model_id"]

    @pytest.mark.parametrize("status", [500, 502, 0])
    def test_an_end_counts_though_the_log_is_lost_with_its_node(self, task: Task, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        """The API asks the node's kubelet for a log, and answers 500 or 502 for ever when that is gone."""
        monkeypatch.setattr("scanloop_plugin.pods.trigger.LOG_PATIENCE_S", 0.2)
        deferred = task.begin()
        _ended(task, 137, phase="Failed")(deferred.trigger.name)
        task.cluster.disrupt(deferred.trigger.name, "DeletionByTaintManager")
        with task.cluster.faulty(Fault("GET", "/log", 1_000_000, status)):
            event = task.watch(deferred)
        assert (event["cause"], event["tail"]) == (Cause.NODE_LOST.value, [])

    @pytest.mark.parametrize(("reason", "cause"), [("", Cause.NODE_LOST), ("EvictionByEvictionAPI", Cause.EVICTED)])
    def test_a_pod_that_cannot_end_because_its_node_is_gone_is_not_waited_for_for_ever(self, task: Task, reason: str, cause: Cause) -> None:
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        if reason:
            task.cluster.disrupt(name, reason)
        asked_at = datetime.now(UTC) - timedelta(seconds=STUCK_S)
        self._mark_deleted(task, name, asked_at + timedelta(seconds=60))
        triggerer = Triggerer(deferred)
        time.sleep(0.3)
        assert triggerer.event is None
        self._mark_deleted(task, name, asked_at - timedelta(seconds=1))
        with pytest.raises(JobInterrupted):
            task.settle(deferred, triggerer.join())
        assert list(task.ends().values()) == [cause.value]
        assert task.begin(2).trigger.name != name

    @staticmethod
    def _mark_deleted(task: Task, name: str, when: datetime) -> None:
        task.cluster.patch("pods", name, {"metadata": {"deletionTimestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ")}})

    def test_a_log_that_comes_late_is_waited_for(self, task: Task) -> None:
        deferred = task.begin()
        _ended(task, 0)(deferred.trigger.name)
        with task.cluster.faulty(Fault("GET", "/log", 3, 500)):
            assert task.watch(deferred)["tail"] == ["step 1", "done"]


class TestNoFalseSuccess:
    def test_success_without_a_receipt_is_none(self, task: Task) -> None:
        with pytest.raises(ReceiptMissing):
            task.attempt(_ended(task, 0))
        assert list(task.ends().values()) == ["no_receipt"]

    def test_and_is_given_up_in_the_end(self, task: Task) -> None:
        for number in range(1, BUDGETS[Cause.NO_RECEIPT].retries + 1):
            with pytest.raises(ReceiptMissing):
                task.attempt(_ended(task, 0), number)
        with pytest.raises(JobGivenUp, match="receipt"):
            task.attempt(_ended(task, 0), number + 1)

    def test_a_pod_that_is_gone_is_no_success(self, task: Task) -> None:
        task.receipt()

        def play(name: str) -> None:
            task.cluster.run(name)
            task.cluster.vanish(name)

        with pytest.raises(JobInterrupted, match="somebody deleted it"):
            task.attempt(play)

    def test_another_pod_under_the_same_name_is_not_taken_for_it(self, task: Task) -> None:
        deferred = task.begin()
        name = deferred.trigger.name
        other = dict(task.cluster.pod())
        task.cluster.vanish(name)
        task.cluster.create("pods", {key: value for key, value in other.items() if key != "status"})
        task.cluster.end(name, 0)
        assert task.watch(deferred)["cause"] == "deleted"


ENDS: dict[str, tuple[Callable[[Task, str], None], type[Exception], str, str | None]] = {
    "code": (lambda task, name: task.cluster.end(name, 1), JobFailed, "exit code 1", "failed"),
    "arguments": (lambda task, name: task.cluster.end(name, 64), JobWrong, "cannot be run as asked", None),
    "data": (lambda task, name: task.cluster.end(name, 65), JobWrong, "wrong data", None),
    "unavailable": (lambda task, name: task.cluster.end(name, 75), JobUnavailable, "has to wait", "unavailable"),
    "skipped": (lambda task, name: task.cluster.end(name, 99), JobSkipped, "nothing to do", None),
    "memory": (lambda task, name: task.cluster.end(name, 137, "OOMKilled"), JobFailed, "more memory than it has", "out_of_memory"),
    "evicted": (lambda task, name: task.cluster.end(name, 137, reason="", phase="Failed", conditions=[
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]), JobInterrupted, "evicted", "evicted"),
    "preempted and gone": (lambda task, name: task.cluster.disrupt(name, "PreemptionByScheduler"), JobInterrupted, "preempted", "preempted"),
    "node lost and gone": (lambda task, name: task.cluster.disrupt(name, "DeletionByTaintManager"), JobInterrupted, "lost its node", "node_lost"),
    "deadline": (lambda task, name: task.cluster.status(name, phase="Failed", reason="DeadlineExceeded"), JobFailed, "all the time", "deadline"),
}  # fmt: skip


class TestEndsByName:
    @pytest.mark.parametrize(("act", "error", "words", "cause"), ENDS.values(), ids=ENDS)
    def test_each_is_told_apart(
        self, task: Task, act: Callable[[Task, str], None], error: type[Exception], words: str, cause: str | None
    ) -> None:
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        task.cluster.say(name, "step 1", "Error: the last words")
        triggerer = Triggerer(deferred)
        _until(lambda: "step 1" in triggerer.tail)
        act(task, name)
        if task.cluster.pod()["status"]["phase"] != "Failed":
            seen = len(task.cluster.requests)
            _until(lambda: len(task.cluster.requests) > seen + 4)
            task.cluster.vanish(name)
        with pytest.raises(error, match=words) as caught:
            task.settle(deferred, triggerer.join())
        assert "the last words" in str(caught.value)
        assert list(task.ends().values()) == ([cause] if cause else [])
        assert task.cluster.pods() == []

    @pytest.mark.parametrize(("reason", "cause"), [("ImagePullBackOff", "image_pull"), ("CreateContainerConfigError", "not_started")])
    def test_what_never_starts_ends_when_patience_does(self, task: Task, monkeypatch: pytest.MonkeyPatch, reason: str, cause: str) -> None:
        from scanloop_plugin.pods import trigger

        monkeypatch.setattr(trigger, "PATIENCE_S", dict.fromkeys(trigger.PATIENCE_S, 0.05))
        with pytest.raises(JobInterrupted, match=f"{reason}: no such thing"):
            task.attempt(lambda name: task.cluster.wait(name, reason, "no such thing"))
        assert list(task.ends().values()) == [cause]
        assert task.cluster.pods() == []

    def test_what_starts_late_is_waited_for(self, task: Task) -> None:
        task.receipt()
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.wait(name, "ImagePullBackOff")
        triggerer = Triggerer(deferred)
        seen = len(task.cluster.requests)
        _until(lambda: len(task.cluster.requests) > seen + 5)
        _ended(task, 0)(name)
        assert task.settle(deferred, triggerer.join())["model_id"]


class TestBudgets:
    @pytest.mark.parametrize("cause", [Cause.FAILED, Cause.PREEMPTED, Cause.OUT_OF_MEMORY])
    def test_each_cause_has_its_own(self, task: Task, cause: Cause) -> None:
        acts = {
            Cause.FAILED: _ended(task, 1),
            Cause.PREEMPTED: _ended(
                task, 143, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
            ),
            Cause.OUT_OF_MEMORY: _ended(task, 137, "OOMKilled"),
        }
        for number in range(1, BUDGETS[cause].retries + 1):
            with pytest.raises(JobFailed):
                task.attempt(acts[cause], number)
        with pytest.raises(JobGivenUp, match=f"{number + 1} attempts ended so"):
            task.attempt(acts[cause], number + 1)

    def test_preemptions_do_not_use_up_the_budget_of_the_code(self, task: Task) -> None:
        disrupted = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
        for number in range(1, 6):
            with pytest.raises(JobInterrupted):
                task.attempt(_ended(task, 143, conditions=disrupted), number)
        with pytest.raises(JobFailed) as caught:
            task.attempt(_ended(task, 1), 6)
        assert (caught.value.cause, caught.value.delay_s) == (Cause.FAILED, BUDGETS[Cause.FAILED].delay_s)

    def test_after_running_out_of_memory_it_is_given_more(self, task: Task) -> None:
        with pytest.raises(JobFailed):
            task.attempt(_ended(task, 137, "OOMKilled"))
        task.begin(2)
        assert task.cluster.pod()["spec"]["containers"][0]["resources"]["limits"]["memory"] == str(16 << 30)


class TestWorkers:
    def test_a_worker_that_died_is_followed_by_one_that_adopts(self, task: Task) -> None:
        task.receipt()
        first = task.begin(1)
        second = task.begin(2)
        assert first.kwargs == second.kwargs
        _ended(task, 0)(second.trigger.name)
        assert task.settle(second, task.watch(second), 2)["model_id"]
        assert task.cluster.created == [f"pods/{first.trigger.name}"]

    @pytest.mark.parametrize("pairs", [20])
    def test_two_workers_at_once_start_one_pod(self, cluster: Cluster, pairs: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as workers:
            for number in range(pairs):
                task = Task(cluster, run_id=f"run-{number}")
                started = [deferred.kwargs["started"] for deferred in workers.map(task.begin, (1, 2))]
                assert started[0] == started[1]
        assert len(cluster.created) == pairs

    @pytest.mark.parametrize("lost", [1, 3])
    def test_an_answer_that_was_lost_starts_nothing_twice(self, task: Task, lost: int) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", lost, status=-1)):
            task.begin(1)
        task.begin(2)
        assert len(task.cluster.created) == 1

    def test_answers_that_are_always_lost_start_nothing_twice(self, task: Task) -> None:
        with task.cluster.faulty(Fault("POST", "/pods", 99, status=-1)), pytest.raises(JobFailed):
            task.begin(1)
        task.begin(2)
        assert len(task.cluster.created) == 1

    def test_a_pod_that_ended_while_nobody_watched_is_settled(self, task: Task) -> None:
        task.receipt()
        first = task.begin(1)
        _ended(task, 0)(first.trigger.name)
        second = task.begin(2)
        assert task.settle(second, task.watch(second), 2)["model_id"]
        assert len(task.cluster.created) == 1

    def test_a_worker_that_died_between_noting_and_deleting_leaves_nothing_to_adopt(self, task: Task) -> None:
        deferred = task.begin(1)
        _ended(task, 1)(deferred.trigger.name)
        with task.cluster.faulty(Fault("DELETE", "/pods", 99)), pytest.raises(JobFailed):
            task.settle(deferred, task.watch(deferred), 1)
        assert len(task.cluster.pods()) == 1
        second = task.begin(2)
        assert second.trigger.name != deferred.trigger.name
        assert [pod["metadata"]["name"] for pod in task.cluster.pods()] == [second.trigger.name]

    def test_two_pods_with_the_labels_of_one_work_become_one(self, task: Task) -> None:
        first = task.begin(1)
        double = {key: value for key, value in task.cluster.pod().items() if key != "status"}
        double["metadata"] = {"name": "double", "labels": double["metadata"]["labels"] | {"scanloop.io/generation": "7"}}
        task.cluster.create("pods", double)
        second = task.begin(2)
        assert second.trigger.name == first.trigger.name == task.cluster.pod()["metadata"]["name"]

    def test_a_worker_that_settles_late_counts_nothing_twice(self, task: Task) -> None:
        deferred = task.begin(1)
        _ended(task, 1)(deferred.trigger.name)
        event = task.watch(deferred)
        for _ in range(2):
            with pytest.raises(JobFailed):
                task.settle(deferred, event, 1)
        assert list(task.ends().values()) == ["failed"]


def _watched_until_marked(task: Task, deferred: TaskDeferred, line: str) -> list[str]:
    """A triggerer hands on `line`, notes that on the pod, and dies. Returns all it handed on."""
    triggerer = Triggerer(deferred)
    _until(lambda: line in triggerer.tail)
    _until(lambda: task.cluster.pod()["metadata"]["annotations"].get(LOGGED_UNTIL) == triggerer.logged_until)
    triggerer.die()
    return triggerer.tail


class TestTriggerers:
    def test_one_that_died_is_followed_by_one_that_goes_on(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scanloop_plugin.pods.log_reader.MARK_EVERY_S", 0.0)
        task.receipt()
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        for number in range(5):
            task.cluster.say(name, f"line {number}")
            assert _watched_until_marked(task, deferred, f"line {number}") == [f"line {number}"]
        task.cluster.end(name, 0)
        event = task.watch(deferred)
        assert event["tail"] == []
        task.settle(deferred, event)
        assert len(task.cluster.created) == 1

    def test_its_death_leaves_the_pod_alone(self, task: Task) -> None:
        deferred = task.begin()
        task.cluster.run(deferred.trigger.name)
        triggerer = Triggerer(deferred)
        _until(lambda: ("GET", f"/api/v1/namespaces/scanloop-jobs/pods/{deferred.trigger.name}") in task.cluster.requests)
        triggerer.die()
        assert task.cluster.pod()["status"]["phase"] == "Running"

    @pytest.mark.parametrize("status", [0, 500, 429, 401], ids=["cut", "500", "429", "401"])
    def test_an_api_that_is_away_is_asked_again(self, task: Task, status: int) -> None:
        task.receipt()
        deferred = task.begin()
        _ended(task, 0)(deferred.trigger.name)
        with task.cluster.faulty(Fault("GET", "/pods/", 6, status=status)):
            assert task.settle(deferred, task.watch(deferred))["model_id"]

    @pytest.mark.parametrize("status", [0, 404, 500], ids=["cut", "404", "500"])
    def test_a_log_that_is_away_is_read_later_and_its_error_is_no_line(self, task: Task, status: int) -> None:
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        task.cluster.say(name, "step 1")
        with task.cluster.faulty(Fault("GET", "/log", 3, status=status)):
            triggerer = Triggerer(deferred)
            _until(lambda: "step 1" in triggerer.tail)
        task.cluster.end(name, 1)
        assert triggerer.join()["tail"] == ["step 1"]

    def test_events_that_may_not_be_read_end_no_watch(self, task: Task) -> None:
        deferred = task.begin()
        task.cluster.vanish(deferred.trigger.name)
        with task.cluster.faulty(Fault("GET", "/events", 99, status=403)):
            assert task.watch(deferred)["cause"] == "deleted"


class TestCancel:
    def test_a_person_ends_a_deferred_task(self, task: Task) -> None:
        import asyncio

        from pod_world import again

        deferred = task.begin()
        task.cluster.watchers.append(lambda kind, manifest: None)  # a kubelet that takes its time
        task.cluster.run(deferred.trigger.name)
        asyncio.run(again(deferred).on_kill())
        pod = task.cluster.pod()
        assert pod["metadata"]["annotations"][CANCELLED] == "true"
        assert pod["metadata"]["deletionTimestamp"]

    def test_after_a_cancel_the_next_attempt_starts_anew(self, task: Task) -> None:
        import asyncio

        from pod_world import again

        deferred = task.begin()
        task.cluster.watchers.append(lambda kind, manifest: None)
        task.cluster.run(deferred.trigger.name)
        asyncio.run(again(deferred).on_kill())
        second = task.begin(2)
        assert second.trigger.name != deferred.trigger.name
        assert list(task.ends().values()) == ["cancelled"]

    def test_a_worker_is_told_to_end_what_it_started(self, task: Task) -> None:
        operator = task.operator()
        with pytest.raises(TaskDeferred):
            operator.execute(context())
        operator.on_kill()
        assert task.cluster.pods() == []


class TestRefusals:
    @pytest.mark.parametrize("status", [500, 503, 429, 0], ids=["500", "503", "429", "cut"])
    def test_a_cluster_that_is_away_is_tried_again(self, task: Task, status: int) -> None:
        with task.cluster.faulty(Fault("GET", "/pods", 99, status=status)), pytest.raises(JobInterrupted, match="not taken by the cluster"):
            task.begin()
        assert list(task.ends().values()) == ["refused"]

    def test_a_full_quota_is_tried_again(self, task: Task) -> None:
        fault = Fault("POST", "/pods", 99, status=403, message='pods "x" is forbidden: exceeded quota: jobs, requested: limits.memory=8Gi')
        with task.cluster.faulty(fault), pytest.raises(JobInterrupted, match="exceeded quota"):
            task.begin()

    def test_a_missing_permission_is_said_and_never_tried_again(self, task: Task) -> None:
        fault = Fault("POST", "/pods", 99, status=403, message='User "airflow" cannot create resource "pods"')
        with task.cluster.faulty(fault), pytest.raises(JobWrong, match="cannot create resource"):
            task.begin()

    def test_a_catalog_that_is_away_starts_nothing(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANLOOP_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        with pytest.raises(JobUnavailable, match="How earlier attempts ended cannot be read"):
            task.begin()
        assert task.cluster.created == []


class TestSeveralNodes:
    @pytest.fixture
    def nodes(self, cluster: Cluster) -> Task:
        return Task(cluster, sized(nodes=2))

    def _pods(self, task: Task, job: str) -> list[str]:
        names = [f"{job}-{index}-abcde" for index in range(2)]
        template = task.cluster.read("jobs", job)["spec"]["template"]
        for index, name in enumerate(names):
            labels = template["metadata"]["labels"] | {
                "batch.kubernetes.io/job-name": job,
                "batch.kubernetes.io/job-completion-index": str(index),
            }
            task.cluster.create(
                "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": template["spec"]}
            )
            task.cluster.run(name)
        return names

    def _ended(self, task: Task, job: str, kind: str, reason: str = "") -> None:
        task.cluster.objects["jobs", job]["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason}]}

    def test_success_is_the_jobs(self, nodes: Task) -> None:
        nodes.receipt()
        deferred = nodes.begin()
        names = self._pods(nodes, deferred.trigger.name)
        triggerer = Triggerer(deferred)
        nodes.cluster.say(names[0], "from the first")
        nodes.cluster.end(names[0], 0)
        _until(lambda: "from the first" in triggerer.tail)
        nodes.cluster.end(names[1], 0)
        self._ended(nodes, deferred.trigger.name, "Complete")
        assert nodes.settle(deferred, triggerer.join())["model_id"]
        assert nodes.cluster.listed("jobs", "") == []

    def test_the_first_that_failed_says_why(self, nodes: Task) -> None:
        deferred = nodes.begin()
        names = self._pods(nodes, deferred.trigger.name)
        nodes.cluster.say(names[1], "Error: no memory here")
        nodes.cluster.end(names[1], 137, "OOMKilled")
        nodes.cluster.end(names[0], 75)
        self._ended(nodes, deferred.trigger.name, "Failed", "BackoffLimitExceeded")
        with pytest.raises(JobFailed, match="more memory than it has") as caught:
            nodes.settle(deferred, nodes.watch(deferred))
        assert "no memory here" in str(caught.value)

    @pytest.mark.parametrize(
        ("message", "cause"),
        [
            ("Pod a/b has condition DisruptionTarget matching FailJob rule at index 0", "evicted"),
            ("Job has reached the limit", "node_lost"),
        ],
    )
    def test_when_the_pod_is_gone_the_job_says_why(self, nodes: Task, message: str, cause: str) -> None:
        deferred = nodes.begin()
        name = deferred.trigger.name
        for pod in self._pods(nodes, name):
            nodes.cluster.vanish(pod)
        condition = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": message}
        nodes.cluster.objects["jobs", name]["status"] = {"conditions": [condition]}
        assert nodes.watch(deferred)["cause"] == cause

    def test_the_service_goes_with_the_job(self, nodes: Task) -> None:
        deferred = nodes.begin()
        (service,) = nodes.cluster.listed("services", "")
        assert service["metadata"]["name"] == deferred.trigger.name
        nodes.cluster.delete("jobs", deferred.trigger.name)
        assert nodes.cluster.listed("services", "") == []

    def test_it_is_adopted_as_a_pod_is(self, nodes: Task) -> None:
        assert nodes.begin(1).kwargs == nodes.begin(2).kwargs
        assert len([name for name in nodes.cluster.created if name.startswith("jobs/")]) == 1

    def test_one_machine_has_no_several_nodes(self, nodes: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANLOOP_RUNNER", "local")
        with pytest.raises(JobWrong, match="2 nodes; this deployment has one machine"):
            nodes.begin()
