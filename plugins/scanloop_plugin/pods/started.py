"""What was started in a cluster, and what can be wrong with the cluster. Light: DAG files import it."""

from __future__ import annotations

from dataclasses import dataclass


class ClusterUnavailable(Exception):
    """The cluster does not answer, or has no place now. Another attempt may succeed."""


class ClusterRefuses(Exception):
    """The cluster will never take this: it is forbidden or invalid."""


@dataclass(frozen=True)
class Started:
    """Something that runs an attempt: a pod, or a Job of several."""

    kind: str
    """`pod` or `job`."""
    name: str
    """Its name."""
    uid: str
    """Its uid: what is created anew under the same name is something else."""
    namespace: str
    """Where it is."""
