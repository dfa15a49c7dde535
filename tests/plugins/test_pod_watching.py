"""What a trigger makes of logs, clocks, events and an API that asks for patience."""

from __future__ import annotations

import asyncio

import airflow_here  # noqa: F401
import pytest
from kubernetes_api.cluster import Cluster, Fault
from kubernetes_asyncio.client import ApiException
from pod_world import Task, Triggerer, again, sized, until

from scanloop_plugin.causes import Cause
from scanloop_plugin.outcome import JobFailed, JobInterrupted
from scanloop_plugin.pods import log_reader
from scanloop_plugin.pods import trigger as watching
from scanloop_plugin.pods.trigger import MAX_PAUSE_S, MAX_RETRY_AFTER_S, pause_s


@pytest.fixture
def task(cluster: Cluster) -> Task:
    return Task(cluster)


@pytest.fixture
def nodes(cluster: Cluster) -> Task:
    return Task(cluster, sized(nodes=2))


class TestLogs:
    @pytest.mark.parametrize("ahead_s", [3600, 60, -60, -3600])
    def test_no_line_is_lost_though_clocks_differ(self, task: Task, ahead_s: int) -> None:
        task.cluster.node_clock_ahead_s = ahead_s
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        triggerer = Triggerer(deferred)
        lines = [f"line {number}" for number in range(6)]
        for line in lines:
            task.cluster.say(name, line)
            until(lambda line=line: line in triggerer.tail)
        task.cluster.end(name, 1)
        assert triggerer.join()["tail"] == lines

    def test_lines_of_one_moment_are_all_there(self, task: Task) -> None:
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        task.cluster.logs[task.cluster.pod()["metadata"]["uid"]] = [("2026-01-01T00:00:00.000000001Z", text) for text in ("a", "b", "c")]
        task.cluster.end(name, 1)
        assert task.watch(deferred)["tail"] == ["a", "b", "c"]

    def test_a_line_that_a_limit_cuts_is_read_whole(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log_reader, "MAX_LOG_BYTES", 150)
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        lines = [f"line {number} {'x' * 20}" for number in range(12)]
        task.cluster.say(name, *lines)
        triggerer = Triggerer(deferred)
        until(lambda: lines[-1] in triggerer.tail)
        assert triggerer.tail == lines
        task.cluster.end(name, 1)
        triggerer.join()

    def test_the_status_has_the_last_lines_where_the_log_is_lost(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "LOG_PATIENCE_S", 0.0)
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.run(name)
        task.cluster.end(name, 1)
        task.cluster.objects["pods", name]["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = (
            "step 9\nError: no such key"
        )
        with task.cluster.faulty(Fault("GET", "/log", 99, 502)), pytest.raises(JobFailed, match="exit code 1: no such key"):
            task.settle(deferred, task.watch(deferred))

    def test_the_node_that_failed_has_the_last_word(self, nodes: Task) -> None:
        deferred = nodes.begin()
        first, second = nodes.team(deferred)
        nodes.cluster.say(second, "Error: a GPU is gone")
        nodes.cluster.say(first, "step 1", "step 2")
        triggerer = Triggerer(deferred)
        until(lambda: "step 2" in triggerer.tail)
        nodes.cluster.end(second, 1)
        nodes.fail(deferred, "BackoffLimitExceeded")
        assert triggerer.join()["tail"] == ["Error: a GPU is gone"]


class TestWaiting:
    def test_what_keeps_a_node_from_starting_a_pod_is_said_and_ends_it_at_last(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "EVENTS_EVERY_S", 0.05)
        monkeypatch.setattr(watching, "SLOW_START_S", 0.5)
        deferred = task.begin()
        name = deferred.trigger.name
        task.cluster.wait(name, "ContainerCreating")
        task.cluster.tell(task.cluster.pod()["metadata"]["uid"], "FailedMount", 'configmap "ca" not found')
        with pytest.raises(JobInterrupted, match=r'did not start .FailedMount: configmap "ca" not found'):
            task.settle(deferred, task.watch(deferred))
        assert list(task.ends().values()) == ["not_started"]

    def test_a_job_whose_pods_are_refused_says_why_and_waits(self, nodes: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "EVENTS_EVERY_S", 0.05)
        deferred = nodes.begin()
        (job,) = nodes.cluster.listed("jobs", "")
        nodes.cluster.tell(job["metadata"]["uid"], "FailedCreate", "exceeded quota: jobs")
        triggerer = Triggerer(deferred)
        until(lambda: triggerer.trigger.note == "FailedCreate: exceeded quota: jobs")
        assert triggerer.event is None
        triggerer.die()

    def test_a_gated_pod_waits_as_long_as_it_takes(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("EVENTS_EVERY_S", "SLOW_START_S"):
            monkeypatch.setattr(watching, name, 0.0)
        monkeypatch.setattr(watching, "PATIENCE_S", dict.fromkeys(watching.PATIENCE_S, 0.0))
        deferred = task.begin()
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gated by kueue.x-k8s.io/admission"}
        task.cluster.status(deferred.trigger.name, phase="Pending", conditions=[gated])
        triggerer = Triggerer(deferred)
        seen = len(task.cluster.requests)
        until(lambda: len(task.cluster.requests) > seen + 10)
        assert triggerer.event is None
        triggerer.die()


class TestAnApiThatAsksForPatience:
    def test_pauses_grow_up_to_a_limit(self) -> None:
        pauses = [pause_s(3.0, failures, ValueError()) for failures in range(1, 30)]
        assert pauses[0] == 6.0
        assert pauses == sorted(pauses)
        assert pauses[-1] == MAX_PAUSE_S

    @pytest.mark.parametrize(
        ("asked", "given"), [("17", 17.0), ("1", 6.0), ("9999999", MAX_RETRY_AFTER_S), ("Wed, 21 Oct 2026", 6.0), ("", 6.0)]
    )
    def test_it_is_given_the_time_it_asks_for(self, asked: str, given: float) -> None:
        error = ApiException(status=429)
        error.headers = {"Retry-After": asked}
        assert pause_s(3.0, 1, error) == given

    def test_after_an_answer_it_is_asked_as_often_as_before(self) -> None:
        assert pause_s(3.0, 0, None) == 3.0

    def test_what_the_api_asks_for_is_what_the_client_hands_on(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[float] = []
        monkeypatch.setattr(watching, "pause_s", lambda poll_s, failures, error: asked.append(pause_s(poll_s, failures, error)) or 0.01)
        deferred = task.begin()
        task.cluster.run(deferred.trigger.name)
        task.cluster.end(deferred.trigger.name, 1)
        with task.cluster.faulty(Fault("GET", "/pods/", 2, 429, headers={"Retry-After": "7"})):
            assert task.watch(deferred)["cause"] == Cause.FAILED.value
        assert asked == [7.0, 7.0]


@pytest.mark.parametrize("status", [500, 403, 422])
def test_a_cancelled_pod_is_deleted_though_it_cannot_be_marked(task: Task, status: int) -> None:
    deferred = task.begin()
    with task.cluster.faulty(Fault("PATCH", "/pods/", 99, status)):
        asyncio.run(again(deferred).on_kill())
    assert task.cluster.pods() == []
