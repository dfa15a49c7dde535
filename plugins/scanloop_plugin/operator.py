"""The operator that runs a job of Scanloop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from scanloop_plugin.causes import BUDGETS, Cause
from scanloop_plugin.command_line import OptionValue, command_line, part_of
from scanloop_plugin.ends import known_ends, record
from scanloop_plugin.environment import job_environment
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.links import ExperimentLink
from scanloop_plugin.log_lines import LogLine
from scanloop_plugin.outcome import (
    TAIL_LINES,
    JobUnavailable,
    JobWrong,
    ReceiptMissing,
    cause_of,
    raise_unless_done,
    raise_within_budget,
)
from scanloop_plugin.pods.started import ClusterUnavailable, Started
from scanloop_plugin.receipt_check import verified_result
from scanloop_plugin.run_identity import actor_of, consumed_run_ids, safe_run_id
from scanloop_plugin.runners import JobOutcome, JobRequest, Runner, RunnerUnavailable, open_runner, outcome_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from scanloop_plugin.runners.kubernetes import KubernetesRunner

QUEUE_PATIENCE_S = 7 * 24 * 3600
"""A pod may wait in a queue for so long before its task gives up."""
RUN_RESOURCES = {"gpus": "gpu", "nodes": "nodes"}
"""What a run may ask for, and the field of the job that it goes before."""
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
    :param resources_wanted: what the run asks for over the job's own: `gpus` (on each node) and `nodes`; values may be `form(name)`, None
        leaves the job's.
    """

    template_fields: Sequence[str] = ("options", "resources_wanted")
    ui_color = "#e8f1fa"
    operator_extra_links = (ExperimentLink(),)

    def __init__(
        self,
        *,
        job: JobSpec,
        options: Mapping[str, OptionValue] | None = None,
        returns: str | None = None,
        keys_from: str | None = None,
        resources_wanted: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("execution_timeout") is None:
            kwargs["execution_timeout"] = timedelta(seconds=job.timeout_s + TIMEOUT_MARGIN_S)
        super().__init__(**kwargs)
        self.job = job
        self.options = dict(options) if isinstance(options, Mapping) else options or {}
        self.returns = returns
        self.keys_from = keys_from
        self.resources_wanted = dict(resources_wanted or {})
        self._runner: Runner | KubernetesRunner | None = None

    def execute(self, context: Context) -> Any:
        """Run the job, wait for its end, and verify its receipt. Raises as `raise_unless_done` and `verified_result` do."""
        request = self._request(context)
        self.log.info("Run %s: scanloop %s", request.run_id, " ".join(request.arguments))
        try:
            self._runner = open_runner(os.environ.get("SCANLOOP_RUNNER") or "local")
            if not self._runner.waits:
                return self._launch(context, request, self._runner)
            outcome, tail = self._run_here(request, self._runner)
        except RunnerUnavailable as error:
            raise JobWrong(str(error)) from error
        return self._settle(context, request, outcome, tail, f"attempt {context['ti'].try_number}")

    def resume(self, context: Context, event: Mapping[str, Any], started: Mapping[str, str]) -> Any:
        """Go on where the trigger saw the job's end. Raises as `execute` does."""
        from scanloop_plugin.runners.kubernetes import KubernetesRunner

        request, runner = self._request(context), KubernetesRunner()
        self._runner = runner
        watched = Started(**started)
        try:
            return self._settle(context, request, outcome_of(event), event["tail"], watched.uid)
        finally:
            runner.clear_away(watched)

    def on_kill(self) -> None:
        """End the job with everything it started."""
        if self._runner is not None:
            self.log.warning("Cancelled: ending %s.", self.job.name)
            self._runner.cancel()

    def _run_here(self, request: JobRequest, runner: Runner) -> tuple[JobOutcome, list[str]]:
        if request.job.nodes > 1:
            raise RunnerUnavailable(f"{request.job.name} is to run on {request.job.nodes} nodes; this deployment has one machine.")
        tail: deque[str] = deque(maxlen=TAIL_LINES)

        def emit(line: LogLine) -> None:
            tail.append(line.text)
            self.log.log(line.level, "%s", line.text)

        return runner.run(request, emit), list(tail)

    def _launch(self, context: Context, request: JobRequest, runner: KubernetesRunner) -> Any:
        """Start or adopt the pod and wait in the triggerer. Raises TaskDeferred, or as `_settle` for an attempt that is over already."""
        try:
            begun = runner.begin(request, context, known_ends(request))
            if isinstance(begun, tuple):  # a pod of an earlier attempt, on its way out
                self._settle(context, request, begun[1], [], begun[0].uid, is_over=True)
                begun = runner.begin(request, context, known_ends(request))
        except ClusterUnavailable as error:
            outcome = JobOutcome(1, cause=Cause.REFUSED, detail=str(error))
            return self._settle(context, request, outcome, [], f"attempt {context['ti'].try_number}")
        if isinstance(begun, tuple):
            raise JobUnavailable(f"Two pods work on {request.job.name} and are being deleted; another attempt will find them gone.")
        self.defer(
            trigger=runner.trigger(begun),
            method_name="resume",
            kwargs={"started": asdict(begun)},
            timeout=timedelta(seconds=request.job.timeout_s + QUEUE_PATIENCE_S),
        )
        return None

    def _settle(
        self, context: Context, request: JobRequest, outcome: JobOutcome, tail: list[str], end_id: str, *, is_over: bool = False
    ) -> Any:
        """The result of an attempt that has ended, or what Airflow should make of its end. `is_over`: note it and go on."""
        ti, cause = context["ti"], cause_of(outcome)
        ends = None
        if cause in BUDGETS:
            ends = record(request, end_id, ti.try_number, _series_start(ti, self.retries), cause, outcome, tail[-1] if tail else "")
        if is_over:
            return None
        raise_unless_done(request.job, outcome, tail, ends)
        try:
            found = verified_result(request.job, request.run_id, request.part)
        except ReceiptMissing as error:
            ends = record(request, end_id, ti.try_number, _series_start(ti, self.retries), error.cause, outcome, str(error))
            raise_within_budget(error, error.cause, ends)
        if self.keys_from is not None:
            self._announce(context, found[self.keys_from])
        elif product_line := self.options.get("product-line"):
            self._announce(context, [str(product_line)])
        return found[self.returns] if self.returns else found

    def _request(self, context: Context) -> JobRequest:
        """What to run, for this DAG run. Raises JobWrong for what the job itself would refuse with exit code 64."""
        dag_run = context["dag_run"]
        run_id = safe_run_id(dag_run.dag_id, dag_run.run_id)
        job = self._sized_job()
        arguments, part, product_line = self._arguments(dag_run.partition_key)
        deployment = os.environ.get("SCANLOOP_HOME", "")  # another one on this machine has runs of the same names
        environment = job_environment(
            job,
            os.environ,
            run_id=run_id,
            consumed=consumed_run_ids(dag_run.consumed_asset_events),
            actor=actor_of(dag_run),
            attempt=context["ti"].try_number,
            task_url=getattr(context["ti"], "log_url", ""),
        )
        mark = f"{deployment}:{run_id}/{job.name}/{part}"
        return JobRequest(job, tuple(arguments), environment, mark, run_id, part, product_line)

    def _sized_job(self) -> JobSpec:
        """The job with what the run asks for: `gpus` and `nodes` from the form go before the job's own. Raises JobWrong."""
        wanted = {
            field: self.resources_wanted[name] for name, field in RUN_RESOURCES.items() if self.resources_wanted.get(name) is not None
        }
        try:
            return replace(self.job, **wanted) if wanted else self.job
        except (ValueError, TypeError) as error:
            raise JobWrong(f"{self.job.name} cannot be run as asked: {error}") from error

    def _arguments(self, partition_key: str | None) -> tuple[list[str], str, str]:
        """The job's words, its part and its product line. Raises JobWrong for what the job itself would refuse with exit code 64."""
        options = dict(self.options)
        if self.job.is_keyed and not options.get("product-line"):
            if not partition_key:
                raise JobWrong(f"{self.job.name} works for one product line: start its DAG with a partition key.")
            options = {"product-line": partition_key, **options}
        try:
            return command_line(self.job, options), part_of(self.job, options), str(options.get("product-line") or "")
        except (ValueError, TypeError) as error:
            raise JobWrong(f"{self.job.name} cannot be run as asked: {error}") from error

    def _announce(self, context: Context, keys: list[str]) -> None:
        """Emit the task's assets for `keys`; for none, emit nothing at all."""
        self.log.info("Concerned: %s", ", ".join(keys) or "no product line")
        if not keys:
            self.outlets = []
        for asset in self.outlets:
            context["outlet_events"][asset].add_partitions(keys)


def _series_start(ti: Any, retries: int | None) -> int:
    """The first attempt since a person last cleared the task: clearing moves `max_tries`."""
    return max(1, int(getattr(ti, "max_tries", 0) or 0) - int(retries or 0) + 1)
