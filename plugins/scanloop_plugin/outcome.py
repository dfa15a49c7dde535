"""What the end of a job means to Airflow. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from scanloop_plugin.causes import BUDGETS, VERDICTS, Cause, delay_before_next
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.runners import JobOutcome

TAIL_LINES = 20


class JobFailed(AirflowException):
    """The attempt failed; another one may succeed."""

    cause = Cause.FAILED
    delay_s = BUDGETS[Cause.FAILED].delay_s
    """Seconds to wait before the next attempt."""


class JobUnavailable(JobFailed):
    """Something that the job needs is not available now."""

    cause = Cause.UNAVAILABLE
    delay_s = BUDGETS[Cause.UNAVAILABLE].delay_s


class ReceiptMissing(JobFailed):
    """The job ended well without its completion receipt, so nothing it did counts."""

    cause = Cause.NO_RECEIPT


class JobInterrupted(JobFailed):
    """The attempt was ended from outside; it says nothing about the code."""

    cause = Cause.INTERRUPTED


class JobWrong(AirflowFailException):
    """The data or the arguments are wrong; another attempt would fail alike."""


class JobGivenUp(AirflowFailException):
    """The same thing ended the job too often."""


class JobSkipped(AirflowSkipException):
    """There was nothing to do."""


OUTSIDE = {
    Cause.CANCELLED: "was cancelled",
    Cause.INTERRUPTED: "was interrupted",
    Cause.PREEMPTED: "was preempted by a pod of higher priority",
    Cause.EVICTED: "was evicted from its node",
    Cause.NODE_LOST: "lost its node",
    Cause.DELETED: "lost its pod: somebody deleted it",
    Cause.IMAGE_PULL: "did not start: its container image cannot be fetched",
    Cause.NOT_STARTED: "did not start",
    Cause.REFUSED: "was not taken by the cluster",
}
"""Ends that say nothing about the code, as a person reads them."""


def cause_of(outcome: JobOutcome) -> Cause:
    """Why the attempt ended: what the runner says, else what its exit code says."""
    if outcome.cause is not None:
        return outcome.cause
    if outcome.cancelled:
        return Cause.CANCELLED
    if outcome.timed_out:
        return Cause.DEADLINE
    if outcome.exit_code < 0:
        return Cause.INTERRUPTED
    return VERDICTS.get(outcome.exit_code, Cause.FAILED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _how_it_ended(job: JobSpec, cause: Cause, outcome: JobOutcome) -> str:
    detail = f" ({outcome.detail})" if outcome.detail else ""
    if cause is Cause.DEADLINE:
        return f"was ended after {job.timeout_s} s, all the time it has{detail}"
    if cause is Cause.OUT_OF_MEMORY:
        return f"was ended because it used more memory than it has{detail}"
    if cause is Cause.INTERRUPTED and outcome.exit_code < 0:
        return f"was ended by {_signal_name(-outcome.exit_code)}{detail}"
    return OUTSIDE[cause] + detail if cause in OUTSIDE else f"ended with exit code {outcome.exit_code}{detail}"


def raise_unless_done(job: JobSpec, outcome: JobOutcome, tail: Sequence[str], ends: Mapping[str, int] | None = None) -> None:
    """Return when the job ended well, else raise what Airflow should make of its end.

    `tail` holds its last lines. `ends` says how often each cause has ended this job of this run, this end included; None: nobody knows, so
    Airflow's own count of retries decides.

    Raises:
        JobSkipped: nothing to do (99).
        JobWrong: wrong arguments (64) or wrong data (65).
        JobGivenUp: the budget of this cause is used up.
        JobUnavailable: the world is unavailable (75).
        JobInterrupted: ended from outside: by a signal, a node, the cluster.
        JobFailed: anything else: out of time, out of memory, any other exit code.
    """
    cause = cause_of(outcome)
    message = tail[-1].removeprefix("Nothing to do: ").removeprefix("Error: ") if tail else "it wrote nothing"
    before = "\n".join(("\nIts last lines:", *tail[-TAIL_LINES:])) if len(tail) > 1 else ""
    match cause:
        case Cause.DONE:
            return
        case Cause.NOTHING_TO_DO:
            raise JobSkipped(f"{job.name} has nothing to do: {message}")
        case Cause.WRONG_ARGUMENTS:
            raise JobWrong(f"{job.name} cannot be run as asked: {message}{before}")
        case Cause.WRONG_DATA:
            raise JobWrong(f"{job.name} found wrong data: {message}{before}")
        case Cause.UNAVAILABLE:
            raise_within_budget(JobUnavailable(f"{job.name} has to wait: {message}{before}"), cause, ends)
        case _ if cause in OUTSIDE:
            raise_within_budget(JobInterrupted(f"{job.name} {_how_it_ended(job, cause, outcome)}.{before}"), cause, ends)
        case _:
            raise_within_budget(JobFailed(f"{job.name} {_how_it_ended(job, cause, outcome)}: {message}{before}"), cause, ends)


def raise_within_budget(failure: JobFailed, cause: Cause, ends: Mapping[str, int] | None) -> None:
    """Raise `failure` with its cause and delay while the budget of `cause` lasts, else JobGivenUp."""
    times = (ends or {}).get(cause, 1)
    if times > BUDGETS[cause].retries:
        raise JobGivenUp(f"{failure}\nGiven up: {times} attempts ended so. {BUDGETS[cause].advice}")
    failure.cause = cause
    failure.delay_s = delay_before_next(cause, times)
    raise failure
