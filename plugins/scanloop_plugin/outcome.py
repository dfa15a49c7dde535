"""What the end of a job means to Airflow. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import IntEnum

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.runners import JobOutcome

TAIL_LINES = 20


class Exit(IntEnum):
    """Exit codes that mean something; any other is a failure of the infrastructure."""

    DONE = 0
    WRONG_ARGUMENTS = 64
    DATA_WRONG = 65
    WORLD_UNAVAILABLE = 75
    NOTHING_TO_DO = 99


class JobFailed(AirflowException):
    """The job failed as infrastructure does; another attempt may succeed."""


class JobUnavailable(JobFailed):
    """Something that the job needs is not available now."""


class ReceiptMissing(JobFailed):
    """The job ended well without its completion receipt, so nothing it did counts."""


class JobWrong(AirflowFailException):
    """The data or the arguments are wrong; another attempt would fail alike."""


class JobSkipped(AirflowSkipException):
    """There was nothing to do."""


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


def raise_unless_done(job: JobSpec, outcome: JobOutcome, tail: Sequence[str]) -> None:
    """Return when the job ended well, else raise what Airflow should make of its end; `tail` holds its last lines.

    Raises:
        JobSkipped: nothing to do (99).
        JobWrong: wrong arguments (64) or wrong data (65).
        JobUnavailable: the world is unavailable (75).
        JobFailed: anything else: cancelled, out of time, killed, any other exit code.
    """
    message = tail[-1].removeprefix("Nothing to do: ").removeprefix("Error: ") if tail else "it wrote nothing"
    before = "\n".join(("\nIts last lines:", *tail[-TAIL_LINES:])) if len(tail) > 1 else ""
    if outcome.cancelled:
        raise JobFailed(f"{job.name} was cancelled.{before}")
    if outcome.timed_out:
        raise JobFailed(f"{job.name} was ended after {job.timeout_s} s, all the time it has.{before}")
    match outcome.exit_code:
        case Exit.DONE:
            return
        case Exit.NOTHING_TO_DO:
            raise JobSkipped(f"{job.name} has nothing to do: {message}")
        case Exit.WRONG_ARGUMENTS:
            raise JobWrong(f"{job.name} cannot be run as asked: {message}{before}")
        case Exit.DATA_WRONG:
            raise JobWrong(f"{job.name} found wrong data: {message}{before}")
        case Exit.WORLD_UNAVAILABLE:
            raise JobUnavailable(f"{job.name} has to wait: {message}{before}")
        case code:
            raise JobFailed(f"{job.name} {_how_it_ended(code)}: {message}{before}")
