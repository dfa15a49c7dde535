"""From what Kubernetes says of a pod to why it ended."""

from __future__ import annotations

from typing import Any, ClassVar

import airflow_here  # noqa: F401
import pytest

from scanloop_plugin.causes import BUDGETS, RETRIES, Cause, delay_before_next
from scanloop_plugin.pods.names import label_value
from scanloop_plugin.pods.status import CANCELLED, gone, last_words, pod_state


def _pod(
    phase: str, *, terminated: dict[str, Any] | None = None, waiting: dict[str, Any] | None = None, running: bool = False, **status: Any
) -> dict[str, Any]:
    state = {"terminated": terminated} if terminated else {"waiting": waiting} if waiting else {"running": {}} if running else None
    if state:
        status["containerStatuses"] = [{"name": "side", "state": {"running": {}}}, {"name": "job", "state": state}]
    return {"metadata": {"name": "p", "uid": "u"}, "status": {"phase": phase, **status}}


def _disrupted(reason: str, kind: str = "DisruptionTarget", message: str = "m") -> list[dict[str, str]]:
    return [{"type": kind, "status": "True", "reason": reason, "message": message}]


def _init(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "mesh-init", "state": state}]


QUEUE = "TerminationTarget"
"""Condition that Kueue sets on a pod that it stops."""
PREEMPTED_BY_KUEUE = "Preempted to accommodate a workload (UID: 1, JobUID: 2) due to prioritization in the ClusterQueue"


ENDS = {
    "success": (_pod("Succeeded", terminated={"exitCode": 0}), Cause.DONE),
    "success before its pod": (_pod("Running", terminated={"exitCode": 0}), Cause.DONE),
    "wrong arguments": (_pod("Failed", terminated={"exitCode": 64, "reason": "Error"}), Cause.WRONG_ARGUMENTS),
    "wrong data": (_pod("Failed", terminated={"exitCode": 65, "reason": "Error"}), Cause.WRONG_DATA),
    "unavailable": (_pod("Failed", terminated={"exitCode": 75, "reason": "Error"}), Cause.UNAVAILABLE),
    "nothing to do": (_pod("Failed", terminated={"exitCode": 99, "reason": "Error"}), Cause.NOTHING_TO_DO),
    "its own verdict though evicted": (
        _pod("Failed", terminated={"exitCode": 65}, conditions=_disrupted("EvictionByEvictionAPI")), Cause.WRONG_DATA,
    ),
    "a mistake in the code": (_pod("Failed", terminated={"exitCode": 1, "reason": "Error"}), Cause.FAILED),
    "out of memory": (_pod("Failed", terminated={"exitCode": 137, "reason": "OOMKilled"}), Cause.OUT_OF_MEMORY),
    "deadline": (_pod("Failed", reason="DeadlineExceeded", message="Pod was active on the node longer"), Cause.DEADLINE),
    "evicted for disk": (_pod("Failed", terminated={"exitCode": 137}, reason="Evicted", message="The node was low on"), Cause.EVICTED),
    "evicted through the API": (_pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("EvictionByEvictionAPI")), Cause.EVICTED),
    "preempted": (_pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("PreemptionByScheduler")), Cause.PREEMPTED),
    "node tainted": (_pod("Failed", conditions=_disrupted("DeletionByTaintManager")), Cause.NODE_LOST),
    "pod of a dead node collected": (_pod("Failed", conditions=_disrupted("DeletionByPodGC")), Cause.NODE_LOST),
    "node shut down": (_pod("Failed", reason="Terminated", message="Pod was terminated in response to imminent node shutdown."), Cause.NODE_LOST),
    "status lost": (_pod("Failed", terminated={"exitCode": 137, "reason": "ContainerStatusUnknown"}), Cause.NODE_LOST),
    "kubelet has no such device left": (_pod("Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough resource"), Cause.REFUSED),
    "kubelet refuses": (_pod("Failed", reason="OutOfcpu", message="Node didn't have enough resource"), Cause.REFUSED),
    "no such command": (_pod("Failed", terminated={"exitCode": 127, "reason": "StartError"}), Cause.NOT_STARTED),
    "its own success though something beside it failed": (
        _pod("Failed", terminated={"exitCode": 0, "reason": "Completed"}), Cause.DONE,
    ),
    "ended by the deadline, whatever it said": (_pod("Failed", terminated={"exitCode": 0}, reason="DeadlineExceeded"), Cause.DEADLINE),
    "preempted by Kueue": (
        _pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("WorkloadEvictedDueToPreempted", QUEUE)), Cause.PREEMPTED,
    ),
    "preempted by an older Kueue": (
        _pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("StoppedByKueue", QUEUE, PREEMPTED_BY_KUEUE)), Cause.PREEMPTED,
    ),
    "evicted by Kueue": (
        _pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("WorkloadEvictedDueToPodsReadyTimeout", QUEUE)), Cause.EVICTED,
    ),
    "disrupted by another controller": (_pod("Failed", terminated={"exitCode": 143}, conditions=_disrupted("DrainByProvider")), Cause.EVICTED),
    "evicted by the kubelet": (
        _pod("Failed", terminated={"exitCode": 137}, reason="Evicted", message="Container job exceeded its local ephemeral storage limit",
             conditions=_disrupted("TerminationByKubelet")), Cause.EVICTED,
    ),
    "ended by the kubelet of a node that is shut down": (
        _pod("Failed", terminated={"exitCode": 143}, reason="Terminated", conditions=_disrupted("TerminationByKubelet")), Cause.NODE_LOST,
    ),
    "ended by the kubelet for a critical pod": (
        _pod("Failed", terminated={"exitCode": 143}, reason="Preempting", conditions=_disrupted("TerminationByKubelet")), Cause.PREEMPTED,
    ),
    "device plug-in refuses": (
        _pod("Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to no healthy devices present"), Cause.REFUSED,
    ),
    "kubelet refuses for a reason of its own": (_pod("Failed", reason="NodePorts", message="Pod was rejected: ports"), Cause.REFUSED),
    "init container failed": (
        _pod("Failed", waiting={"reason": "PodInitializing"}, initContainerStatuses=_init(terminated={"exitCode": 1, "reason": "Error"})),
        Cause.NOT_STARTED,
    ),
    "killed without a reason": (_pod("Failed", terminated={"exitCode": 137}), Cause.INTERRUPTED),
    "out of memory in a child": (_pod("Failed", terminated={"exitCode": 1, "reason": "OOMKilled"}), Cause.OUT_OF_MEMORY),
    "killed by somebody": (_pod("Failed", terminated={"exitCode": 137, "reason": "Error"}), Cause.INTERRUPTED),
}  # fmt: skip


