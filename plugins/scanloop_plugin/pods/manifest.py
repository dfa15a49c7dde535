"""From a job to a pod: the only place that does it. Precedence, later over earlier: the deployment's pod template, the job, the run.

What the `restricted` Pod Security Standard asks for is put over all three: no level can take it away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kubernetes.client import models as k8s

from scanloop_plugin.environment import pod_environment
from scanloop_plugin.job_spec import SECRET_VARIABLES, JobSpec
from scanloop_plugin.pods.job_status import JOB_NAME
from scanloop_plugin.pods.names import MANAGED, RUN_ID, TASK, pod_labels, pod_name
from scanloop_plugin.pods.settings import PodSettings
from scanloop_plugin.pods.started import Started
from scanloop_plugin.pods.status import CONTAINER
from scanloop_plugin.runners import JobRequest, RunnerUnavailable

if TYPE_CHECKING:
    from airflow.sdk import Context

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GRACE_S = 30
"""Between SIGTERM and SIGKILL: a training closes its experiment in that time."""
RENDEZVOUS_PORT = 29400
USER_ID = 10001
OPTIONAL_SECRETS = {"store", "tracking", "labelling"}
"""Secrets that a deployment may lack: workload identity instead of keys, no tracking server, simulated annotators."""
DEFAULT_TEMPLATE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID},
        "containers": [
            {
                "name": CONTAINER,
                "env": [
                    {"name": "SCANLOOP_WORK", "value": "/work"},
                    {"name": "HOME", "value": "/work/home"},
                    {"name": "TMPDIR", "value": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "work", "mountPath": "/work"}],  # noqa: S108
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "work", "emptyDir": {}}],
    },
}
"""Used where the deployment names no template: enough for a laptop's cluster."""


