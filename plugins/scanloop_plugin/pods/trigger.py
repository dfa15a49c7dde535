"""Watches a pod, or the pods of a Job, from the triggerer: hands on its log as it comes and says at last how it ended.

A triggerer that dies is replaced by another; the time stamp of the last line that is in Airflow's log lies on the pod itself, so that lines
are neither lost nor doubled by more than MARK_EVERY_S.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiException, BatchV1Api, CoreV1Api, V1DeleteOptions, V1Preconditions

from scanloop_plugin.causes import Cause
from scanloop_plugin.log_lines import log_line
from scanloop_plugin.outcome import TAIL_LINES
from scanloop_plugin.pods.names import LOGGED_UNTIL
from scanloop_plugin.pods.status import CANCELLED, CONTAINER, gone, pod_state
from scanloop_plugin.runners import JobOutcome

Manifest = Mapping[str, Any]

POLL_S = 3.0
MARK_EVERY_S = 30.0
PATIENCE_S = {Cause.IMAGE_PULL: 300.0, Cause.NOT_STARTED: 120.0}
"""Kubernetes goes on trying for ever; a secret or an image may still come for so long."""
LOG_PATIENCE_S = 30.0
"""So long the log of a pod that has ended is asked for: a node that is gone never gives it, and the pod's end counts all the same."""
STUCK_S = 600.0
"""So long after its grace period a pod that is being deleted may still be there. Then its node does not answer, and may never: a pod is taken
out of the API only when its kubelet says that it has ended, or with its node."""
LOG_MARGIN_S = 10
MAX_LOG_BYTES = 8 << 20
MOST_LINES = 2000
WARN_EVERY_S = 60.0
JOB_NAME, JOB_INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"


