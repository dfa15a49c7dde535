"""The pure rules of the plugin: job specs, command lines, environments, identities, lines, outcomes."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace
from typing import Any

import airflow_here  # noqa: F401
import pytest

from scanloop_plugin.approval import decision_text
from scanloop_plugin.command_line import command_line, part_of
from scanloop_plugin.environment import job_environment
from scanloop_plugin.job_spec import SECRET_VARIABLES, JobSpec
from scanloop_plugin.log_lines import MAX_LINE_LENGTH, LineSplitter, log_line
from scanloop_plugin.outcome import JobFailed, JobSkipped, JobUnavailable, JobWrong, raise_unless_done
from scanloop_plugin.run_identity import MAX_RUN_ID_LENGTH, actor_of, consumed_run_ids, safe_run_id
from scanloop_plugin.runners import JobOutcome

GIB = 1 << 30


def _job(**changes: Any) -> JobSpec:
    return JobSpec(**{"command": ("model", "train"), "image": "train", "cpu": 2, "memory_bytes": GIB, "timeout_s": 60} | changes)


class TestJobSpec:
    def test_is_named_by_its_command(self) -> None:
        assert _job(command=("product-line", "due")).name == "product-line.due"

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"command": ()}, "command"),
            ({"command": ("model", "--train")}, "command"),
            ({"command": ("model", "train; rm")}, "command"),
            ({"image": "registry.example.com/train:latest"}, "image"),
            ({"image": ""}, "image"),
            ({"cpu": 0}, "cpu"),
            ({"gpu": -1}, "gpu"),
            ({"memory_bytes": 1000}, "memory_bytes"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"timeout_s": 8 * 24 * 3600}, "timeout_s"),
            ({"secrets": ("catalog", "signer")}, "signer"),
            ({"part_option": "--shard"}, "part_option"),
        ],
    )
    def test_refuses(self, changes: dict[str, Any], word: str) -> None:
        with pytest.raises(ValueError, match=word):
            _job(**changes)

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            _job().timeout_s = 1  # type: ignore[misc]

    def test_every_field_says_what_it_is(self) -> None:
        import ast
        import inspect

        body = ast.parse(inspect.getsource(JobSpec)).body[0].body  # type: ignore[attr-defined]
        for position, node in enumerate(body):
            if isinstance(node, ast.AnnAssign):
                following = body[position + 1]
                assert isinstance(following, ast.Expr), node.target.id  # type: ignore[union-attr]
                assert isinstance(following.value, ast.Constant), node.target.id  # type: ignore[union-attr]


class TestCommandLine:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, []),
            ({"model": "ab", "budget": 5, "share": 0.5}, ["--model=ab", "--budget=5", "--share=0.5"]),
            ({"dry-run": True, "force": False}, ["--dry-run"]),
            ({"snapshot": None, "recipe": "", "set": []}, []),
            ({"set": ["a=1", "b=2"]}, ["--set=a=1", "--set=b=2"]),
            ({"approver": "--help"}, ["--approver=--help"]),
            ({"approver": "x y; $(id) `id` {{ 1 }}\n-z"}, ["--approver=x y; $(id) `id` {{ 1 }}\n-z"]),
            ({"budget": 0}, ["--budget=0"]),
        ],
    )
    def test_writes(self, options: dict[str, Any], words: list[str]) -> None:
        assert command_line(_job(), options) == ["model", "train", *words]

    @pytest.mark.parametrize("name", ["", "Snapshot", "a b", "--set", "a=b", "a\n"])
    def test_refuses_a_name_that_is_none(self, name: str) -> None:
        with pytest.raises(ValueError, match="Not an option"):
            command_line(_job(), {name: "x"})

    @pytest.mark.parametrize("value", [{"a": 1}, [True], [["a"]], b"ab", object()])
    def test_refuses_a_value_of_another_type(self, value: object) -> None:
        with pytest.raises(TypeError, match="--set"):
            command_line(_job(), {"set": value})  # type: ignore[dict-item]

    def test_refuses_a_nul(self) -> None:
        with pytest.raises(ValueError, match="NUL"):
            command_line(_job(), {"set": "a\x00b"})

    def test_part_is_the_value_of_its_option(self) -> None:
        assert part_of(_job(part_option="shard"), {"shard": "00/04"}) == "00/04"
        assert part_of(_job(), {"shard": "00/04"}) == ""

    @pytest.mark.parametrize("value", [None, "", 3])
    def test_part_is_needed_where_there_are_several(self, value: object) -> None:
        with pytest.raises(ValueError, match="--shard"):
            part_of(_job(part_option="shard"), {"shard": value})  # type: ignore[dict-item]


AIRFLOW_ENVIRONMENT = {
    "AIRFLOW__CORE__FERNET_KEY": "s1",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "s2",
    "AIRFLOW_HOME": "/a",
    "AIRFLOW_CONN_X": "s3",
    "AIRFLOW_VAR_Y": "s4",
    "_AIRFLOW_PROCESS_CONTEXT": "server",
    "__AIRFLOW_SUPERVISOR_FDS": "0",
    "SCANLOOP_SIGNER_HOME": "/keys",
    "SCANLOOP_SIGNER_PASSPHRASE_FILE": "/keys/p",
    "GITHUB_TOKEN": "s5",
    "HTTP_PROXY": "http://u:p@proxy",
    "KUBECONFIG": "/k",
    "PYTHONPATH": "/dags",
    "VIRTUAL_ENV": "/v",
    "LD_PRELOAD": "/x.so",
    "PATH": "/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C",
    "TZ": "UTC",
    "SCANLOOP_STORE_URL": "s3://b/p",
    "SCANLOOP_DATABASE_URL": "postgresql://u:p@h/d",
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "CLEARML_API_HOST": "http://c",
    "CLEARML_API_SECRET_KEY": "s6",
    "SCANLOOP_LABELLING_TOKEN": "s7",
}


def _environment(job: JobSpec, parent: dict[str, str] | None = None) -> dict[str, str]:
    return job_environment(
        job, AIRFLOW_ENVIRONMENT if parent is None else parent, run_id="r", consumed=["a", "b"], actor="airflow:x", attempt=3
    )


class TestEnvironment:
    def test_holds_exactly_what_is_allowed(self) -> None:
        assert set(_environment(_job())) == {
            "PATH", "HOME", "LANG", "LC_ALL", "TZ", "SCANLOOP_STORE_URL", "SCANLOOP_DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION", "CLEARML_API_HOST", "OMP_NUM_THREADS", "NO_COLOR", "TERM", "PYTHONUNBUFFERED", "SCANLOOP_PROGRESS",
            "SCANLOOP_RUN_ID", "SCANLOOP_CONSUMED_RUNS", "SCANLOOP_ACTOR", "SCANLOOP_ATTEMPT",
        }  # fmt: skip

    @pytest.mark.parametrize("name", SECRET_VARIABLES)
    def test_a_secret_reaches_only_a_job_that_names_it(self, name: str) -> None:
        variables = SECRET_VARIABLES[name]
        parent = {**AIRFLOW_ENVIRONMENT, **dict.fromkeys(variables, "secret")}
        without = tuple(secret for secret in SECRET_VARIABLES if secret != name)
        assert not set(variables) & set(_environment(_job(secrets=without), parent))
        assert set(variables) <= set(_environment(_job(secrets=(name,)), parent))

    def test_no_job_sees_the_signer_or_airflow_whatever_it_names(self) -> None:
        seen = _environment(_job(secrets=tuple(SECRET_VARIABLES)))
        assert not [name for name in seen if "AIRFLOW" in name or "SIGNER" in name]

    def test_identity_is_told(self) -> None:
        seen = _environment(_job())
        assert (seen["SCANLOOP_RUN_ID"], seen["SCANLOOP_ACTOR"], seen["SCANLOOP_ATTEMPT"]) == ("r", "airflow:x", "3")
        assert json.loads(seen["SCANLOOP_CONSUMED_RUNS"]) == ["a", "b"]

    def test_identity_of_an_outer_run_is_replaced(self) -> None:
        assert _environment(_job(), {"SCANLOOP_RUN_ID": "outer", "TERM": "xterm", "NO_COLOR": ""})["SCANLOOP_RUN_ID"] == "r"

    @pytest.mark.parametrize(("cpu", "threads"), [(0.5, "1"), (1, "1"), (2.9, "2"), (16, "16")])
    def test_threads_follow_the_cores(self, cpu: float, threads: str) -> None:
        assert _environment(_job(cpu=cpu))["OMP_NUM_THREADS"] == threads

    def test_threads_of_the_deployment_win(self) -> None:
        assert _environment(_job(cpu=16), {"OMP_NUM_THREADS": "2"})["OMP_NUM_THREADS"] == "2"

    def test_no_job_of_the_table_gets_a_secret_it_has_no_use_for(self) -> None:
        from scanloop_dags import jobs

        named = {job.name: set(job.secrets) for job in vars(jobs).values() if isinstance(job, JobSpec)}
        assert {name for name, secrets in named.items() if "tracking" in secrets} == {"model.train", "tracking.sync"}
        assert {name for name, secrets in named.items() if "labelling" in secrets} == {"labelling.push", "labelling.pull"}


class TestIdentity:
    @pytest.mark.parametrize("run_id", ["scheduled__2026-01-01T00:00:00+00:00", "manual__x", "ü/../\\ \n", "a" * 500, ""])
    def test_run_id_is_safe(self, run_id: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", safe_run_id("ingest_scans", run_id))
        assert len(safe_run_id("ingest_scans", run_id)) <= MAX_RUN_ID_LENGTH

    def test_run_ids_stay_different(self) -> None:
        given = [("d", "a:b"), ("d", "a-b"), ("d", "a+b"), ("d__a", "b"), ("d", "a" * 300), ("d", "a" * 301)]
        assert len({safe_run_id(*pair) for pair in given}) == len(given)

    def test_run_id_is_the_same_every_time(self) -> None:
        assert safe_run_id("d", "manual__2026") == "d__manual__2026-3690c4c2"

    def test_consumed_runs_are_named_as_their_jobs_named_them(self) -> None:
        events = [SimpleNamespace(source_dag_id="d", source_run_id="b"), SimpleNamespace(source_dag_id="d", source_run_id="a")]
        assert consumed_run_ids([*events, *events]) == sorted([safe_run_id("d", "a"), safe_run_id("d", "b")])

    def test_an_event_from_outside_consumes_no_run(self) -> None:
        assert consumed_run_ids([SimpleNamespace(source_dag_id=None, source_run_id=None)]) == []

    @pytest.mark.parametrize(("user", "actor"), [("maria", "airflow:maria"), (None, "airflow:train_detector")])
    def test_actor_is_the_person_or_the_dag(self, user: str | None, actor: str) -> None:
        run = SimpleNamespace(dag_id="train_detector", run_id="r", triggering_user_name=user, consumed_asset_events=[])
        assert actor_of(run) == actor


class TestLogLines:
    @pytest.mark.parametrize(
        ("raw", "text", "level"),
        [
            ("INFO scanloop.x: hello", "INFO scanloop.x: hello", logging.INFO),
            ("WARNING scanloop.x: hm", "WARNING scanloop.x: hm", logging.WARNING),
            ("2026-01-01 10:00:00 ERROR broken", "2026-01-01 10:00:00 ERROR broken", logging.ERROR),
            ("CRITICAL gone", "CRITICAL gone", logging.ERROR),
            ("Error: the store is full.", "Error: the store is full.", logging.ERROR),
            ("no ERRORS found", "no ERRORS found", logging.INFO),
            ("\x1b[31mred\x1b[0m \x1b]0;title\x07text", "red text", logging.INFO),
            ("a\x00b\x07c", "abc", logging.INFO),
            ("100 %|████|", "100 %|████|", logging.INFO),
        ],
    )
    def test_line(self, raw: str, text: str, level: int) -> None:
        line = log_line(raw)
        assert line is not None
        assert (line.text, line.level) == (text, level)

    @pytest.mark.parametrize("raw", ["", "   ", "\x1b[2K", "\r"])
    def test_nothing_is_no_line(self, raw: str) -> None:
        assert log_line(raw) is None

    def test_a_long_line_is_cut_and_says_so(self) -> None:
        line = log_line("x" * 100_000)
        assert line is not None
        assert len(line.text) < MAX_LINE_LENGTH + 40
        assert line.text.endswith("(100000 characters)")

    @pytest.mark.parametrize("size", [1, 2, 3, 1000])
    def test_any_cut_gives_the_same_lines(self, size: int) -> None:
        data = "erste Zeile ü\r\nzweite\rdritte\n\nletzte €".encode()
        splitter = LineSplitter()
        lines = [line for start in range(0, len(data), size) for line in splitter.feed(data[start : start + size])] + splitter.close()
        assert [line.text for line in lines] == ["erste Zeile ü", "zweite", "dritte", "letzte €"]

    def test_bytes_that_are_no_text_are_replaced(self) -> None:
        assert [line.text for line in LineSplitter().feed(b"a\xff\xfeb\n")] == ["a��b"]

    def test_a_line_without_end_does_not_fill_the_memory(self) -> None:
        splitter = LineSplitter()
        lines = [line for _ in range(100) for line in splitter.feed(b"x" * 10_000)]
        assert len(lines) >= 40
        assert max(len(line.text) for line in lines) < MAX_LINE_LENGTH + 40


class TestOutcome:
    def test_done_raises_nothing(self) -> None:
        raise_unless_done(_job(), JobOutcome(0), ["{}"])

    @pytest.mark.parametrize(
        ("outcome", "error", "words"),
        [
            (JobOutcome(99), JobSkipped, "nothing to do: why"),
            (JobOutcome(64), JobWrong, "cannot be run as asked: why"),
            (JobOutcome(65), JobWrong, "wrong data: why"),
            (JobOutcome(75), JobUnavailable, "has to wait: why"),
            (JobOutcome(70), JobFailed, "exit code 70: why"),
            (JobOutcome(1), JobFailed, "exit code 1"),
            (JobOutcome(-9), JobFailed, "SIGKILL"),
            (JobOutcome(-250), JobFailed, "signal 250"),
            (JobOutcome(0, timed_out=True), JobFailed, "60 s"),
            (JobOutcome(0, cancelled=True), JobFailed, "cancelled"),
            (JobOutcome(99, cancelled=True), JobFailed, "cancelled"),
        ],
        ids=lambda value: str(getattr(value, "exit_code", "")),
    )
    def test_raises(self, outcome: JobOutcome, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            raise_unless_done(_job(), outcome, ["INFO before", "Error: why"])

    def test_only_wrong_data_and_arguments_are_final(self) -> None:
        from airflow.sdk.exceptions import AirflowFailException

        assert issubclass(JobWrong, AirflowFailException)
        assert not issubclass(JobFailed, AirflowFailException)

    def test_the_last_lines_are_told(self) -> None:
        with pytest.raises(JobFailed) as caught:
            raise_unless_done(_job(), JobOutcome(70), [f"line {number}" for number in range(100)])
        assert "line 99" in str(caught.value)
        assert "line 80" in str(caught.value)
        assert "line 79" not in str(caught.value)

    def test_a_job_that_wrote_nothing_still_says_what_happened(self) -> None:
        with pytest.raises(JobFailed, match="it wrote nothing"):
            raise_unless_done(_job(), JobOutcome(70), [])


def test_decision_is_readable_by_its_approver() -> None:
    text = decision_text({"decision_id": "d1", "verdict": "promote", "reasons": ["Pd `up`", "Pfa down"], "evidence_key": "evidence/ab"})
    assert text == "Decision `d1`, verdict **promote**.\n\n- Pd up\n- Pfa down\n\nEvidence: `evidence/ab`"
