"""Where a job runs. One file a runner; each implements `Runner` and is named in RUNNERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.log_lines import LogLine

RUNNERS = {"local": "scanloop_plugin.runners.local:LocalRunner"}
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


@dataclass(frozen=True)
class JobOutcome:
    """How an attempt ended."""

    exit_code: int
    """Its exit code; below zero the number of the signal that ended it."""
    timed_out: bool = False
    """Whether it was ended because its time was over."""
    cancelled: bool = False
    """Whether it was ended because Airflow asked."""


class Runner(Protocol):
    """Runs one attempt and waits for its end."""

    def run(self, request: JobRequest, emit: Callable[[LogLine], None]) -> JobOutcome:
        """Run the attempt, handing each line it writes to `emit` as it comes. Raises RunnerUnavailable."""
        ...

    def cancel(self) -> None:
        """End the attempt with everything it started. Called from a signal handler while `run` waits."""
        ...


def open_runner(name: str) -> Runner:
    """The runner that `name` means. Raises RunnerUnavailable when this version has none of that name."""
    if name not in RUNNERS:
        raise RunnerUnavailable(f"SCANLOOP_RUNNER={name}: this runner is not available. Available: {', '.join(sorted(RUNNERS))}.")
    module, _, attribute = RUNNERS[name].partition(":")
    runner: Runner = getattr(import_module(module), attribute)()
    return runner
