"""Why an attempt ended, and how often each may happen before a task gives up. Pure.

A failure of the code, of a node and of a registry have nothing in common but the red square. Each has its own budget and its own delay;
Airflow's `retries` is the sum of the budgets, and a task ends earlier when one of them is used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt ended."""

    DONE = "done"
    """Exit code 0."""
    NOTHING_TO_DO = "nothing_to_do"
    """Exit code 99."""
    WRONG_ARGUMENTS = "wrong_arguments"
    """Exit code 64."""
    WRONG_DATA = "wrong_data"
    """Exit code 65."""
    UNAVAILABLE = "unavailable"
    """Exit code 75: something that the job needs is not there now."""
    FAILED = "failed"
    """Any other exit code: a mistake in the code, or in what it runs on."""
    NO_RECEIPT = "no_receipt"
    """Ended well and left no completion receipt."""
    CANCELLED = "cancelled"
    """Airflow asked for its end."""
    INTERRUPTED = "interrupted"
    """Ended by a signal that Airflow did not send."""
    DEADLINE = "deadline"
    """All its time was used."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel ended it because it used more memory than it has."""
    PREEMPTED = "preempted"
    """Its place was given to a pod of higher priority."""
    EVICTED = "evicted"
    """The node or an administrator sent it away: drained, out of disk or memory."""
    NODE_LOST = "node_lost"
    """The node died, was shut down or lost touch."""
    DELETED = "deleted"
    """Somebody deleted the pod."""
    IMAGE_PULL = "image_pull"
    """The container image cannot be fetched."""
    NOT_STARTED = "not_started"
    """The container cannot be started: a secret, a volume or the command is missing."""
    REFUSED = "refused"
    """The cluster does not take the pod now: quota, admission, no answer."""


@dataclass(frozen=True)
class Budget:
    """How often a cause is forgiven."""

    retries: int
    """Attempts after the first such end."""
    delay_s: int
    """Wait before the next attempt; doubled each time."""
    max_delay_s: int
    """The wait never exceeds this."""
    advice: str
    """What a person should look at once the budget is used up."""


BUDGETS = {
    Cause.UNAVAILABLE: Budget(7, 10, 600, "Look at what the message names: is it up, and reachable from the job?"),
    Cause.FAILED: Budget(2, 30, 300, "This looks like a mistake in the code; the last lines say where."),
    Cause.NO_RECEIPT: Budget(2, 30, 300, "The job must write its receipt last; look at its log and at the store."),
    Cause.CANCELLED: Budget(3, 10, 60, "It was cancelled again and again; look at who restarts Airflow's workers."),
    Cause.INTERRUPTED: Budget(4, 10, 300, "Look at what ends processes on this machine."),
    Cause.DEADLINE: Budget(1, 10, 10, "Give the job more time, or less to do. A training goes on from its last state."),
    Cause.OUT_OF_MEMORY: Budget(1, 10, 10, "It was given twice the memory and that was not enough. Give the job more, or less to do at once."),
    Cause.PREEMPTED: Budget(8, 10, 600, "The queue is too full for this priority; give the job a higher one or the queue more quota."),
    Cause.EVICTED: Budget(4, 30, 600, "Look at the node's disk and memory, and at the job's ephemeral storage."),
    Cause.NODE_LOST: Budget(4, 30, 600, "Look at the nodes."),
    Cause.DELETED: Budget(3, 10, 300, "Somebody or something deletes the pods; the audit log of the cluster says who."),
    Cause.IMAGE_PULL: Budget(2, 60, 600, "Look at the image's name, the registry and the pull secret."),
    Cause.NOT_STARTED: Budget(2, 60, 300, "Look at the secrets, volumes and the command of the pod."),
    Cause.REFUSED: Budget(8, 30, 600, "Look at the quota of the namespace and at the Kubernetes API."),
}  # fmt: skip
"""Causes that another attempt may mend. Every other cause ends the task, well or badly."""

RETRIES = sum(budget.retries for budget in BUDGETS.values())
"""Airflow's `retries` of every task that runs a job."""

VERDICTS = {
    0: Cause.DONE,
    64: Cause.WRONG_ARGUMENTS,
    65: Cause.WRONG_DATA,
    75: Cause.UNAVAILABLE,
    99: Cause.NOTHING_TO_DO,
}
"""Exit codes that mean something."""


def delay_before_next(cause: Cause, times: int) -> int:
    """Seconds to wait after the `times`-th end by `cause` (from 1). Raises KeyError for a cause that is never retried."""
    budget = BUDGETS[cause]
    return min(budget.max_delay_s, budget.delay_s * 2 ** max(0, min(times, 20) - 1))