@pytest.mark.parametrize(("pod", "cause"), ENDS.values(), ids=ENDS)
def test_each_end_has_its_name(pod: dict[str, Any], cause: Cause) -> None:
    outcome = pod_state(pod).outcome
    assert outcome is not None
    assert outcome.cause is cause


@pytest.mark.parametrize(
    "pod", [_pod("Pending"), _pod("Running", running=True), _pod("Unknown", running=True)], ids=["pending", "running", "unknown"]
)
def test_what_goes_on_has_not_ended(pod: dict[str, Any]) -> None:
    assert pod_state(pod).outcome is None


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("ErrImagePull", Cause.IMAGE_PULL), ("ImagePullBackOff", Cause.IMAGE_PULL), ("InvalidImageName", Cause.IMAGE_PULL),
     ("CreateContainerConfigError", Cause.NOT_STARTED), ("RunContainerError", Cause.NOT_STARTED)],
)  # fmt: skip
def test_what_cannot_start_is_named_and_has_not_ended(reason: str, cause: Cause) -> None:
    state = pod_state(_pod("Pending", waiting={"reason": reason, "message": "why"}))
    assert (state.problem, state.outcome, state.note) == (cause, None, f"{reason}: why")


@pytest.mark.parametrize("reason", ["Unschedulable", "SchedulingGated"])
def test_why_a_pod_is_not_scheduled_is_said_and_it_may_wait(reason: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes are available"}
    state = pod_state(_pod("Pending", conditions=[condition]))
    assert (state.note, state.problem, state.is_preparing, state.outcome) == (f"{reason}: 0/3 nodes are available", None, False, None)


class TestBesideTheJob:
    def test_an_init_container_whose_image_cannot_be_fetched_is_named(self) -> None:
        inits = _init(waiting={"reason": "ImagePullBackOff", "message": "no such tag"})
        state = pod_state(_pod("Pending", waiting={"reason": "PodInitializing"}, initContainerStatuses=inits))
        assert (state.problem, state.note) == (Cause.IMAGE_PULL, "ImagePullBackOff: mesh-init: no such tag")

    def test_a_sidecar_that_cannot_start_keeps_the_job_from_starting(self) -> None:
        inits = _init(waiting={"reason": "CrashLoopBackOff", "message": "back-off"})
        assert pod_state(_pod("Pending", waiting={"reason": "PodInitializing"}, initContainerStatuses=inits)).problem is Cause.NOT_STARTED

    def test_init_containers_take_their_turn(self) -> None:
        inits = [*_init(running={}), {"name": "second", "state": {"waiting": {"reason": "PodInitializing"}}}]
        state = pod_state(_pod("Pending", waiting={"reason": "PodInitializing"}, initContainerStatuses=inits))
        assert (state.problem, state.is_preparing) == (None, True)

    def test_a_sidecar_that_goes_on_does_not_hide_the_end(self) -> None:
        outcome = pod_state(_pod("Running", terminated={"exitCode": 1, "reason": "Error"})).outcome
        assert outcome is not None
        assert outcome.cause is Cause.FAILED

    def test_a_sidecar_without_an_image_does_not_stop_a_job_that_runs(self) -> None:
        pod = _pod("Pending", running=True)
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
        state = pod_state(pod)
        assert (state.started, state.problem) == (True, None)


class TestLastWords:
    TERMINATED: ClassVar[dict[str, Any]] = {"exitCode": 1, "reason": "Error", "message": "step 1\nError: no\n\n"}

    def test_they_are_the_end_of_the_log(self) -> None:
        assert last_words(_pod("Failed", terminated=self.TERMINATED)) == ["step 1", "Error: no"]

    def test_a_log_is_no_detail(self) -> None:
        outcome = pod_state(_pod("Failed", terminated=self.TERMINATED)).outcome
        assert outcome is not None
        assert outcome.detail == ""

    def test_what_the_runtime_says_is_a_detail(self) -> None:
        outcome = pod_state(_pod("Failed", terminated={"exitCode": 128, "reason": "StartError", "message": "exec: not found"})).outcome
        assert outcome is not None
        assert outcome.detail == "StartError: exec: not found"

    def test_a_pod_without_a_container_has_none(self) -> None:
        assert last_words(_pod("Pending")) == []


class TestGone:
    def test_what_was_announced_before_is_the_cause(self) -> None:
        assert gone(_pod("Running", running=True, conditions=_disrupted("PreemptionByScheduler"))).cause is Cause.PREEMPTED

    def test_what_we_cancelled_was_cancelled(self) -> None:
        pod = _pod("Running", running=True)
        pod["metadata"]["annotations"] = {CANCELLED: "true"}
        assert gone(pod).cause is Cause.CANCELLED

    @pytest.mark.parametrize(
        ("reason", "cause"), [("TaintManagerEviction", Cause.NODE_LOST), ("Preempted", Cause.PREEMPTED), ("Pulled", Cause.DELETED)]
    )
    def test_events_tell_when_nothing_was_seen(self, reason: str, cause: Cause) -> None:
        assert gone(None, ["Scheduled", reason]).cause is cause

    def test_else_somebody_deleted_it(self) -> None:
        assert gone(_pod("Running", running=True)).cause is Cause.DELETED


class TestBudgets:
    def test_airflow_allows_their_sum(self) -> None:
        assert sum(budget.retries for budget in BUDGETS.values()) == RETRIES

    def test_verdicts_are_never_retried(self) -> None:
        assert not {Cause.DONE, Cause.NOTHING_TO_DO, Cause.WRONG_ARGUMENTS, Cause.WRONG_DATA} & set(BUDGETS)

    @pytest.mark.parametrize("cause", BUDGETS)
    def test_delays_grow_up_to_a_limit(self, cause: Cause) -> None:
        delays = [delay_before_next(cause, times) for times in range(1, 30)]
        assert delays[0] == BUDGETS[cause].delay_s
        assert delays == sorted(delays)
        assert delays[-1] <= BUDGETS[cause].max_delay_s


@pytest.mark.parametrize("text", ["cabin_baggage", "x" * 63, "x" * 64, "ingest__2026-01-01T00:00:00+00:00", "ü", "..", "a b"])
def test_label_values_are_what_kubernetes_takes(text: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", label_value(text))
