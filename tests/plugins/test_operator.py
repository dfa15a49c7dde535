"""The operator: a job run for a DAG run, its receipt, what it hands on and what it emits."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import airflow_here  # noqa: F401
import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from scanloop_plugin.approval import PromotionApprovalOperator
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.outcome import JobFailed, JobSkipped, JobUnavailable, JobWrong, ReceiptMissing
from scanloop_plugin.references import form, result, result_if_any
from scanloop_plugin.run_identity import safe_run_id

RUN_ID = "asset_triggered__2026-01-01T00:00:00+00:00_x"
TRAIN = JobSpec(("model", "train"), "train", cpu=1, memory_bytes=1 << 30, timeout_s=30, is_keyed=True)
SHARD = JobSpec(("ingest", "shard"), "jobs", cpu=1, memory_bytes=1 << 30, timeout_s=30, part_option="shard")
DUE = JobSpec(("product-line", "due"), "jobs", cpu=1, memory_bytes=1 << 30, timeout_s=30)
BACKFILL = JobSpec(("backfill", "plan"), "jobs", cpu=1, memory_bytes=1 << 30, timeout_s=30, is_keyed=True, part_option="product-line")
ASSET = Asset("things")


def _context(
    *, key: str | None = "cabin_baggage", attempt: int = 1, results: dict[str, Any] | None = None, **others: Any
) -> dict[str, Any]:
    event = SimpleNamespace(source_dag_id="snapshot_datasets", source_run_id="s")
    run = SimpleNamespace(
        dag_id="train_detector", run_id=RUN_ID, partition_key=key, triggering_user_name=None, consumed_asset_events=[event]
    )
    ti = SimpleNamespace(try_number=attempt, xcom_pull=lambda task_ids, default, **_: (results or {}).get(task_ids, default))
    return {"dag_run": run, "ti": ti, "outlet_events": OutletEventAccessors(), "params": {}, **others}


def _task(job: JobSpec = TRAIN, **others: Any) -> ScanloopJobOperator:
    return ScanloopJobOperator(task_id="task", job=job, **others)


def _emitted(task: ScanloopJobOperator, context: dict[str, Any]) -> list[str | None]:
    """Keys that the task's asset is emitted for when it succeeds; None stands for the run's own key."""
    from airflow.sdk.execution_time.task_runner import _serialize_outlet_events

    if ASSET not in task.outlets:
        return []
    return sorted((event.get("partition_key") for event in _serialize_outlet_events(context["outlet_events"])), key=str) or [None]


class TestSuccess:
    def test_result_is_that_of_the_receipt(self, fake_jobs) -> None:
        fake_jobs.scenario(model_train=[{"result": {"metrics": {"loss": 0.1}}}])
        assert _task().execute(_context())["metrics"] == {"loss": 0.1}

    def test_only_the_receipt_counts_not_what_was_said(self, fake_jobs) -> None:
        fake_jobs.scenario(model_train=[{"receipt": {"result": {"model_id": "true"}}, "result": {"model_id": "said"}}])
        assert _task().execute(_context()) == {"model_id": "true"}

    def test_one_entry_can_be_handed_on(self, fake_jobs) -> None:
        assert _task(returns="model_id").execute(_context()) == "cd" * 32

    def test_job_is_told_who_it_is(self, fake_jobs) -> None:
        _task().execute(_context(attempt=3))
        (call,) = fake_jobs.calls()
        told = {name.removeprefix("SCANLOOP_"): value for name, value in call["environment"].items()}
        assert call["words"] == ["model", "train", "--product-line=cabin_baggage"]
        assert told["RUN_ID"] == safe_run_id("train_detector", RUN_ID)
        assert told["ATTEMPT"] == "3"
        assert told["ACTOR"] == "airflow:train_detector"
        assert json.loads(told["CONSUMED_RUNS"]) == [safe_run_id("snapshot_datasets", "s")]

    def test_job_never_sees_airflow(self, fake_jobs) -> None:
        _task().execute(_context())
        (call,) = fake_jobs.calls()
        assert not [name for name in call["environment"] if "AIRFLOW" in name]

    def test_every_line_is_in_the_task_log(self, fake_jobs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ScanloopJobOperator, "log", logging.getLogger("task"))
        fake_jobs.scenario(model_train=[{"say": ["INFO a", "WARNING b", "100 % done \x1b[1mbold\x1b[0m"]}])
        with caplog.at_level(logging.INFO, logger="task"):
            _task().execute(_context())
        told = [(record.levelname, record.getMessage()) for record in caplog.records]
        for line in (("INFO", "INFO a"), ("WARNING", "WARNING b"), ("INFO", "100 % done bold")):
            assert line in told

    def test_running_again_uses_the_receipt_that_is_there(self, fake_jobs) -> None:
        assert _task().execute(_context()) == _task().execute(_context(attempt=2))
        assert len(fake_jobs.calls()) == 2


class TestReceipt:
    def test_without_one_nothing_counts(self, fake_jobs) -> None:
        fake_jobs.scenario(model_train=[{"receipt": False}])
        with pytest.raises(ReceiptMissing, match="no receipt"):
            _task().execute(_context())

    @pytest.mark.parametrize(
        "forged", [{"run_id": "another"}, {"job": "model.other"}, {"part": "1"}], ids=lambda forged: next(iter(forged))
    )
    def test_of_another_is_refused_for_good(self, fake_jobs, forged: dict[str, str]) -> None:
        fake_jobs.scenario(model_train=[{"receipt": forged}])
        with pytest.raises(JobWrong, match="expected"):
            _task().execute(_context())

    def test_that_is_none_is_refused_for_good(self, fake_jobs) -> None:
        fake_jobs.scenario(model_train=[{"receipt": {"finished_at": None}}])
        _task().execute(_context())
        (path,) = (fake_jobs.folder / "home" / "store" / "receipts").rglob("*.json")
        path.write_text("{}")
        fake_jobs.scenario(model_train=[{"receipt": False}])
        with pytest.raises(JobWrong, match="cannot be used"):
            _task().execute(_context())

    def test_that_cannot_be_read_now_is_waited_for(self, fake_jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        blocked = fake_jobs.folder / "a-file"
        blocked.write_text("")
        fake_jobs.scenario(model_train=[{"receipt": False}])
        monkeypatch.setenv("SCANLOOP_STORE_URL", (blocked / "store").as_uri())
        with pytest.raises(JobUnavailable, match="cannot be read"):
            _task().execute(_context())

    def test_of_another_part_does_not_count(self, fake_jobs) -> None:
        _task(SHARD, options={"shard": "00/02"}).execute(_context(key=None))
        (fake_jobs.folder / "scenario.json").write_text(json.dumps({"ingest.shard": [{"receipt": False}]}))
        with pytest.raises(ReceiptMissing):
            _task(SHARD, options={"shard": "01/02"}).execute(_context(key=None))


class TestFailure:
    @pytest.mark.parametrize(
        ("code", "error"),
        [(99, JobSkipped), (64, JobWrong), (65, JobWrong), (75, JobUnavailable), (70, JobFailed), (1, JobFailed), (137, JobFailed)],
    )
    def test_exit_code_decides(self, fake_jobs, code: int, error: type[Exception]) -> None:
        fake_jobs.scenario(model_train=[{"exit": code, "say": ["Error: because."]}])
        with pytest.raises(error, match="because") as caught:
            _task().execute(_context())
        assert type(caught.value) is error

    def test_message_holds_the_last_lines(self, fake_jobs) -> None:
        fake_jobs.scenario(model_train=[{"exit": 70, "say": [f"line {number}" for number in range(50)]}])
        with pytest.raises(JobFailed, match="line 48\nline 49"):
            _task().execute(_context())

    @pytest.mark.parametrize("key", [None, ""])
    def test_keyed_job_without_a_key_is_wrong(self, fake_jobs, key: str | None) -> None:
        with pytest.raises(JobWrong, match="partition key"):
            _task().execute(_context(key=key))
        assert fake_jobs.calls() == []

    def test_options_that_cannot_be_are_wrong(self, fake_jobs) -> None:
        with pytest.raises(JobWrong, match="cannot be run as asked"):
            _task(options={"snapshot": {"a": 1}}).execute(_context())
        assert fake_jobs.calls() == []

    def test_runner_that_this_version_lacks_is_named(self, fake_jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANLOOP_RUNNER", "slurm")
        with pytest.raises(JobWrong, match="SCANLOOP_RUNNER=slurm: this runner is not available"):
            _task().execute(_context())

    def test_a_deployment_without_a_namespace_is_told_so(self, fake_jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SCANLOOP_RUNNER", "kubernetes")
        with pytest.raises(JobWrong, match="SCANLOOP_KUBERNETES_NAMESPACE is not set"):
            _task().execute(_context())

    def test_missing_jobs_environment_is_named(self, fake_jobs) -> None:
        fake_jobs.executable.unlink()
        with pytest.raises(JobWrong, match="No scanloop command"):
            _task().execute(_context())


class TestKill:
    def test_on_kill_before_the_job_is_harmless(self) -> None:
        _task().on_kill()

    def test_timeout_of_the_task_follows_that_of_the_job(self) -> None:
        assert _task().execution_timeout == timedelta(seconds=90)
        assert _task(execution_timeout=timedelta(hours=1)).execution_timeout == timedelta(hours=1)


class TestAssets:
    def test_keyed_job_emits_for_its_run(self, fake_jobs) -> None:
        task, context = _task(outlets=[ASSET]), _context()
        task.execute(context)
        assert _emitted(task, context) == [None]

    def test_keys_come_from_the_result(self, fake_jobs) -> None:
        task, context = _task(DUE, keys_from="product_lines", outlets=[ASSET]), _context(key=None)
        task.execute(context)
        assert _emitted(task, context) == ["cabin_baggage", "hold_baggage"]

    def test_no_key_no_event(self, fake_jobs) -> None:
        (fake_jobs.folder / "scenario.json").write_text(json.dumps({"product-line.due": [{"result": {"product_lines": []}}]}))
        task, context = _task(DUE, keys_from="product_lines", outlets=[ASSET]), _context(key=None)
        task.execute(context)
        assert _emitted(task, context) == []

    def test_product_line_of_a_form_is_the_key(self, fake_jobs) -> None:
        task, context = _task(BACKFILL, options={"product-line": "hold_baggage", "category": "knife"}, outlets=[ASSET]), _context(key=None)
        task.execute(context)
        assert _emitted(task, context) == ["hold_baggage"]


class TestReferences:
    @pytest.fixture
    def earlier(self) -> ScanloopJobOperator:
        with DAG("d", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None):
            return ScanloopJobOperator(task_id="earlier", job=TRAIN)

    def test_entry_of_a_result(self, earlier) -> None:
        context = _context(results={"earlier": {"a": {"b": 3}}})
        assert result(earlier, "a", "b").resolve(context) == 3
        assert result(earlier).resolve(context) == {"a": {"b": 3}}

    def test_entry_that_must_be_there(self, earlier) -> None:
        with pytest.raises(AirflowFailException, match=r"earlier has no a\.c"):
            result(earlier, "a", "c").resolve(_context(results={"earlier": {"a": {"b": 3}}}))

    @pytest.mark.parametrize("results", [{}, {"earlier": {}}, {"earlier": {"a": None}}])
    def test_entry_that_may_be_missing(self, earlier, results: dict[str, Any]) -> None:
        assert result_if_any(earlier, "a", "b").resolve(_context(results=results)) is None

    def test_using_a_result_orders_the_tasks(self, earlier) -> None:
        with earlier.dag:
            later = ScanloopJobOperator(task_id="later", job=TRAIN, options={"snapshot": result(earlier, "snapshot_id")})
        assert later.upstream_task_ids == {"earlier"}

    def test_form_is_what_was_entered_and_never_a_template(self) -> None:
        task = _task(options={"set": form("changes")})
        with DAG("d", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None) as dag:
            dag.add_task(task)
        task.render_template_fields(_context(params={"changes": ["a={{ 1 / 0 }}"]}))
        assert task.options == {"set": ["a={{ 1 / 0 }}"]}


class TestApproval:
    DECISION: ClassVar[dict[str, Any]] = {
        "decision_id": "d1",
        "verdict": "promote",
        "needs_approval": True,
        "approvers": ["maria", "jan"],
        "reasons": ["better"],
    }

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """What people are asked: the request that goes to Airflow's server, which no test has."""
        requests: list[dict[str, Any]] = []
        monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **request: requests.append(request))
        return requests

    def _ask(self, **changes: Any) -> None:
        task = PromotionApprovalOperator(task_id="approve", decision=self.DECISION | changes)
        task.execute(_context() | {"task_instance": SimpleNamespace(id="t")})

    def test_asks_the_people_whom_the_decision_names(self, asked) -> None:
        from airflow.sdk.exceptions import TaskAwaitingInput

        with pytest.raises(TaskAwaitingInput):
            self._ask()
        (request,) = asked
        assert [user["id"] for user in request["assigned_users"]] == ["maria", "jan"]
        assert "- better" in request["body"]
        assert request["defaults"] == ["Reject"], "silence is a no"

    @pytest.mark.parametrize("changes", [{"needs_approval": False}, {"verdict": "reject"}, {"verdict": "insufficient_evidence"}])
    def test_is_skipped_where_none_is_needed(self, asked, changes: dict[str, Any]) -> None:
        from airflow.sdk.exceptions import AirflowSkipException

        with pytest.raises(AirflowSkipException):
            self._ask(**changes)
        assert asked == []

    def test_nobody_to_ask_is_no_approval(self, asked) -> None:
        with pytest.raises(AirflowFailException, match="no approver"):
            self._ask(approvers=[])
        assert asked == []


def test_lateness_is_said_in_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    from scanloop_plugin.lateness import report_lateness

    assert report_lateness(1200.0, context={"dag_run": {"dag_id": "ingest_scans", "dag_run_id": "r"}}) in caplog.text
    assert "LATE: ingest_scans run r is not done 1200 s after it was queued." in caplog.text
