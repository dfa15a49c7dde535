"""Every command line a DAG can build is understood by the real command, as the job, part and product line that its operator expects."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import airflow_here
import pytest
from airflow.sdk.definitions.mappedoperator import MappedOperator

from scanloop_plugin.command_line import command_line, part_of
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.references import FormValue, ResultEntry

JOBS_PYTHON = airflow_here.ROOT / ".venv" / "jobs" / "bin" / "python"
KEY = "cabin_baggage"
RESULTS = {
    "model_id": "cd" * 32,
    "snapshot_id": "ab" * 32,
    "decision_id": "ef" * 32,
    "release_id": "12" * 32,
    "responded_by_user.id": "-o;$(id)",
}
FORMS: dict[str, list[Any]] = {
    "snapshot": [None, "ab" * 32],
    "recipe": [None, "rtmdet_tiny"],
    "changes": [[], ["iterations=400", "learning_rate=--help"]],
    "category": ["handgun"],
    "product_lines": [[KEY, "hold_baggage"]],
    "since": [None, "2026-01-31"],
    "until": [None, "2026-02-28"],
    "budget": [None, 50],
}


def _values(value: Any) -> list[Any]:
    """Every value that one option can take when its DAG runs."""
    if isinstance(value, ResultEntry):
        found = RESULTS[".".join(value.path)]
        return [found] if value.is_required else [None, found]
    if isinstance(value, FormValue):
        return FORMS[value.name]
    return [value]


def _mapped_options(task: MappedOperator) -> Iterator[Mapping[str, Any]]:
    """What a mapped task is given: by the function mapped over a list of shards, or by the task that reads the form."""
    given = task.expand_input.value["options"]
    if task.dag_id == "ingest_scans":
        (as_options,) = given.callables
        yield as_options("00/04")
        return
    assert task.dag_id == "backfill_category"
    names = ("category", "product_lines", "since", "until", "budget")
    for values in itertools.product(*(FORMS[name] for name in names)):
        yield from given.operator.python_callable(dict(zip(names, values, strict=True)))


def _tasks(dags) -> Iterator[tuple[str, JobSpec, Mapping[str, Any]]]:
    for dag in dags.values():
        for task in dag.tasks:
            name = f"{dag.dag_id}.{task.task_id}"
            if isinstance(task, ScanloopJobOperator):
                for values in itertools.product(*map(_values, task.options.values())):
                    yield name, task.job, dict(zip(task.options, values, strict=True))
            elif isinstance(task, MappedOperator):
                yield from ((name, task.partial_kwargs["job"], options) for options in _mapped_options(task))


@pytest.fixture(scope="module")
def answered(dags) -> list[dict[str, Any]]:
    """Each possible command line with what the real command made of it."""
    asked = []
    for name, job, options in _tasks(dags):
        whole = {"product-line": KEY, **options} if job.is_keyed else options
        environment = {"SCANLOOP_RUN_ID": f"run-{len(asked)}", "SCANLOOP_ATTEMPT": str(len(asked) % 7 + 1)}
        asked.append({"task": name, "job": job, "options": whole, "words": command_line(job, whole), "environment": environment})
    program = [str(JOBS_PYTHON), str(airflow_here.ROOT / "tests" / "dags" / "record_jobs.py")]
    request = json.dumps([{"words": one["words"], "environment": one["environment"]} for one in asked])
    done = subprocess.run(program, input=request, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [{**one, **answer} for one, answer in zip(asked, json.loads(done.stdout), strict=True)]


def test_every_task_that_runs_a_job_is_covered(dags, answered) -> None:
    jobs = {
        f"{dag.dag_id}.{task.task_id}"
        for dag in dags.values()
        for task in dag.tasks
        if isinstance(task, ScanloopJobOperator) or "job" in getattr(task, "partial_kwargs", {})
    }
    assert {one["task"] for one in answered} == jobs
    assert len(jobs) == 20


def test_command_understands_it(answered) -> None:
    refused = {" ".join(one["words"]): one["said"].strip() for one in answered if one["code"] != 0}
    assert refused == {}


def test_command_is_the_job_that_the_receipt_will_name(answered) -> None:
    for one in answered:
        (job,) = one["jobs"]
        assert job["job"] == one["job"].name, one["words"]
        assert job["part"] == part_of(one["job"], one["options"]), one["words"]


def test_command_works_for_the_product_line_under_a_lease(answered) -> None:
    for one in answered:
        (job,) = one["jobs"]
        assert job["product_line"] == (one["options"]["product-line"] if one["job"].is_keyed else None), one["words"]
        assert not one["job"].is_keyed or job["lease"], f"{one['words']} works on a product line without a lease"


def test_identity_reaches_the_job(answered) -> None:
    for one in answered:
        (job,) = one["jobs"]
        assert job["run_id"] == one["environment"]["SCANLOOP_RUN_ID"]
        assert str(job["attempt"]) == one["environment"]["SCANLOOP_ATTEMPT"]


def test_every_job_of_the_table_is_used(dags) -> None:
    from scanloop_dags import jobs

    table = {value for value in vars(jobs).values() if isinstance(value, JobSpec)}
    assert table == {job for _, job, _ in _tasks(dags)}
