"""The local runner with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import airflow_here
import psutil
import pytest

from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.log_lines import LogLine
from scanloop_plugin.runners import JobOutcome, JobRequest, RunnerUnavailable, open_runner
from scanloop_plugin.runners.local import LocalRunner
from scanloop_plugin.runners.process_tree import MARK

WAIT_S = 20


def _request(*, timeout_s: int = 30, mark: str = "run/model.train/") -> JobRequest:
    job = JobSpec(("model", "train"), "train", cpu=1, memory_bytes=1 << 30, timeout_s=timeout_s)
    identity = {"SCANLOOP_RUN_ID": "run", "SCANLOOP_ATTEMPT": "1", "SCANLOOP_ACTOR": "test", "SCANLOOP_CONSUMED_RUNS": "[]"}
    passed = {name: value for name, value in os.environ.items() if name.startswith("SCANLOOP_") or name == "PATH"}
    return JobRequest(job, ("model", "train"), passed | identity | {"PYTHONUNBUFFERED": "1"}, mark)


def _run(request: JobRequest) -> tuple[JobOutcome, list[str]]:
    lines: list[LogLine] = []
    outcome = LocalRunner().run(request, lines.append)
    return outcome, [line.text for line in lines]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


class Followed:
    """A run in a thread of its own, with its lines as they come."""

    def __init__(self, request: JobRequest) -> None:
        self.runner, self.lines, self.outcome = LocalRunner(), [], None
        self.thread = threading.Thread(target=self._run, args=(request,))
        self.thread.start()

    def _run(self, request: JobRequest) -> None:
        self.outcome = self.runner.run(request, lambda line: self.lines.append(line.text))

    def until_says(self, text: str) -> None:
        _until(lambda: text in self.lines)

    @property
    def children(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines if line.startswith("child ")]

    def end(self) -> JobOutcome:
        self.thread.join(WAIT_S)
        assert self.outcome is not None
        return self.outcome


@pytest.mark.parametrize("code", [0, 1, 64, 65, 70, 75, 99])
def test_exit_code_is_handed_on(fake_jobs, code: int) -> None:
    fake_jobs.scenario(model_train=[{"exit": code, "say": ["one", "two"], "receipt": False}])
    outcome, lines = _run(_request())
    assert outcome == JobOutcome(code)
    assert lines[:2] == ["one", "two"]


def test_signal_is_told_apart(fake_jobs) -> None:
    fake_jobs.executable.write_text("#!/bin/sh\nkill -9 $$\n")
    assert _run(_request())[0] == JobOutcome(-signal.SIGKILL)


def test_lines_come_while_the_job_runs(fake_jobs) -> None:
    fake_jobs.scenario(model_train=[{"say": ["early"], "sleep_s": 600}])
    followed = Followed(_request())
    followed.until_says("early")
    assert followed.outcome is None
    followed.runner.cancel()
    assert followed.end().cancelled


def test_cancel_ends_the_whole_tree(fake_jobs, is_alive) -> None:
    """Also children that ignore SIGTERM, and one in a session of its own."""
    fake_jobs.scenario(model_train=[{"children": 3, "stubborn": True, "say": ["ready"], "sleep_s": 600}])
    followed = Followed(_request())
    followed.until_says("ready")
    processes = [fake_jobs.calls()[0]["pid"], *followed.children]
    assert all(is_alive(pid) for pid in processes)
    began = time.monotonic()
    followed.runner.cancel()
    assert time.monotonic() - began < 5, "Airflow sends SIGKILL 5 s after SIGTERM"
    assert followed.end().cancelled
    assert len(processes) == 4
    assert not [pid for pid in processes if is_alive(pid)]


def test_timeout_ends_the_whole_tree(fake_jobs, is_alive) -> None:
    fake_jobs.scenario(model_train=[{"children": 2, "sleep_s": 600}])
    followed = Followed(_request(timeout_s=1))
    outcome = followed.end()
    assert outcome.timed_out
    assert len(followed.children) == 2
    assert not [pid for pid in followed.children if is_alive(pid)]


def test_what_a_job_leaves_running_ends_with_it(fake_jobs, is_alive) -> None:
    fake_jobs.scenario(model_train=[{"children": 2, "receipt": False}])
    followed = Followed(_request())
    assert followed.end() == JobOutcome(0)
    assert len(followed.children) == 2
    assert not [pid for pid in followed.children if is_alive(pid)]


def test_exception_in_the_task_ends_the_whole_tree(fake_jobs, is_alive) -> None:
    """Airflow's own timeout arrives as an exception, in the middle of anything."""
    fake_jobs.scenario(model_train=[{"children": 2, "say": ["ready"], "sleep_s": 600}])
    seen: list[str] = []

    def emit(line: LogLine) -> None:
        seen.append(line.text)
        if line.text == "ready":
            raise TimeoutError

    with pytest.raises(TimeoutError):
        LocalRunner().run(_request(), emit)
    children = [int(text.split()[1]) for text in seen if text.startswith("child ")]
    assert len(children) == 2
    assert not [pid for pid in (fake_jobs.calls()[0]["pid"], *children) if is_alive(pid)]


