"""Which pod of an Indexed Job tells how the Job is. Pure: works on manifests as the API sends them.

Source: Kubernetes documentation, "Jobs" (pod failure policy, job termination and cleanup: a Job says SuccessCriteriaMet or FailureTarget first,
ends its pods, and says Complete or Failed once they have ended), and "Disruptions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scanloop_plugin.pods.status import CANCELLED, DISRUPTION, container_status, disruption, pod_state

Manifest = Mapping[str, Any]

JOB_NAME, JOB_INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
LATE = "9999"
"""After every time stamp."""


@dataclass(frozen=True)
class Telling:
    """What to look at."""

    pod: Manifest
    """The pod to judge by, with the Job's own end as its phase."""
    speaker: Manifest
    """The pod whose log is the Job's."""


def telling(job: Manifest, pods: Sequence[Manifest], disrupted: Manifest | None = None) -> Telling:
    """What `job` and its `pods` tell: of a Job that failed, the pod that was in trouble first; else the one of index 0.

    `disrupted` is a pod that was seen to be disrupted earlier; it may be gone by now.
    """
    marked = {CANCELLED: "true"} if ((job.get("metadata") or {}).get("annotations") or {}).get(CANCELLED) else {}
    said = {one["type"]: one for one in (job.get("status") or {}).get("conditions") or () if one.get("status") == "True"}
    first = _first(job, pods, said)
    if "Complete" in said or _all_done(job, pods):
        return _as(first, marked, phase="Succeeded")
    if failed := said.get("Failed") or said.get("FailureTarget"):
        return _failed(failed, pods, first, disrupted, marked)
    for pod in pods:
        if _exit_code(pod) and not pod["metadata"].get("deletionTimestamp"):  # something beside it goes on, so the Job does not end
            return _as(pod, marked, phase="Failed")
    kept_waiting = next((pod for pod in pods if pod_state(pod).problem is not None), None)
    if kept_waiting is not None:
        return Telling(kept_waiting, first)
    if first.get("status") and (first["status"].get("phase") in ("Succeeded", "Failed") or pod_state(first).outcome is not None):
        return Telling({**first, "metadata": _metadata(first, marked), "status": {"phase": "Running"}}, first)
    return Telling({**first, "metadata": _metadata(first, marked)}, first)


def _failed(condition: Manifest, pods: Sequence[Manifest], first: Manifest, disrupted: Manifest | None, marked: Manifest) -> Telling:
    """What a Job that has failed tells."""
    troubled = sorted((pod for pod in pods if _troubled_at(pod) is not None), key=lambda pod: _troubled_at(pod) or LATE)
    message = condition.get("message", "")
    if condition.get("reason") == "DeadlineExceeded":
        return _as(troubled[0] if troubled else first, marked, phase="Failed", reason="DeadlineExceeded", message=message)
    if disrupted is not None and disrupted["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods}:
        troubled = sorted([*troubled, disrupted], key=lambda pod: _troubled_at(pod) or LATE)
    if troubled:
        return _as(troubled[0], marked, phase="Failed")
    return _as(first, marked, phase="Failed", reason="Evicted" if DISRUPTION in message else "NodeLost", message=message)


def _as(pod: Manifest, marked: Manifest, **status: str) -> Telling:
    judged = {**pod, "metadata": _metadata(pod, marked), "status": {**(pod.get("status") or {}), **status}}
    return Telling(judged, pod)


def _metadata(pod: Manifest, marked: Manifest) -> Manifest:
    return {**pod["metadata"], "annotations": {**(pod["metadata"].get("annotations") or {}), **marked}} if marked else pod["metadata"]


def _first(job: Manifest, pods: Sequence[Manifest], said: Mapping[str, Manifest]) -> Manifest:
    """The newest pod of index 0; one that is on its way out only if there is no other. Without any, what the Job says of itself."""
    found = sorted(
        (pod for pod in pods if _index(pod) == 0),
        key=lambda pod: (not pod["metadata"].get("deletionTimestamp"), pod["metadata"].get("creationTimestamp") or ""),
    )
    if found:
        return found[-1]
    waits = [{**said["Suspended"], "type": "PodScheduled", "status": "False", "reason": "Suspended"}] if "Suspended" in said else []
    return {"metadata": {"name": job["metadata"]["name"], "uid": ""}, "status": {"phase": "Pending", "conditions": waits}}


def _all_done(job: Manifest, pods: Sequence[Manifest]) -> bool:
    """Whether the container that does the work has ended well on every node, whatever else goes on in their pods."""
    done = {_index(pod) for pod in pods if _exit_code(pod) == 0}
    return len(done) == (job.get("spec") or {}).get("completions")


def _exit_code(pod: Manifest) -> int | None:
    code: int | None = ((container_status(pod).get("state") or {}).get("terminated") or {}).get("exitCode")
    return code


def _troubled_at(pod: Manifest) -> str | None:
    """Since when the pod's failure was on its way: announced, or over. None for one that is well."""
    status = pod.get("status") or {}
    announced = [one.get("lastTransitionTime") or LATE for one in status.get("conditions") or () if one.get("type") == DISRUPTION]
    if disruption(pod) is None:
        announced = []
    if not announced and status.get("phase") != "Failed" and not _exit_code(pod):
        return None
    terminated = (container_status(pod).get("state") or {}).get("terminated") or {}
    return min([*announced, terminated.get("finishedAt") or LATE])


def _index(pod: Manifest) -> int:
    metadata = pod["metadata"]
    return int((metadata.get("labels") or {}).get(JOB_INDEX) or (metadata.get("annotations") or {}).get(JOB_INDEX) or 0)
