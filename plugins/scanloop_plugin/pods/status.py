"""From what Kubernetes says of a pod to what it means. Pure: works on manifests as the API sends them (camelCase, JSON).

Only the container that does the work decides: what webhooks put beside it may start first, end last or fail.

Source: Kubernetes documentation, "Pod Lifecycle", "Init Containers", "Sidecar Containers", "Disruptions" (condition DisruptionTarget), "Node
Shutdowns", "Images"; Kueue documentation, "Run Plain Pods" (condition TerminationTarget).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scanloop_plugin.causes import VERDICTS, Cause
from scanloop_plugin.runners import JobOutcome

CONTAINER = "job"
"""Name of the container that does the work."""

Manifest = Mapping[str, Any]

IMAGE_REASONS = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed",
}  # fmt: skip
START_REASONS = {
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PreCreateHookError",
    "PostStartHookError", "CrashLoopBackOff",
}  # fmt: skip
PREPARING = {"ContainerCreating", "PodInitializing"}
"""What a kubelet says of a container while it prepares the pod's volumes, network and init containers, however long that takes."""
DISRUPTION, STOPPED_BY_QUEUE = "DisruptionTarget", "TerminationTarget"
"""Conditions: Kubernetes, or Kueue, is about to end the pod."""
DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
}
"""Reasons of DisruptionTarget. Other controllers may have their own: they evict."""
BY_KUBELET = "TerminationByKubelet"
"""Said of three things; the pod's own reason says which."""
POD_REASONS = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "NodeLost": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,
    "Shutdown": Cause.NODE_LOST,
    "Terminated": Cause.NODE_LOST,
    "UnexpectedAdmissionError": Cause.REFUSED,
    "NodeAffinity": Cause.REFUSED,
    "TopologyAffinityError": Cause.REFUSED,
}
"""Reasons of a failed pod that are not its container's. Any other, of a pod whose containers never began, is a kubelet's that would not take
it: OutOfcpu, OutOfnvidia.com/gpu, NodePorts and the like."""
EVENTS = {
    "Preempted": Cause.PREEMPTED,
    "Evicted": Cause.EVICTED,
    "TaintManagerEviction": Cause.NODE_LOST,
    "NodeNotReady": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,
}
"""Reasons of events that tell why a pod went."""
CANCELLED = "scanloop.io/cancelled"
"""Annotation: we asked for the pod's end."""
SIGNALS_FROM = 128


@dataclass(frozen=True)
class PodState:
    """What a pod is doing."""

    outcome: JobOutcome | None = None
    """How it ended, once it has."""
    started: bool = False
    """Whether its container has begun, so that there is a log."""
    problem: Cause | None = None
    """Why it cannot start now; it may still."""
    is_preparing: bool = False
    """Whether its node prepares it. What that waits for, if it waits, only events say."""
    note: str = ""
    """What it waits for, or what stands against it."""


def pod_state(pod: Manifest) -> PodState:
    """What `pod` is doing."""
    status: Manifest = pod.get("status") or {}
    phase = status.get("phase")
    container = container_status(pod)
    state = container.get("state") or {}
    if phase == "Succeeded":
        return PodState(outcome=JobOutcome(0, cause=Cause.DONE), started=True)
    if phase == "Failed":
        return PodState(outcome=_failure(pod), started="terminated" in state or bool(container.get("containerID")))
    if terminated := state.get("terminated"):
        outcome = JobOutcome(0, cause=Cause.DONE) if terminated.get("exitCode") == 0 else _failure(pod)
        return PodState(outcome=outcome, started=True)
    deleted = "It is being deleted." if (pod.get("metadata") or {}).get("deletionTimestamp") else ""
    if "running" in state:
        return PodState(started=True, note=deleted or ("Its node does not answer." if phase == "Unknown" else ""))
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in (None, "PodInitializing"):
        waiting = _init_waiting(status) or waiting
    reason = waiting.get("reason", "")
    if reason in IMAGE_REASONS:
        return PodState(problem=Cause.IMAGE_PULL, note=_said(reason, waiting.get("message")))
    if reason in START_REASONS:
        return PodState(problem=Cause.NOT_STARTED, note=_said(reason, waiting.get("message")))
    is_preparing = not deleted and reason in PREPARING
    return PodState(is_preparing=is_preparing, note=deleted or _why_pending(status, reason))