class JobPodTrigger(BaseTrigger):
    """Fires once, when the pod or Job has ended, with the outcome and the last lines of its log.

    The event: `exit_code`, `cause`, `cancelled`, `timed_out`, `detail`, `tail`.

    :param kind: `pod` or `job`.
    :param name: its name.
    :param uid: its uid; another one under the same name counts as gone.
    :param namespace: where it is.
    :param connection: Airflow connection that leads to the cluster.
    :param poll_s: seconds between two looks.
    """

    def __init__(self, kind: str, name: str, uid: str, namespace: str, connection: str, poll_s: float = POLL_S) -> None:
        super().__init__()
        self.kind, self.name, self.uid, self.namespace = kind, name, uid, namespace
        self.connection, self.poll_s = connection, poll_s
        self._hook = AsyncKubernetesHook(conn_id=connection)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._logged_until = ""
        self._marked = 0.0
        self._marked_until = ""
        self._pod_name = ""
        self._log_failed_at = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How another triggerer makes the same trigger."""
        arguments = {name: getattr(self, name) for name in ("kind", "name", "uid", "namespace", "connection", "poll_s")}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` until it has ended. An API that does not answer is asked again, for ever: only Airflow ends the wait."""
        last: Manifest | None = None
        note, problem_since, warned = "", 0.0, 0.0
        while True:
            try:
                pod = await self._look()
                if pod is None:
                    outcome = gone(last, await self._event_reasons())
                    break
                last, state = pod, pod_state(pod)
                if state.note and state.note != note:
                    note = state.note
                    self.log.info("%s: %s", self._pod_name, note)
                if state.started:
                    await self._try_to_hand_on(pod, has_ended=state.outcome is not None)
                if state.outcome is not None:
                    outcome = state.outcome
                    break
                if _is_stuck(pod):
                    outcome = await self._given_up(pod)
                    break
                problem_since = 0.0 if state.problem is None else problem_since or time.monotonic()
                if state.problem is not None and time.monotonic() - problem_since >= PATIENCE_S[state.problem]:
                    outcome = JobOutcome(1, cause=state.problem, detail=state.note)
                    break
            except Exception as error:  # noqa: BLE001 - three HTTP libraries, three families of errors; a watcher must not die of any
                if time.monotonic() - warned > WARN_EVERY_S or not warned:
                    warned = time.monotonic()
                    self.log.warning("Kubernetes does not answer, asking again: %r", error)
            await asyncio.sleep(self.poll_s)
        yield TriggerEvent(self._event(outcome))

    async def _given_up(self, pod: Manifest) -> JobOutcome:
        """The outcome of a pod that does not go. Should it still run somewhere, its lease runs out and nothing it says counts."""
        outcome = gone(pod, await self._event_reasons())
        if outcome.cause is not Cause.DELETED:
            return outcome
        return JobOutcome(
            1, cause=Cause.NODE_LOST, detail=f"It was to end at {pod['metadata']['deletionTimestamp']}, and its node does not say so"
        )

    def _event(self, outcome: JobOutcome) -> dict[str, Any]:
        return {
            "exit_code": outcome.exit_code,
            "cause": None if outcome.cause is None else outcome.cause.value,
            "cancelled": outcome.cancelled,
            "timed_out": outcome.timed_out,
            "detail": outcome.detail,
            "tail": list(self._tail),
        }

    async def on_kill(self) -> None:
        """A person ended the task: say so on the pod and delete it."""
        self.log.warning("Cancelled: deleting %s %s.", self.kind, self.name)
        mark = {"metadata": {"uid": self.uid, "annotations": {CANCELLED: "true"}}}
        options = V1DeleteOptions(propagation_policy="Background", preconditions=V1Preconditions(uid=self.uid))
        async with self._hook.get_conn() as connection:
            core, batch = CoreV1Api(connection), BatchV1Api(connection)
            is_job = self.kind == "job"
            try:
                await (batch.patch_namespaced_job if is_job else core.patch_namespaced_pod)(self.name, self.namespace, mark)
                await (batch.delete_namespaced_job if is_job else core.delete_namespaced_pod)(self.name, self.namespace, body=options)
            except ApiException as error:
                if error.status not in (404, 409):
                    raise

    async def _look(self) -> Manifest | None:
        """The pod to judge by; None when what is watched is gone."""
        async with self._hook.get_conn() as connection:
            try:
                if self.kind == "pod":
                    pod = connection.sanitize_for_serialization(await CoreV1Api(connection).read_namespaced_pod(self.name, self.namespace))
                    self._pod_name = self.name
                    return pod if pod["metadata"]["uid"] == self.uid else None
                job = connection.sanitize_for_serialization(await BatchV1Api(connection).read_namespaced_job(self.name, self.namespace))
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
            if job["metadata"]["uid"] != self.uid:
                return None
            selector = f"{JOB_NAME}={self.name}"
            pods = connection.sanitize_for_serialization(
                (await CoreV1Api(connection).list_namespaced_pod(self.namespace, label_selector=selector)).items
            )
        chosen = _telling(job, pods)
        self._pod_name = (chosen.get("metadata") or {}).get("name", "")
        return chosen

    async def _try_to_hand_on(self, pod: Manifest, *, has_ended: bool) -> None:
        """Hand on the log. Raises what went wrong as long as it is worth asking again."""
        try:
            await self._hand_on(pod)
        except Exception as error:
            if not has_ended:
                raise
            self._log_failed_at = self._log_failed_at or time.monotonic()
            if time.monotonic() - self._log_failed_at < LOG_PATIENCE_S:
                raise
            self.log.warning("The last lines of %s cannot be read: %r", self._pod_name, error)

    async def _hand_on(self, pod: Manifest) -> None:
        """Emit the lines of the pod's log that have not been emitted."""
        annotations = pod["metadata"].get("annotations") or {}
        self._logged_until = self._logged_until or annotations.get(LOGGED_UNTIL, "")
        arguments: dict[str, Any] = {"limit_bytes": MAX_LOG_BYTES}
        if self._logged_until:
            age = datetime.now(UTC) - _time(self._logged_until)
            arguments["since_seconds"] = max(1, int(age.total_seconds()) + LOG_MARGIN_S)
        name = pod["metadata"]["name"]
        async with self._hook.get_conn() as connection:
            while (content := await self._read_log(connection, name, arguments)) is not None:
                if self._emit_new(content) or len(content) < MAX_LOG_BYTES or "tail_lines" in arguments:
                    break
                self.log.warning("The job writes faster than its log can be read; some lines are left out here.")
                arguments = {"tail_lines": MOST_LINES}
            await self._mark(connection, name)

    async def _read_log(self, connection: Any, name: str, arguments: Mapping[str, Any]) -> bytes | None:
        """The pod's log with time stamps; None while or once there is none."""
        response = await CoreV1Api(connection).read_namespaced_pod_log(
            name, self.namespace, container=CONTAINER, timestamps=True, _preload_content=False, **arguments
        )
        content: bytes = await response.read()
        if response.status in (400, 404):
            return None
        if response.status >= 300:  # the client does not judge an answer that it does not read itself
            raise ApiException(status=response.status, reason=content[:200].decode("utf-8", "replace"))
        return content

    def _emit_new(self, content: bytes) -> int:
        """Emit the lines that are newer than the last one emitted. Returns how many there were."""
        emitted = 0
        for raw in content.decode("utf-8", "replace").split("\n"):
            stamp, _, text = raw.partition(" ")
            if not stamp or stamp <= self._logged_until:
                continue
            self._logged_until = stamp
            emitted += 1
            if line := log_line(text):
                self._tail.append(line.text)
                self.log.log(line.level, "%s", line.text)
        return emitted

    async def _mark(self, connection: Any, name: str) -> None:
        """Write on the pod how far its log is in Airflow's."""
        if self._logged_until == self._marked_until or time.monotonic() - self._marked < MARK_EVERY_S:
            return
        self._marked, self._marked_until = time.monotonic(), self._logged_until
        try:
            await CoreV1Api(connection).patch_namespaced_pod(
                name, self.namespace, {"metadata": {"annotations": {LOGGED_UNTIL: self._logged_until}}}
            )
        except ApiException as error:
            self.log.log(logging.DEBUG, "How far the log was read could not be noted: %s", error)

    async def _event_reasons(self) -> list[str]:
        """Reasons of the pod's events, newest first; none where we may not read them."""
        async with self._hook.get_conn() as connection:
            try:
                events = await CoreV1Api(connection).list_namespaced_event(self.namespace, field_selector=f"involvedObject.uid={self.uid}")
            except ApiException as error:
                if error.status == 403:
                    return []
                raise
        newest_first = sorted(events.items, key=lambda event: str(event.last_timestamp or event.event_time or ""), reverse=True)
        return [event.reason for event in newest_first if event.reason]