class TestKilledTask:
    """The task itself is killed, as by the kernel when memory is short: nothing of it can clean up."""

    @pytest.fixture
    def killed(self, fake_jobs) -> list[int]:
        """Processes of a job whose task was killed: the job, then its children."""
        fake_jobs.scenario(model_train=[{"children": 2, "stubborn": True, "say": ["ready"], "sleep_s": 600}])
        request = _request()
        program = (
            "import json, sys; from scanloop_plugin.job_spec import JobSpec; from scanloop_plugin.runners import JobRequest\n"
            "from scanloop_plugin.runners.local import LocalRunner\n"
            "words, environment, mark = json.loads(sys.argv[1])\n"
            "request = JobRequest(JobSpec(tuple(words), 'train', 1, 1 << 30, 30), tuple(words), environment, mark)\n"
            "LocalRunner().run(request, lambda line: print(line.text, flush=True))"
        )
        given = json.dumps([request.arguments, dict(request.environment), request.mark])
        with subprocess.Popen([sys.executable, "-c", program, given], stdout=subprocess.PIPE, text=True, cwd=airflow_here.PLUGINS) as task:
            assert task.stdout is not None
            said: list[str] = []
            for line in task.stdout:
                said.append(line.strip())
                if said[-1] == "ready":
                    break
            task.kill()
            task.wait()
            task.stdout.close()
        return [fake_jobs.calls()[0]["pid"], *(int(text.split()[1]) for text in said if text.startswith("child "))]

    def test_job_ends_with_its_task(self, killed: list[int], is_alive) -> None:
        _until(lambda: not is_alive(killed[0]))
        for pid in killed[1:]:
            psutil.Process(pid).kill()

    def test_next_attempt_ends_what_was_left(self, fake_jobs, killed: list[int], is_alive) -> None:
        assert len(killed) == 3
        assert [pid for pid in killed[1:] if is_alive(pid)], "the children ignore SIGTERM, so that something is left"
        fake_jobs.scenario(model_train=[{"receipt": False}])
        assert _run(_request())[0] == JobOutcome(0)
        assert not [pid for pid in killed if is_alive(pid)]

    def test_another_run_leaves_it_alone(self, fake_jobs, killed: list[int], is_alive) -> None:
        left = [pid for pid in killed[1:] if is_alive(pid)]
        fake_jobs.scenario(model_train=[{"receipt": False}])
        _run(_request(mark="another/model.train/"))
        assert [pid for pid in left if is_alive(pid)] == left
        for pid in left:
            psutil.Process(pid).kill()


def test_mark_is_for_the_job_alone(fake_jobs) -> None:
    _run(_request())
    assert fake_jobs.calls()[0]["environment"][MARK] == "run/model.train/"
    assert MARK not in os.environ


def test_output_after_the_pipe_is_full_is_read(fake_jobs) -> None:
    fake_jobs.executable.write_text("#!/bin/sh\nseq 1 50000\n")
    outcome, lines = _run(_request())
    assert outcome == JobOutcome(0)
    assert lines == [str(number) for number in range(1, 50_001)]


def test_a_job_that_closes_its_output_is_waited_for(fake_jobs) -> None:
    fake_jobs.executable.write_text("#!/bin/sh\necho last\nexec >&- 2>&-\nsleep 0.3\nexit 75\n")
    assert _run(_request()) == (JobOutcome(75), ["last"])


def test_nothing_can_be_typed_into_a_job(fake_jobs) -> None:
    fake_jobs.executable.write_text("#!/bin/sh\ncat\necho end of input\n")
    assert _run(_request()) == (JobOutcome(0), ["end of input"])


class TestUnavailable:
    def test_no_command(self, fake_jobs) -> None:
        fake_jobs.executable.unlink()
        with pytest.raises(RunnerUnavailable, match="SCANLOOP_JOBS_BIN"):
            _run(_request())

    def test_not_executable(self, fake_jobs) -> None:
        fake_jobs.executable.chmod(0o644)
        with pytest.raises(RunnerUnavailable, match="No scanloop command"):
            _run(_request())

    def test_not_a_program(self, fake_jobs) -> None:
        fake_jobs.executable.write_bytes(b"\x00\x01")
        with pytest.raises(RunnerUnavailable, match="cannot be started"):
            _run(_request())

    @pytest.mark.parametrize("name", ["", "Local", "../x"])
    def test_no_runner_of_that_name(self, name: str) -> None:
        with pytest.raises(RunnerUnavailable, match=r"not available\. Available: kubernetes, local"):
            open_runner(name)

    def test_command_beside_this_environment_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from scanloop_plugin.runners.local import scanloop_executable

        monkeypatch.delenv("SCANLOOP_JOBS_BIN", raising=False)
        assert scanloop_executable() == airflow_here.ROOT / ".venv" / "jobs" / "bin" / "scanloop"
