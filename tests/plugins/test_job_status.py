"""Which pod of an Indexed Job tells how it is."""

from __future__ import annotations

from typing import Any

import airflow_here  # noqa: F401
import pytest

from scanloop_plugin.causes import Cause
from scanloop_plugin.pods.job_status import JOB_INDEX, Telling, telling
from scanloop_plugin.pods.status import CANCELLED, last_words, pod_state


def _at(second: int) -> str:
    return f"2026-01-01T10:00:{second:02}Z"


def _pod(
    index: int, phase: str = "Running", *, code: int | None = None, at: int = 0, leaving: bool = False, **status: Any
) -> dict[str, Any]:
    """A pod of index `index`; with a `code`, its container has ended `at` that second."""
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code, "finishedAt": _at(at), "message": f"words of {index}"}}
    if "waiting" in status:
        state = {"waiting": status.pop("waiting")}
    metadata: dict[str, Any] = {"name": f"j-{index}", "uid": f"u{index}", "labels": {JOB_INDEX: str(index)}, "creationTimestamp": _at(0)}
    if leaving:
        metadata["deletionTimestamp"] = _at(at)
    containers = [{"name": "istio-proxy", "state": {"running": {}}}, {"name": "job", "state": state}]
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": containers, **status}}


def _disrupted(at: int, reason: str = "PreemptionByScheduler") -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": _at(at)}]}


def _job(*conditions: str, reason: str = "", message: str = "", **annotations: str) -> dict[str, Any]:
    said = [{"type": one, "status": "True", "reason": reason, "message": message} for one in conditions]
    return {"metadata": {"name": "j", "annotations": annotations}, "spec": {"completions": 2}, "status": {"conditions": said}}


def _cause(told: Telling) -> Cause | None:
    outcome = pod_state(told.pod).outcome
    return outcome.cause if outcome else None


FAILED = _job("FailureTarget", "Failed", reason="BackoffLimitExceeded")

ENDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], Cause | None]] = {
    "complete": (_job("Complete"), [_pod(0, "Succeeded", code=0), _pod(1, "Succeeded", code=0)], Cause.DONE),
    "complete, pods gone": (_job("Complete"), [], Cause.DONE),
    "one done": (_job(), [_pod(0, "Succeeded", code=0), _pod(1)], None),
    "all done while a mesh's sidecars go on": (_job(), [_pod(0, code=0), _pod(1, code=0)], Cause.DONE),
    "one failed while its sidecar goes on": (_job(), [_pod(0), _pod(1, code=1)], Cause.FAILED),
    "crashed": (FAILED, [_pod(0, "Failed", code=75, at=9), _pod(1, "Failed", code=1, at=5)], Cause.FAILED),
    "preempted, and its peer crashed for want of it": (
        FAILED, [_pod(0, leaving=True, **_disrupted(3)), _pod(1, "Failed", code=1, at=5)], Cause.PREEMPTED,
    ),
    "crashed, and its peer was preempted after": (
        FAILED, [_pod(0, leaving=True, **_disrupted(8)), _pod(1, "Failed", code=1, at=5)], Cause.FAILED,
    ),
    "evicted before anything ran": (
        FAILED,
        [_pod(0, "Failed", code=1, at=9), {**_pod(1), "status": {"phase": "Failed", "reason": "Evicted", **_disrupted(2, "TerminationByKubelet")}}],
        Cause.EVICTED,
    ),
    "out of time": (
        _job("Failed", reason="DeadlineExceeded"), [_pod(0, "Failed", code=143, at=9, leaving=True)], Cause.DEADLINE,
    ),
    "its pods are gone, and the Job knows why": (
        _job("Failed", reason="PodFailurePolicy", message="Pod a/b has condition DisruptionTarget matching FailJob rule at index 0"),
        [],
        Cause.EVICTED,
    ),
    "suspended: its pods are ended and none counts": (_job("Suspended"), [_pod(0, code=143, leaving=True), _pod(1, code=143, leaving=True)], None),
    "cancelled": (_job("Failed", **{CANCELLED: "true"}), [_pod(0, "Failed", code=143, leaving=True)], Cause.CANCELLED),
}  # fmt: skip


@pytest.mark.parametrize(("job", "pods", "cause"), ENDS.values(), ids=ENDS)
def test_each_end_has_its_name(job: dict[str, Any], pods: list[dict[str, Any]], cause: Cause | None) -> None:
    assert _cause(telling(job, pods)) is cause
    assert _cause(telling(job, pods[::-1])) is cause


def test_a_pod_that_was_disrupted_and_is_gone_is_remembered() -> None:
    told = telling(FAILED, [_pod(1, "Failed", code=1, at=5)], _pod(0, **_disrupted(3)))
    assert _cause(told) is Cause.PREEMPTED


def test_the_pod_that_failed_has_the_last_word() -> None:
    told = telling(FAILED, [_pod(0, "Failed", code=143, at=9), _pod(1, "Failed", code=1, at=5)])
    assert last_words(told.speaker) == ["words of 1"]


class TestWaiting:
    def test_a_suspended_job_says_so(self) -> None:
        state = pod_state(telling(_job("Suspended", message="Job suspended"), []).pod)
        assert (state.note, state.problem, state.outcome) == ("Suspended: Job suspended", None, None)

    def test_one_that_cannot_start_is_named_while_the_other_speaks(self) -> None:
        told = telling(_job(), [_pod(0), _pod(1, "Pending", waiting={"reason": "ImagePullBackOff"})])
        assert pod_state(told.pod).problem is Cause.IMAGE_PULL
        assert told.speaker["metadata"]["name"] == "j-0"

    def test_after_a_suspension_the_new_pod_speaks(self) -> None:
        old, new = _pod(0, code=143, leaving=True), _pod(0)
        new["metadata"] |= {"name": "new", "creationTimestamp": _at(30)}
        assert telling(_job(), [new, old]).speaker["metadata"]["name"] == "new"
