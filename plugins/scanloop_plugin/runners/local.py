"""Runs a job as a subprocess, in the environment that the images' locked requirements describe."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scanloop_plugin.log_lines import LineSplitter, LogLine
from scanloop_plugin.runners import JobOutcome, JobRequest, RunnerUnavailable
from scanloop_plugin.runners.process_tree import MARK, end_job

POLL_S = 0.5
DRAIN_S = 2.0
READ_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def scanloop_executable() -> Path:
    """The `scanloop` command: SCANLOOP_JOBS_BIN, or that of the environment `jobs` beside this one. Raises RunnerUnavailable."""
    named = os.environ.get("SCANLOOP_JOBS_BIN")
    path = Path(named) if named else Path(sys.prefix).parent / "jobs" / "bin" / "scanloop"
    if not os.access(path, os.X_OK):
        raise RunnerUnavailable(f"No scanloop command at {path}. Install the jobs environment, or name the command in SCANLOOP_JOBS_BIN.")
    return path


def _die_with_parent() -> None:
    """Runs in the child before it becomes the job: should the task be killed without a chance to clean up, the job gets SIGTERM."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LocalRunner:
    """One subprocess in a session of its own."""

    waits = True

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = ""
        self._is_cancelled = False

    def run(self, request: JobRequest, emit: Callable[[LogLine], None]) -> JobOutcome:
        """Run the attempt. Its output is read until its end; whatever it, or an earlier attempt, leaves running is ended."""
        executable = scanloop_executable()
        self._mark = request.mark
        end_job(self._mark)
        try:
            process = self._process = subprocess.Popen(
                [str(executable), *request.arguments],
                env={**request.environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 — a task has one thread; nothing in Python survives the fork
            )
        except OSError as error:
            raise RunnerUnavailable(f"{executable} cannot be started: {error.strerror}.") from None
        deadline = time.monotonic() + request.job.timeout_s
        timed_out = False
        try:
            if self._is_cancelled:  # asked between the task's start and the job's
                self.cancel()
            timed_out = not self._follow(process, deadline, emit)
        finally:
            end_job(self._mark, process.pid)  # on the way out by an exception too: Airflow's own timeout arrives as one
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        return JobOutcome(process.returncode, timed_out, self._is_cancelled)

    def cancel(self) -> None:
        """End the process tree."""
        self._is_cancelled = True
        if self._process is not None and self._process.poll() is None:
            end_job(self._mark, self._process.pid)

    def _follow(self, process: subprocess.Popen[bytes], deadline: float, emit: Callable[[LogLine], None]) -> bool:
        """Hand on what the process writes until it ends. False when `deadline` came first."""
        assert process.stdout is not None
        lines = LineSplitter()
        drain_until = None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(POLL_S):
                    data = os.read(process.stdout.fileno(), READ_BYTES)
                    for line in lines.feed(data):
                        emit(line)
                    if not data:
                        break
                now = time.monotonic()
                if process.poll() is not None:  # a process it left behind may hold the pipe open
                    if drain_until is None:
                        drain_until = now + DRAIN_S
                        end_job(self._mark, process.pid)
                    if now > drain_until:
                        break
                elif now > deadline:
                    return False
        for line in lines.close():
            emit(line)
        while process.poll() is None:  # it closed its output and goes on
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
