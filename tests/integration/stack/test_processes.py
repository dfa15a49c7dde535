"""Background processes: found again whatever was lost, and exactly those stopped that were started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scanloop.errors import WorldUnavailable
from scanloop.stack.processes import Supervisor, free_port, is_free

CHILD = "import time; time.sleep(600)"
SLEEPER = [sys.executable, "-c", f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(600)"]


@pytest.fixture
def supervisor(tmp_path: Path):  # type: ignore[no-untyped-def]
    supervisor = Supervisor(tmp_path)
    yield supervisor
    supervisor.stop()


def _wait_for_child(process: psutil.Process) -> psutil.Process:
    for _ in range(2000):
        if children := process.children():
            return children[0]
        with pytest.raises(psutil.TimeoutExpired):
            process.wait(0.01)
    raise AssertionError("the sleeper never started its child")


def test_a_process_is_started_once_and_stopped_with_its_children(supervisor: Supervisor, tmp_path: Path) -> None:
    first = supervisor.start("sleeper", SLEEPER, os.environ, tmp_path)
    again = supervisor.start("sleeper", SLEEPER, os.environ, tmp_path)
    child = _wait_for_child(first)
    assert first.pid == again.pid
    assert supervisor.stop() == ["sleeper"]
    assert not first.is_running()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert supervisor.known() == []


def test_a_process_whose_starter_was_killed_before_its_file_was_written_is_found(supervisor: Supervisor, tmp_path: Path) -> None:
    started = supervisor.start("sleeper", SLEEPER, os.environ, tmp_path)
    (tmp_path / "stack" / "sleeper.json").unlink()
    assert supervisor.find("sleeper") == started
    (tmp_path / "stack" / "sleeper.json").unlink()
    assert supervisor.stop() == ["sleeper"]
    assert not started.is_running()


def test_a_number_that_the_machine_gave_to_somebody_else_is_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start("sleeper", SLEEPER, os.environ, tmp_path)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        known = json.loads((tmp_path / "stack" / "sleeper.json").read_text())
        known |= {"name": "stranger", "pid": stranger.pid, "started_at": psutil.Process(stranger.pid).create_time() - 100}
        (tmp_path / "stack" / "stranger.json").write_text(json.dumps(known))
        assert supervisor.find("stranger") is None
        assert supervisor.stop() == ["sleeper"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_ended_by_itself_is_told_with_the_end_of_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    process = supervisor.start("short", [sys.executable, "-c", "raise SystemExit('the reason why')"], os.environ, tmp_path)
    psutil.wait_procs([process], 20)
    with pytest.raises(WorldUnavailable, match=r"short has ended by itself(.|\n)*the reason why"):
        supervisor.check()


def test_ports_in_use_are_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert free_port(port) > port
        with pytest.raises(WorldUnavailable, match="No free port"):
            free_port(port, tries=1)