def _is_stuck(pod: Manifest) -> bool:
    to_end = (pod.get("metadata") or {}).get("deletionTimestamp")
    return bool(to_end) and (datetime.now(UTC) - _time(to_end)).total_seconds() > STUCK_S


def _telling(job: Manifest, pods: list[Manifest]) -> Manifest:
    """Of a Job's pods the one that tells how it is: the first that failed, else the one of index 0; with the Job's own end as its phase."""
    ended = {
        condition["type"]: condition for condition in (job.get("status") or {}).get("conditions") or () if condition.get("status") == "True"
    }
    by_index = sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", _index(pod)))
    failed = [pod for pod in by_index if (pod.get("status") or {}).get("phase") == "Failed"]
    failed.sort(key=_finished_at)
    first = next(
        (pod for pod in by_index if _index(pod) == 0), {"metadata": {"name": job["metadata"]["name"]}, "status": {"phase": "Pending"}}
    )
    if "Complete" in ended:
        return {**first, "status": {**(first.get("status") or {}), "phase": "Succeeded"}}
    if "Failed" in ended or "FailureTarget" in ended:
        condition = ended.get("Failed") or ended["FailureTarget"]
        told = failed[0] if failed else first
        status = {**(told.get("status") or {}), "phase": "Failed"}
        message = condition.get("message", "")
        if condition.get("reason") == "DeadlineExceeded":
            status |= {"reason": "DeadlineExceeded", "message": message}
        elif not failed:  # the pod that failed is gone; the Job may say why
            status |= {"reason": "Evicted" if "DisruptionTarget" in message else "NodeLost", "message": message}
        return {**told, "status": status}
    if first.get("status") and (first["status"].get("phase") in ("Succeeded", "Failed") or pod_state(first).outcome is not None):
        return {**first, "status": {"phase": "Running", "containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}]}}
    return first


def _index(pod: Manifest) -> int:
    metadata = pod["metadata"]
    return int((metadata.get("labels") or {}).get(JOB_INDEX) or (metadata.get("annotations") or {}).get(JOB_INDEX) or 0)


def _finished_at(pod: Manifest) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return min((((one.get("state") or {}).get("terminated") or {}).get("finishedAt") or "9999" for one in statuses), default="9999")


def _time(stamp: str) -> datetime:
    """An RFC 3339 time stamp with nanoseconds, which `datetime` does not read."""
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", stamp))
