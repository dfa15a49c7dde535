"""What this deployment says about pods, read once from the environment of Airflow's processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scanloop_plugin.runners import RunnerUnavailable

CONNECTION = "kubernetes_default"


@dataclass(frozen=True)
class PodSettings:
    """Where pods run and what they have in common."""

    namespace: str
    """Namespace of the jobs."""
    template: str
    """Path of the pod template that every pod begins with; empty: the built-in one."""
    images: Mapping[str, str]
    """Full reference of each image by its plain name: `jobs`, `train`."""
    queue: str
    """Kueue LocalQueue of jobs without GPUs; empty: none."""
    gpu_queue: str
    """Kueue LocalQueue of jobs with GPUs; empty: as `queue`."""
    gpu_resource: str
    """Name of the GPU resource; empty: this deployment has no GPUs."""
    connection: str = CONNECTION
    """Airflow connection that leads to the cluster."""

    def image(self, name: str) -> str:
        """The full reference of the image called `name`. Raises RunnerUnavailable if the deployment names none."""
        if not self.images.get(name):
            raise RunnerUnavailable(
                f"SCANLOOP_IMAGE_{name.upper()} is not set: name the container image of the {name} jobs, with its digest."
            )
        return self.images[name]


def read_pod_settings(environment: Mapping[str, str]) -> PodSettings:
    """Read the settings. Raises RunnerUnavailable when the namespace is missing."""
    namespace = environment.get("SCANLOOP_KUBERNETES_NAMESPACE", "")
    if not namespace:
        raise RunnerUnavailable("SCANLOOP_KUBERNETES_NAMESPACE is not set: name the namespace that jobs run in.")
    prefix = "SCANLOOP_IMAGE_"
    return PodSettings(
        namespace=namespace,
        template=environment.get("SCANLOOP_KUBERNETES_POD_TEMPLATE", ""),
        images={name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)},
        queue=environment.get("SCANLOOP_KUBERNETES_QUEUE", ""),
        gpu_queue=environment.get("SCANLOOP_KUBERNETES_GPU_QUEUE", ""),
        gpu_resource=environment.get("SCANLOOP_KUBERNETES_GPU_RESOURCE", "nvidia.com/gpu"),
        connection=environment.get("SCANLOOP_KUBERNETES_CONNECTION") or CONNECTION,
    )
