"""Where a job runs. One file a runner, each named in RUNNERS: `local` runs it while the task waits, `kubernetes` starts it and lets the task go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from scanloop_plugin.causes import Cause
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.log_lines import LogLine

if TYPE_CHECKING:
    from scanloop_plugin.runners.kubernetes import KubernetesRunner

RUNNERS = {
    "kubernetes": "scanloop_plugin.runners.kubernetes:KubernetesRunner",
    "local": "scanloop_plugin.runners.local:LocalRunner",
}
"""Value of SCANLOOP_RUNNER to the class that is it."""


class RunnerUnavailable(Exception):
    """The runner cannot run anything as this deployment is set up; trying again cannot help."""


@dataclass(frozen=True)
class JobRequest:
    """One attempt of one job."""

    job: JobSpec
    """What to run."""
    arguments: tuple[str, ...]
    """Words after `scanloop`."""
    environment: Mapping[str, str]
    """Its whole environment."""
    mark: str
    """The same for every attempt of this job in this run, and for no other."""
    run_id: str = ""
    """Which run it belongs to."""
    part: str = ""
    """Which part of a job that was split."""
    product_line: str = ""
    """Product line it works for, if it is keyed."""


@dataclass(frozen=True)
class JobOutcome:
    """How an attempt ended."""

    exit_code: int
    """Its exit code; below zero the number of the signal that ended it."""
    timed_out: bool = False
    """Whether it was ended because its time was over."""
    cancelled: bool = False
    """Whether it was ended because Airflow asked."""
    cause: Cause | None = None
    """Why it ended, where the runner knows more than the exit code says."""
    detail: str = ""
    """What the cluster says about it."""


class Runner(Protocol):
    """Runs one attempt and waits for its end."""

    waits: bool
    """True. A runner that does not wait is no Runner: see `scanloop_plugin.runners.kubernetes`."""

    def run(self, request: JobRequest, emit: Callable[[LogLine], None]) -> JobOutcome:
        """Run the attempt, handing each line it writes to `emit` as it comes. Raises RunnerUnavailable."""
        ...

    def cancel(self) -> None:
        """End the attempt with everything it started. Called from a signal handler while `run` waits."""
        ...


def open_runner(name: str) -> Runner | KubernetesRunner:
    """The runner that `name` means. Raises RunnerUnavailable when this version has none of that name, or the deployment lacks its settings."""
    if name not in RUNNERS:
        raise RunnerUnavailable(f"SCANLOOP_RUNNER={name}: this runner is not available. Available: {', '.join(sorted(RUNNERS))}.")
    module, _, attribute = RUNNERS[name].partition(":")
    runner: Runner | KubernetesRunner = getattr(import_module(module), attribute)()
    return runner


def outcome_of(event: Mapping[str, Any]) -> JobOutcome:
    """What the trigger said, as a value. Raises ValueError for a cause that this version does not know."""
    cause = None if event["cause"] is None else Cause(event["cause"])
    return JobOutcome(int(event["exit_code"]), bool(event["timed_out"]), bool(event["cancelled"]), cause, str(event["detail"]))
