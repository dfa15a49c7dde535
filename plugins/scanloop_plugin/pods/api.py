"""What a worker asks of Kubernetes: find, create once, mark, delete. Everything else is the trigger's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from kubernetes.client import ApiClient, ApiException, BatchV1Api, CoreV1Api
from kubernetes.client import models as k8s
from urllib3.exceptions import HTTPError

from scanloop_plugin.pods.manifest import Launch, build_service
from scanloop_plugin.pods.names import GENERATION, MANAGED, WORK, work_id
from scanloop_plugin.pods.settings import PodSettings
from scanloop_plugin.pods.started import ClusterRefuses, ClusterUnavailable, Started
from scanloop_plugin.pods.status import CANCELLED
from scanloop_plugin.runners import JobRequest

log = logging.getLogger(__name__)
Manifest = Mapping[str, Any]
JOB_NAME = "batch.kubernetes.io/job-name"


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        said = _message(error)
        if error.status in (401, 408, 409, 429) or (error.status or 500) >= 500 or "exceeded quota" in said:
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

        return KubernetesHook(conn_id=self.settings.connection).api_client

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
            try:
                made = core.create_namespaced_pod(self.settings.namespace, thing)
            except ApiException as error:
                if not _exists(error):
                    raise
                made = core.read_namespaced_pod(launch.name, self.settings.namespace)
                log.info("Pod %s is there already: adopted.", launch.name)
        return self.started("pod", self._plain(made))

    def _create_job(self, launch: Launch, job: k8s.V1Job) -> Started:
        batch, core = BatchV1Api(self._client), CoreV1Api(self._client)
        with _explained("create the Job"):
            try:
                made = batch.create_namespaced_job(self.settings.namespace, job)
            except ApiException as error:
                if not _exists(error):
                    raise
                made = batch.read_namespaced_job(launch.name, self.settings.namespace)
                log.info("Job %s is there already: adopted.", launch.name)
            try:
                core.create_namespaced_service(self.settings.namespace, build_service(launch, made))
            except ApiException as error:
                if not _exists(error):
                    raise
        return self.started("job", self._plain(made))

    def started(self, kind: str, manifest: Manifest) -> Started:
        """What `manifest`, as the API returned it, is to us."""
        metadata = manifest["metadata"]
        return Started(kind, metadata["name"], metadata["uid"], metadata["namespace"])

    def delete(self, started: Started, *, is_cancelled: bool = False) -> None:
        """Delete it, if it is still the same one; its service and pods go with a Job. `is_cancelled`: say so on it first."""
        options = k8s.V1DeleteOptions(propagation_policy="Background", preconditions=k8s.V1Preconditions(uid=started.uid))
        core, batch = CoreV1Api(self._client), BatchV1Api(self._client)
        is_job = started.kind == "job"
        with _explained(f"delete {started.kind} {started.name}"):
            try:
                if is_cancelled:
                    patch = batch.patch_namespaced_job if is_job else core.patch_namespaced_pod
                    patch(started.name, started.namespace, {"metadata": {"uid": started.uid, "annotations": {CANCELLED: "true"}}})
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


def _exists(error: ApiException) -> bool:
    return error.status == 409 and "already exists" in _message(error)
