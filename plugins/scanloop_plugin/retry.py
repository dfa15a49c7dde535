"""How long a task waits before its next attempt: as the cause of its last end asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from scanloop_plugin.outcome import JobFailed

if TYPE_CHECKING:
    from airflow.sdk import Context


class CauseRetryPolicy(RetryPolicy):
    """Delay by cause. That a budget is used up is said by the operator itself, with an exception that Airflow never retries."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None) -> RetryDecision:
        """The delay of the failure's cause; Airflow's own rules for anything else."""
        if isinstance(exception, JobFailed):
            return RetryDecision.retry(timedelta(seconds=exception.delay_s), reason=exception.cause.value)
        return RetryDecision.default()
