"""Runs a job as a pod, or as several pods at once. The worker starts or adopts it and leaves; the triggerer watches; a worker settles."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from scanloop_plugin.causes import Cause
from scanloop_plugin.pods.api import Manifest, PodApi
from scanloop_plugin.pods.manifest import Launch, build_job, build_pod
from scanloop_plugin.pods.settings import read_pod_settings
from scanloop_plugin.pods.started import ClusterRefuses, ClusterUnavailable, Started
from scanloop_plugin.pods.status import gone, pod_state
from scanloop_plugin.runners import JobOutcome, JobRequest, RunnerUnavailable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from scanloop_plugin.pods.trigger import JobPodTrigger

log = logging.getLogger(__name__)
MEMORY_FACTOR = 2
"""Memory of an attempt that follows one that ran out of it, as a multiple of what the job asks for."""


class KubernetesRunner:
    """One pod, or one Indexed Job, an attempt. Raises RunnerUnavailable when the deployment lacks a setting."""

    waits = False

    def __init__(self) -> None:
        self.settings = read_pod_settings(os.environ)
        self.api = PodApi(self.settings)
        self._started: Started | None = None

    def begin(self, request: JobRequest, context: Context, known_ends: Mapping[str, str]) -> Started | tuple[Started, JobOutcome]:
        """Adopt what works on `request` already, or start it. With an outcome: it is being deleted, and has to be settled first.

        `known_ends` are the recorded ends of this work by uid: what has ended and was settled is cleared away, never adopted.

        Raises:
            ClusterUnavailable: the cluster does not answer or has no place; another attempt may succeed.
            RunnerUnavailable: the cluster will never take this pod.
        """
        kind = "job" if request.job.nodes > 1 else "pod"
        try:
            adopted = None
            for manifest in self.api.find(request):
                started = self.api.started(kind, manifest)
                if started.uid in known_ends or adopted is not None:
                    log.info("Deleting %s %s, which is not needed any more.", kind, started.name)
                    self.api.delete(started)
                elif (outcome := _leaving(manifest)) is not None:
                    return started, outcome
                else:
                    adopted = started
            if adopted is not None:
                log.info("Adopting %s %s, which an earlier attempt started.", kind, adopted.name)
                self._started = adopted
                if kind == "job":
                    self.api.ensure_service(adopted)
                return adopted
            return self._start(request, context, known_ends)
        except ClusterRefuses as error:
            raise RunnerUnavailable(str(error)) from error

    def _start(self, request: JobRequest, context: Context, known_ends: Mapping[str, str]) -> Started:
        ran_out = Cause.OUT_OF_MEMORY.value in known_ends.values()
        launch = Launch(request, self.settings, len(known_ends), MEMORY_FACTOR if ran_out else 1)
        if ran_out:
            log.warning("An earlier attempt ran out of memory: this one is given %d times as much.", MEMORY_FACTOR)
        pod = build_pod(launch, context)
        self._started = self.api.create(launch, build_job(launch, pod) if request.job.nodes > 1 else pod)
        log.info("Started %s %s in namespace %s.", self._started.kind, self._started.name, self._started.namespace)
        return self._started

    def trigger(self, started: Started) -> JobPodTrigger:
        """What watches it."""
        from scanloop_plugin.pods.trigger import JobPodTrigger

        return JobPodTrigger(**asdict(started), connection=self.settings.connection)

    def clear_away(self, started: Started) -> None:
        """Delete what has ended and was settled. A cluster that does not answer is no failure: `watch_fleet` clears away later."""
        try:
            self.api.delete(started)
        except (ClusterUnavailable, ClusterRefuses) as error:
            log.warning("%s is left for watch_fleet: %s", started.name, error)

    def cancel(self) -> None:
        """Delete what was started, saying that we asked for it."""
        if self._started is not None:
            try:
                self.api.delete(self._started, is_cancelled=True)
            except (ClusterUnavailable, ClusterRefuses) as error:
                log.warning("%s could not be deleted and is left for watch_fleet: %s", self._started.name, error)


def _leaving(manifest: Manifest) -> JobOutcome | None:
    """The outcome of what is being deleted, as far as it can be told by now; None for what is not, or has ended well: that is adopted."""
    if not manifest["metadata"].get("deletionTimestamp"):
        return None
    outcome = pod_state(manifest).outcome or gone(manifest)
    return None if outcome.cause is Cause.DONE else outcome
