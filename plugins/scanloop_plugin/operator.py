"""The operator that runs a job of Scanloop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from scanloop_plugin.command_line import OptionValue, command_line, part_of
from scanloop_plugin.environment import job_environment
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.log_lines import LogLine
from scanloop_plugin.outcome import TAIL_LINES, JobWrong, raise_unless_done
from scanloop_plugin.receipt_check import verified_result
from scanloop_plugin.run_identity import actor_of, consumed_run_ids, safe_run_id
from scanloop_plugin.runners import JobRequest, Runner, RunnerUnavailable, open_runner

if TYPE_CHECKING:
    from airflow.sdk import Context

TIMEOUT_MARGIN_S = 60
"""The runner ends a job at its timeout; Airflow's own timeout follows later, for a runner that hangs."""


class ScanloopJobOperator(BaseOperator):
    """Run one job and return the result that its completion receipt holds.

    :param job: what to run.
    :param options: its options by name without dashes, as `command_line` writes them; values may be `result(task, ...)` and `form(name)`.
        A keyed job without a `product-line` here works for the partition key of its DAG run.
    :param returns: hand on only this entry of the result, for instance a list to map over. Default: the whole result.
    :param keys_from: emit the task's assets once for each key that this entry of the result lists, for none not at all. Default: the product
        line named in `options`, or the run's own key.
    """

    template_fields: Sequence[str] = ("options",)
    ui_color = "#e8f1fa"

    def __init__(
        self,
        *,
        job: JobSpec,
        options: Mapping[str, OptionValue] | None = None,
        returns: str | None = None,
        keys_from: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("execution_timeout") is None:
            kwargs["execution_timeout"] = timedelta(seconds=job.timeout_s + TIMEOUT_MARGIN_S)
        super().__init__(**kwargs)
        self.job = job
        self.options = dict(options) if isinstance(options, Mapping) else options or {}
        self.returns = returns
        self.keys_from = keys_from
        self._runner: Runner | None = None

    def execute(self, context: Context) -> Any:
        """Run the job, wait for its end, and verify its receipt. Raises as `raise_unless_done` and `verified_result` do."""
        run_id = safe_run_id(context["dag_run"].dag_id, context["dag_run"].run_id)
        arguments, part = self._arguments(context["dag_run"].partition_key)
        deployment = os.environ.get("SCANLOOP_HOME", "")  # another one on this machine has runs of the same names
        mark = f"{deployment}:{run_id}/{self.job.name}/{part}"
        request = JobRequest(self.job, tuple(arguments), self._environment(context, run_id), mark)
        self.log.info("Run %s: scanloop %s", run_id, " ".join(arguments))
        tail: deque[str] = deque(maxlen=TAIL_LINES)

        def emit(line: LogLine) -> None:
            tail.append(line.text)
            self.log.log(line.level, "%s", line.text)

        try:
            self._runner = open_runner(os.environ.get("SCANLOOP_RUNNER") or "local")
            outcome = self._runner.run(request, emit)
        except RunnerUnavailable as error:
            raise JobWrong(str(error)) from error
        raise_unless_done(self.job, outcome, list(tail))
        found = verified_result(self.job, run_id, part)
        if self.keys_from is not None:
            self._announce(context, found[self.keys_from])
        elif product_line := self.options.get("product-line"):
            self._announce(context, [str(product_line)])
        return found[self.returns] if self.returns else found

    def on_kill(self) -> None:
        """End the job with everything it started."""
        if self._runner is not None:
            self.log.warning("Cancelled: ending %s.", self.job.name)
            self._runner.cancel()

    def _arguments(self, partition_key: str | None) -> tuple[list[str], str]:
        """The job's words and its part. Raises JobWrong for what the job itself would refuse with exit code 64."""
        options = dict(self.options)
        if self.job.is_keyed and not options.get("product-line"):
            if not partition_key:
                raise JobWrong(f"{self.job.name} works for one product line: start its DAG with a partition key.")
            options = {"product-line": partition_key, **options}
        try:
            return command_line(self.job, options), part_of(self.job, options)
        except (ValueError, TypeError) as error:
            raise JobWrong(f"{self.job.name} cannot be run as asked: {error}") from error

    def _environment(self, context: Context, run_id: str) -> dict[str, str]:
        dag_run = context["dag_run"]
        return job_environment(
            self.job,
            os.environ,
            run_id=run_id,
            consumed=consumed_run_ids(dag_run.consumed_asset_events),
            actor=actor_of(dag_run),
            attempt=context["ti"].try_number,
        )

    def _announce(self, context: Context, keys: list[str]) -> None:
        """Emit the task's assets for `keys`; for none, emit nothing at all."""
        self.log.info("Concerned: %s", ", ".join(keys) or "no product line")
        if not keys:
            self.outlets = []
        for asset in self.outlets:
            context["outlet_events"][asset].add_partitions(keys)
