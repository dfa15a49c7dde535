"""Ends a job with everything it started, however that tried to get away."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import psutil

MARK = "SCANLOOP_PROCESS_MARK"
"""Variable that a job's processes inherit; its value is the same for every attempt of one job of one run."""

TERM_GRACE_S = 3.0
"""Airflow sends SIGKILL 5 s after SIGTERM to a task; both waits together must stay below that."""
KILL_GRACE_S = 1.0


def _belongs(process: psutil.Process, mark: str, session_id: int | None) -> bool:
    """By session (also without an environment) or by mark (also in a session of its own)."""
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if session_id is not None and os.getsid(process.pid) == session_id:
            return True
        return process.environ().get(MARK) == mark
    return False


def job_processes(mark: str, session_id: int | None = None) -> list[psutil.Process]:
    """Living processes that carry `mark` or are of the session, and everything that descends from them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _belongs(process, mark, session_id):
            found[process.pid] = process
            with suppress(psutil.Error):
                found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def _still_alive(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those that live on after `within_s`. Reaps nothing: an exit code belongs to whoever started the process."""
    deadline = time.monotonic() + within_s
    while True:
        alive = []
        for process in processes:
            with suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def end_job(mark: str, session_id: int | None = None, *, grace_s: float = TERM_GRACE_S) -> int:
    """End every process of a job: SIGTERM, then SIGKILL after `grace_s`. Returns how many there were."""
    members = job_processes(mark, session_id)
    for member in members:
        with suppress(psutil.Error):
            member.terminate()
    alive = _still_alive(members, grace_s)
    late = {process.pid: process for process in (*alive, *job_processes(mark, session_id))}
    for process in late.values():
        with suppress(psutil.Error):
            process.kill()
    _still_alive(list(late.values()), KILL_GRACE_S)
    return len(members)