def container_status(pod: Manifest) -> Manifest:
    """Status of the container that does the work; empty while there is none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one for one in statuses if one.get("name") == CONTAINER), {})


def last_words(pod: Manifest) -> list[str]:
    """The last lines that the container wrote, as its status has them: at most 80, 2,048 bytes. A node that is gone gives no others."""
    terminated = (container_status(pod).get("state") or {}).get("terminated") or {}
    return [line for line in str(terminated.get("message") or "").splitlines() if line.strip()]


def gone(last_seen: Manifest | None, event_reasons: Sequence[str] = ()) -> JobOutcome:
    """The outcome of a pod that is no longer there: from what was last seen of it, else from the reasons of its events, newest first."""
    if last_seen is not None:
        if ((last_seen.get("metadata") or {}).get("annotations") or {}).get(CANCELLED):
            return JobOutcome(1, cancelled=True, cause=Cause.CANCELLED)
        if disrupted := disruption(last_seen):
            return JobOutcome(1, cause=disrupted[0], detail=disrupted[1])
    for reason in event_reasons:
        if reason in EVENTS:
            return JobOutcome(1, cause=EVENTS[reason], detail=reason)
    return JobOutcome(1, cause=Cause.DELETED)


def _init_waiting(status: Manifest) -> Manifest:
    """The first init container that waits for more than its turn."""
    for one in status.get("initContainerStatuses") or ():
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing"):
            return {**waiting, "message": f"{one.get('name')}: {waiting.get('message') or 'no message'}"}
    return {}


def _init_failure(status: Manifest) -> str:
    """What the init container says that failed, if one did."""
    for one in status.get("initContainerStatuses") or ():
        terminated = (one.get("state") or {}).get("terminated") or {}
        if terminated.get("exitCode"):
            said = _said(terminated.get("reason", ""), terminated.get("message"))
            return f"init container {one.get('name')} ended with exit code {terminated['exitCode']}: {said}"
    return ""


def _why_pending(status: Manifest, reason: str) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _said(condition.get("reason", ""), condition.get("message"))
    return reason


def _said(reason: str, message: str | None) -> str:
    return f"{reason}: {message}" if reason and message else reason or message or ""


def _failure(pod: Manifest) -> JobOutcome:
    """How a failed pod failed. The job's own verdict goes first: it was reached, whatever happened to the pod then."""
    status: Manifest = pod.get("status") or {}
    terminated = (container_status(pod).get("state") or {}).get("terminated") or {}
    code = terminated.get("exitCode")
    detail = _said(status.get("reason", ""), status.get("message"))
    if code in VERDICTS and code != 0:
        return JobOutcome(code, cause=VERDICTS[code], detail=detail)
    if status.get("reason") == "DeadlineExceeded":
        return JobOutcome(code or 1, timed_out=True, cause=Cause.DEADLINE, detail=detail)
    if ((pod.get("metadata") or {}).get("annotations") or {}).get(CANCELLED):
        return JobOutcome(code or 1, cancelled=True, cause=Cause.CANCELLED, detail=detail)
    if disrupted := disruption(pod):
        return JobOutcome(code or 1, cause=disrupted[0], detail=disrupted[1])
    reason = status.get("reason", "")
    if cause := POD_REASONS.get(reason):
        return JobOutcome(code or 1, cause=cause, detail=detail)
    if code == 0:  # something beside it failed
        return JobOutcome(0, cause=Cause.DONE)
    if not terminated and not container_status(pod).get("containerID"):
        if failed := _init_failure(status):
            return JobOutcome(1, cause=Cause.NOT_STARTED, detail=failed)
        if reason:
            return JobOutcome(1, cause=Cause.REFUSED, detail=detail)
    return _container_failure(pod, terminated, code, detail)


def disruption(pod: Manifest) -> tuple[Cause, str] | None:
    """Why Kubernetes or Kueue is about to end `pod`, or has ended it, and what it says; None where neither did."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") not in (DISRUPTION, STOPPED_BY_QUEUE) or condition.get("status") != "True":
            continue
        reason, message = condition.get("reason", ""), condition.get("message") or ""
        if condition["type"] == STOPPED_BY_QUEUE:
            is_preempted = reason.endswith("DueToPreempted") or message.startswith("Preempted")
            return Cause.PREEMPTED if is_preempted else Cause.EVICTED, _said(reason, message)
        if reason == BY_KUBELET and status.get("reason") in POD_REASONS:
            return POD_REASONS[status["reason"]], _said(status["reason"], status.get("message"))
        return DISRUPTIONS.get(reason, Cause.EVICTED), _said(reason, message)
    return None


def _container_failure(pod: Manifest, terminated: Manifest, code: int | None, detail: str) -> JobOutcome:
    reason = terminated.get("reason", "")
    if reason in START_REASONS:  # the message is the kubelet's or the runtime's own; of a container that ran it is the end of its log
        detail = detail or _said(reason, terminated.get("message"))
    elif reason != "Error":
        detail = detail or reason
    if reason == "OOMKilled":
        return JobOutcome(code or 137, cause=Cause.OUT_OF_MEMORY, detail=detail)
    if reason in START_REASONS or code in (126, 127, 128):
        return JobOutcome(code or 128, cause=Cause.NOT_STARTED, detail=detail)
    if reason == "ContainerStatusUnknown" or code is None:
        return JobOutcome(code or 1, cause=Cause.NODE_LOST, detail=detail)
    if code > SIGNALS_FROM:
        is_deleted = (pod.get("metadata") or {}).get("deletionTimestamp")
        return JobOutcome(SIGNALS_FROM - code, cause=Cause.DELETED if is_deleted else Cause.INTERRUPTED, detail=detail)
    return JobOutcome(code, cause=Cause.FAILED, detail=detail)
