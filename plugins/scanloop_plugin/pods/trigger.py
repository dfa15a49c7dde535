"""Watches a pod, or the pods of a Job, from the triggerer: hands on its log as it comes and says at last how it ended.

It looks again and again and keeps no place in a watch: nothing can expire, and a triggerer that dies is replaced by another at any moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiException, BatchV1Api, CoreV1Api, V1DeleteOptions, V1Preconditions

from scanloop_plugin.causes import Cause
from scanloop_plugin.pods.job_status import JOB_NAME, Telling, telling
from scanloop_plugin.pods.log_reader import LogReader, parsed
from scanloop_plugin.pods.status import CANCELLED, PodState, disruption, gone, pod_state
from scanloop_plugin.runners import JobOutcome

Manifest = Mapping[str, Any]

POLL_S = 3.0
MAX_PAUSE_S = 60.0
MAX_RETRY_AFTER_S = 300.0
PATIENCE_S = {Cause.IMAGE_PULL: 300.0, Cause.NOT_STARTED: 120.0}
"""Kubernetes goes on trying for ever; a secret or an image may still come for so long."""
LOG_PATIENCE_S = 30.0
"""So long the log of a pod that has ended is asked for: a node that is gone never gives it, and the pod's end counts all the same."""
STUCK_S = 600.0
"""So long after its grace period a pod that is being deleted may still be there. Then its node does not answer, and may never: a pod is taken
out of the API only when its kubelet says that it has ended, or with its node."""
SLOW_START_S = 3600.0
"""So long may a node prepare a pod: images of many gigabytes come in that time, a volume that does not exist never."""
EVENTS_EVERY_S = 60.0
"""So often are events looked at for what keeps a pod from starting."""
WARN_EVERY_S = 60.0


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
        self.logs = LogReader(self._hook, namespace, self.log)
        self._last: Telling | None = None
        self._disrupted: Manifest | None = None
        self._log_failed_at = 0.0
        self.note = ""
        """What was last said of why it waits."""
        self._problem_since = 0.0
        self._slow_since = 0.0
        self._events_read_at = 0.0
        self._warning = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How another triggerer makes the same trigger."""
        arguments = {name: getattr(self, name) for name in ("kind", "name", "uid", "namespace", "connection", "poll_s")}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` until it has ended. An API that does not answer is asked again, for ever: only Airflow ends the wait."""
        failures, warned = 0, 0.0
        while True:
            failed: Exception | None = None
            try:
                outcome = await self._watch_once()
                failures = 0
                if outcome is not None:
                    break
            except Exception as error:  # noqa: BLE001 - three HTTP libraries, three families of errors; a watcher must not die of any
                failed, failures = error, failures + 1
                if getattr(error, "status", None) == 401:  # the hook keeps a token that a kubeconfig may have renewed
                    self._hook = self.logs.hook = AsyncKubernetesHook(conn_id=self.connection)
                if time.monotonic() - warned > WARN_EVERY_S or not warned:
                    warned = time.monotonic()
                    self.log.warning("Kubernetes does not answer, asking again: %r", error)
            await asyncio.sleep(pause_s(self.poll_s, failures, failed))
        yield TriggerEvent(self._event(outcome))

    async def _watch_once(self) -> JobOutcome | None:
        """One look: the outcome once it has ended. Raises what the client raises."""
        found = await self._look()
        if found is None:
            return gone(self._last.pod if self._last else None, await self._event_reasons())
        self._last, state = found, pod_state(found.pod)
        if pod_state(found.speaker).started:
            await self._try_to_hand_on(found.speaker, has_ended=state.outcome is not None)
        if state.outcome is not None:
            return state.outcome
        if _is_stuck(found.pod):
            return await self._given_up(found.pod)
        return await self._kept_waiting(found.pod, state)

    async def _kept_waiting(self, pod: Manifest, state: PodState) -> JobOutcome | None:
        """Say what a pod waits for; the outcome of one that has waited too long for what will not come."""
        is_slow = state.is_preparing or not pod["metadata"].get("uid")
        self._slow_since = (self._slow_since or time.monotonic()) if is_slow else 0.0
        if is_slow and time.monotonic() - max(self._slow_since, self._events_read_at) >= EVENTS_EVERY_S:
            self._events_read_at = time.monotonic()
            self._warning = await self._newest_warning(pod["metadata"].get("uid") or self.uid)
        note = (self._warning if is_slow else "") or state.note
        if note and note != self.note:
            self.note = note
            self.log.info("%s: %s", pod["metadata"]["name"], note)
        self._problem_since = 0.0 if state.problem is None else self._problem_since or time.monotonic()
        if state.problem is not None and time.monotonic() - self._problem_since >= PATIENCE_S[state.problem]:
            return JobOutcome(1, cause=state.problem, detail=state.note)
        if state.is_preparing and time.monotonic() - self._slow_since >= SLOW_START_S:
            return JobOutcome(1, cause=Cause.NOT_STARTED, detail=note)
        return None

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
            "tail": self.logs.tail(self._last.pod) if self._last else [],
        }

    async def on_kill(self) -> None:
        """A person ended the task: say so on the pod, if that can be said, and delete it."""
        self.log.warning("Cancelled: deleting %s %s.", self.kind, self.name)
        mark = {"metadata": {"uid": self.uid, "annotations": {CANCELLED: "true"}}}
        options = V1DeleteOptions(propagation_policy="Background", preconditions=V1Preconditions(uid=self.uid))
        async with self._hook.get_conn() as connection:
            core, batch = CoreV1Api(connection), BatchV1Api(connection)
            is_job = self.kind == "job"
            try:
                await (batch.patch_namespaced_job if is_job else core.patch_namespaced_pod)(self.name, self.namespace, mark)
            except ApiException as error:
                self.log.warning("That %s was cancelled cannot be noted on it: %s", self.name, error.reason)
            try:
                await (batch.delete_namespaced_job if is_job else core.delete_namespaced_pod)(self.name, self.namespace, body=options)
            except ApiException as error:
                if error.status not in (404, 409):
                    raise

    async def _look(self) -> Telling | None:
        """The pod to judge by; None when what is watched is gone."""
        async with self._hook.get_conn() as connection:
            try:
                if self.kind == "pod":
                    pod = connection.sanitize_for_serialization(await CoreV1Api(connection).read_namespaced_pod(self.name, self.namespace))
                    return Telling(pod, pod) if pod["metadata"]["uid"] == self.uid else None
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
        self._disrupted = self._disrupted or next((pod for pod in pods if disruption(pod)), None)
        return telling(job, pods, self._disrupted)

    async def _try_to_hand_on(self, pod: Manifest, *, has_ended: bool) -> None:
        """Hand on the log. Raises what went wrong as long as it is worth asking again."""
        try:
            await self.logs.hand_on(pod)
        except Exception as error:
            if not has_ended:
                raise
            self._log_failed_at = self._log_failed_at or time.monotonic()
            if time.monotonic() - self._log_failed_at < LOG_PATIENCE_S:
                raise
            self.log.warning("The last lines of %s cannot be read: %r", pod["metadata"]["name"], error)

    async def _event_reasons(self) -> list[str]:
        """Reasons of the pod's events, newest first."""
        return [event.reason for event in await self._events(self.uid) if event.reason]

    async def _newest_warning(self, uid: str) -> str:
        """What the newest warning about `uid` says, that keeps it from starting; empty: none does."""
        warnings = (event for event in await self._events(uid) if event.type == "Warning" and event.message)
        return next((f"{event.reason}: {event.message}" for event in warnings), "")

    async def _events(self, uid: str) -> list[Any]:
        """Events about `uid`, newest first; none where we may not read them."""
        async with self._hook.get_conn() as connection:
            try:
                events = await CoreV1Api(connection).list_namespaced_event(self.namespace, field_selector=f"involvedObject.uid={uid}")
            except ApiException as error:
                if error.status == 403:
                    return []
                raise
        return sorted(events.items, key=lambda event: str(event.last_timestamp or event.event_time or ""), reverse=True)


def _is_stuck(pod: Manifest) -> bool:
    to_end = (pod.get("metadata") or {}).get("deletionTimestamp")
    return bool(to_end) and (datetime.now(UTC) - parsed(to_end)).total_seconds() > STUCK_S


def pause_s(poll_s: float, failures: int, error: Exception | None) -> float:
    """Seconds until the next look after so many failed ones: twice as long each time, and as long as the API asks for by Retry-After."""
    if error is None:
        return poll_s
    asked = str((getattr(error, "headers", None) or {}).get("Retry-After") or "")
    backoff = min(MAX_PAUSE_S, poll_s * 2 ** min(failures, 10))
    return max(backoff, min(float(asked), MAX_RETRY_AFTER_S)) if asked.isdecimal() else backoff