_SAY_DISRUPTION = k8s.V1PodFailurePolicyRule(
    action="FailJob", on_pod_conditions=[k8s.V1PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True")]
)
"""A Job ends at the first failure anyhow; with this rule it says when that was a disruption, though the pod may be gone."""


@dataclass(frozen=True)
class Launch:
    """One attempt, as it is to be launched."""

    request: JobRequest
    """What to run."""
    settings: PodSettings
    """Where."""
    generation: int
    """How many attempts of this work have ended before."""
    memory_factor: int = 1
    """1, or more after an attempt that ran out of memory."""

    @property
    def name(self) -> str:
        """Name of the pod, or of the Job."""
        return pod_name(self.request, self.generation)

    @property
    def gpus(self) -> int:
        """GPUs on each node: what the job asks for, where the deployment has any."""
        return self.request.job.gpu if self.settings.gpu_resource else 0


def build_pod(launch: Launch, context: Context | None = None) -> k8s.V1Pod:
    """The pod that runs the attempt. Without a `context` it lacks the labels of the task instance, and nothing is asked of the cluster.

    Raises:
        RunnerUnavailable: the deployment does not name the image, or its pod template cannot be read.
    """
    from airflow.exceptions import AirflowException
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    request, settings = launch.request, launch.settings
    annotations = {RUN_ID: request.run_id}
    if context is not None:
        annotations[TASK] = json.dumps(task_key(context["ti"]), sort_keys=True)
    try:
        operator = KubernetesPodOperator(
            task_id="pod",
            kubernetes_conn_id=settings.connection,
            namespace=settings.namespace,
            name=launch.name,
            random_name_suffix=False,
            image=settings.image(request.job.image),
            cmds=["scanloop"],
            arguments=list(request.arguments),
            base_container_name=CONTAINER,
            labels=pod_labels(request, launch.generation) | _queue(launch),
            annotations=annotations,
            env_vars=[*_plain(pod_environment(request.job, request.environment) | _processes(launch)), *_secrets(request.job)],
            container_resources=resources(launch),
            priority_class_name=request.job.priority,
            termination_grace_period=GRACE_S,
            termination_message_policy="FallbackToLogsOnError",
            active_deadline_seconds=request.job.timeout_s,
            pod_template_dict=_template(settings.template),
        )
        pod: k8s.V1Pod = operator.build_pod_request_obj(context, dry_run=context is None)
    except (OSError, AirflowException, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunnerUnavailable(f"No pod can be made from the template {settings.template or '(built in)'}: {error}") from error
    return _hardened(pod)


def _template(path: str) -> dict[str, Any]:
    """The deployment's pod template. KubernetesPodOperator would go on with an empty pod, were its file missing."""
    if not path:
        return DEFAULT_TEMPLATE
    with Path(path).open(encoding="utf-8") as file:
        content = yaml.safe_load(file)
    if not isinstance(content, dict) or content.get("kind") != "Pod":
        raise ValueError(f"expected one manifest of kind Pod, found {type(content).__name__}")
    return content


def build_job(launch: Launch, pod: k8s.V1Pod) -> k8s.V1Job:
    """The Indexed Job that runs `pod` on several nodes at once. One that fails ends them all: a training cannot go on without.

    The deadline stays the pods': a Job's own would count the time for which they wait for a node.
    """
    nodes = launch.request.job.nodes
    pod.spec.subdomain = launch.name
    queue = {QUEUE_LABEL: pod.metadata.labels.pop(QUEUE_LABEL)} if QUEUE_LABEL in pod.metadata.labels else {}
    template = k8s.V1PodTemplateSpec(
        metadata=k8s.V1ObjectMeta(labels=pod.metadata.labels, annotations=pod.metadata.annotations), spec=pod.spec
    )
    return k8s.V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=k8s.V1ObjectMeta(
            name=launch.name, namespace=pod.metadata.namespace, labels=pod.metadata.labels | queue, annotations=pod.metadata.annotations
        ),
        spec=k8s.V1JobSpec(
            completions=nodes,
            parallelism=nodes,
            completion_mode="Indexed",
            backoff_limit=0,
            pod_failure_policy=k8s.V1PodFailurePolicy(rules=[_SAY_DISRUPTION]),
            pod_replacement_policy="Failed",
            template=template,
        ),
    )


def build_service(job: Started) -> k8s.V1Service:
    """The headless service by which the nodes of `job` find each other. It goes with the Job."""
    owner = k8s.V1OwnerReference(api_version="batch/v1", kind="Job", name=job.name, uid=job.uid, controller=False)
    return k8s.V1Service(
        api_version="v1",
        kind="Service",
        metadata=k8s.V1ObjectMeta(
            name=job.name,
            namespace=job.namespace,
            labels=dict(MANAGED),
            owner_references=[owner],
        ),
        spec=k8s.V1ServiceSpec(
            cluster_ip="None",
            publish_not_ready_addresses=True,
            selector={JOB_NAME: job.name},
            ports=[k8s.V1ServicePort(name="rendezvous", port=RENDEZVOUS_PORT)],
        ),
    )


def task_key(ti: Any) -> dict[str, Any]:
    """Which task instance of Airflow's this is."""
    index = getattr(ti, "map_index", -1)
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": -1 if index is None else index}


def resources(launch: Launch) -> k8s.V1ResourceRequirements:
    """What the container is given. Memory, scratch and GPUs are limits too; processor time is not, for idle cores help everybody."""
    job = launch.request.job
    given = {
        "memory": str(job.memory_bytes * launch.memory_factor),
        "ephemeral-storage": str(job.ephemeral_storage_bytes),
    }
    if launch.gpus:
        given[launch.settings.gpu_resource] = str(launch.gpus)
    return k8s.V1ResourceRequirements(requests={"cpu": f"{math.ceil(job.cpu * 1000)}m", **given}, limits=given)


def _queue(launch: Launch) -> dict[str, str]:
    settings = launch.settings
    name = (launch.gpus and settings.gpu_queue) or settings.queue
    return {QUEUE_LABEL: name} if name else {}


def _processes(launch: Launch) -> dict[str, str]:
    job = launch.request.job
    values = {"SCANLOOP_PROCESSES_PER_NODE": str(launch.gpus)} if launch.gpus > 1 else {}
    if job.nodes > 1:
        values |= {"SCANLOOP_NODES": str(job.nodes), "SCANLOOP_RENDEZVOUS": f"{launch.name}-0.{launch.name}:{RENDEZVOUS_PORT}"}
    return values


def _plain(values: Mapping[str, str]) -> list[k8s.V1EnvVar]:
    return [k8s.V1EnvVar(name=name, value=value) for name, value in sorted(values.items())]


def _secrets(job: JobSpec) -> list[k8s.V1EnvVar]:
    """Each variable from the Secret `scanloop-<name>`, under its own name."""

    def variable(secret: str, name: str) -> k8s.V1EnvVar:
        key = k8s.V1SecretKeySelector(name=f"scanloop-{secret}", key=name, optional=secret in OPTIONAL_SECRETS)
        return k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=key))

    return [variable(secret, name) for secret in job.secrets for name in SECRET_VARIABLES[secret]]


def _hardened(pod: k8s.V1Pod) -> k8s.V1Pod:
    """What the `restricted` standard asks for, over whatever the template says; a user and groups stay the template's."""
    spec = pod.spec
    context = spec.security_context = spec.security_context or k8s.V1PodSecurityContext()
    if isinstance(context, Mapping):
        context = spec.security_context = k8s.V1PodSecurityContext(**context)
    context.run_as_non_root = True
    context.seccomp_profile = k8s.V1SeccompProfile(type="RuntimeDefault")
    if spec.automount_service_account_token is None:
        spec.automount_service_account_token = False
    spec.host_network = spec.host_pid = spec.host_ipc = None
    for container in (*spec.containers, *(spec.init_containers or ())):
        own = container.security_context = container.security_context or k8s.V1SecurityContext()
        own.allow_privilege_escalation = False
        own.run_as_user = own.run_as_user or None
        own.privileged = own.run_as_non_root = own.seccomp_profile = None
        own.capabilities = k8s.V1Capabilities(drop=["ALL"])
        own.read_only_root_filesystem = True
    return pod
