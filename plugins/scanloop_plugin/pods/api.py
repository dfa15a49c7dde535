"""What a worker asks of Kubernetes: find, create once, mark, delete. Everything else is the trigger's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from airflow.exceptions import AirflowException
from kubernetes.client import ApiClient, ApiException, BatchV1Api, CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from scanloop_plugin.pods.job_status import JOB_NAME
from scanloop_plugin.pods.manifest import Launch, build_service
from scanloop_plugin.pods.names import GENERATION, MANAGED, WORK, work_id
from scanloop_plugin.pods.settings import PodSettings
from scanloop_plugin.pods.started import ClusterRefuses, ClusterUnavailable, Started
from scanloop_plugin.pods.status import CANCELLED
from scanloop_plugin.runners import JobRequest

log = logging.getLogger(__name__)
Manifest = Mapping[str, Any]
PAUSES_S = (0.5, 2.0, 5.0)
"""Between asking the API to create something and asking again, when its answer is one that passes."""
MAX_RETRY_AFTER_S = 10.0
PASSING = (401, 408, 409, 429)
"""Statuses, besides those from 500, that another attempt may not see."""
FULL = ("exceeded quota", "status unknown for quota")
"""What the API says, with status 403, where a quota leaves no room now or has not been counted yet."""


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        said = _message(error)
        if error.status in PASSING or (error.status or 500) >= 500 or any(words in said for words in FULL):
            raise ClusterUnavailable(f"Kubernetes could not {doing}: {error.status} {said}") from error
        raise ClusterRefuses(f"Kubernetes refused to {doing}: {error.status} {said}") from error
    except (HTTPError, OSError) as error:
        raise ClusterUnavailable(f"Kubernetes does not answer, to {doing}: {error}") from error


def _message(error: ApiException) -> str:
    import json

    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


class PodApi:
    """The Kubernetes API, as far as a worker needs it. Every method raises ClusterUnavailable or ClusterRefuses."""

    def __init__(self, settings: PodSettings) -> None:
        self.settings = settings

    @cached_property
    def _client(self) -> ApiClient:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        try:
            return KubernetesHook(conn_id=self.settings.connection).api_client
        except (ConfigException, AirflowException) as error:
            raise ClusterRefuses(f"The connection {self.settings.connection} leads to no cluster: {error}") from error

    def _plain(self, thing: Any) -> Manifest:
        plain: Manifest = self._client.sanitize_for_serialization(thing)
        return plain

    def find(self, request: JobRequest) -> list[Manifest]:
        """What works on `request`, oldest first: pods, or Jobs when it runs on several nodes."""
        selector = f"{WORK}={work_id(request.run_id, request.job.name, request.part)}"
        with _explained("list pods"):
            if request.job.nodes > 1:
                found = BatchV1Api(self._client).list_namespaced_job(self.settings.namespace, label_selector=selector)
            else:
                found = CoreV1Api(self._client).list_namespaced_pod(self.settings.namespace, label_selector=f"{selector},!{JOB_NAME}")
        return sorted((self._plain(one) for one in found.items), key=lambda one: int(one["metadata"]["labels"].get(GENERATION, 0)))

    def create(self, launch: Launch, thing: k8s.V1Pod | k8s.V1Job) -> Started:
        """Create the pod or Job; one of that name that is there already is adopted."""
        if isinstance(thing, k8s.V1Job):
            return self._create_job(launch, thing)
        core = CoreV1Api(self._client)
        with _explained("create the pod"):
            made = _created(
                lambda: core.create_namespaced_pod(self.settings.namespace, thing),
                lambda: core.read_namespaced_pod(launch.name, self.settings.namespace),
            )
        return self.started("pod", self._plain(made))

    def _create_job(self, launch: Launch, job: k8s.V1Job) -> Started:
        batch = BatchV1Api(self._client)
        with _explained("create the Job"):
            made = _created(
                lambda: batch.create_namespaced_job(self.settings.namespace, job),
                lambda: batch.read_namespaced_job(launch.name, self.settings.namespace),
            )
        started = self.started("job", self._plain(made))
        self.ensure_service(started)
        return started

    def ensure_service(self, job: Started) -> None:
        """Create the service of `job` unless it is there: a worker may die between the two."""
        with _explained("create the Job's service"):
            _created(lambda: CoreV1Api(self._client).create_namespaced_service(job.namespace, build_service(job)), lambda: None)

    def started(self, kind: str, manifest: Manifest) -> Started:
        """What `manifest`, as the API returned it, is to us."""
        metadata = manifest["metadata"]
        return Started(kind, metadata["name"], metadata["uid"], metadata["namespace"])

    def delete(self, started: Started, *, is_cancelled: bool = False) -> None:
        """Delete it, if it is still the same one; its service and pods go with a Job. `is_cancelled`: say so on it first."""
        options = k8s.V1DeleteOptions(propagation_policy="Background", preconditions=k8s.V1Preconditions(uid=started.uid))
        core, batch = CoreV1Api(self._client), BatchV1Api(self._client)
        is_job = started.kind == "job"
        if is_cancelled:
            patch = batch.patch_namespaced_job if is_job else core.patch_namespaced_pod
            try:
                patch(started.name, started.namespace, {"metadata": {"uid": started.uid, "annotations": {CANCELLED: "true"}}})
            except (ApiException, HTTPError, OSError) as error:
                log.warning("That %s is cancelled cannot be noted on it: %s", started.name, getattr(error, "reason", error))
        with _explained(f"delete {started.kind} {started.name}"):
            try:
                delete = batch.delete_namespaced_job if is_job else core.delete_namespaced_pod
                delete(started.name, started.namespace, body=options)
            except ApiException as error:
                if error.status not in (404, 409):  # gone, or another one by now
                    raise

    def managed(self) -> list[tuple[str, Manifest]]:
        """Everything that this package created and that is still there, as (`pod` or `job`, manifest); pods of a Job apart."""
        selector = ",".join(f"{name}={value}" for name, value in MANAGED.items())
        with _explained("list pods and Jobs"):
            pods = CoreV1Api(self._client).list_namespaced_pod(self.settings.namespace, label_selector=f"{selector},!{JOB_NAME}")
            jobs = BatchV1Api(self._client).list_namespaced_job(self.settings.namespace, label_selector=selector)
        return [("pod", self._plain(pod)) for pod in pods.items] + [("job", self._plain(job)) for job in jobs.items]


def _created(create: Callable[[], Any], read: Callable[[], Any]) -> Any:
    """What `create` makes, or what `read` finds of that name. Asks again for as long as PAUSES_S where the answer may pass.

    A reply that was lost does no harm: the name is refused the next time, and what has it is read.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return create()
        except (ApiException, HTTPError, OSError) as error:
            asked = ""
            if isinstance(error, ApiException):
                if _exists(error):
                    try:
                        return read()
                    except ApiException as missing:  # it went between the two
                        if missing.status != 404:
                            raise
                elif error.status not in PASSING and (error.status or 500) < 500:
                    raise
                asked = str((error.headers or {}).get("Retry-After") or "")
            if pause_s is None:
                raise
            log.info("Kubernetes could not create it now, asking again: %s", getattr(error, "reason", error))
        time.sleep(min(float(asked), MAX_RETRY_AFTER_S) if asked.isdecimal() else pause_s)
    raise AssertionError("unreachable")


def _exists(error: ApiException) -> bool:
    return error.status == 409 and "already exists" in _message(error)
