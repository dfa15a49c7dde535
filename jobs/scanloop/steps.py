"""Named boundaries in the code where a kill could hurt.

`step("intake.after_raw")` costs one dictionary look-up and does nothing, unless the environment asks for a trace or a fault. Tests list every
boundary in the source, kill a process at each one with SIGKILL, run it again and check the invariants.

    SCANLOOP_STEP_TRACE=FILE            append the name of every boundary that is passed
    SCANLOOP_STEP_KILL=NAME[:N]         SIGKILL this process at the Nth passing of NAME (default 1)
    SCANLOOP_STEP_PAUSE=NAME:FILE       wait at NAME until FILE exists (to let another worker overtake)
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

_TRACE = os.environ.get("SCANLOOP_STEP_TRACE")
_KILL, _, _KILL_AT = os.environ.get("SCANLOOP_STEP_KILL", "").partition(":")
_PAUSE, _, _PAUSE_UNTIL = os.environ.get("SCANLOOP_STEP_PAUSE", "").partition(":")
_ACTIVE = bool(_TRACE or _KILL or _PAUSE)
_passed: Counter[str] = Counter()


def step(name: str) -> None:
    """Mark the boundary `name`. Returns at once unless a trace or a fault was asked for."""
    if not _ACTIVE:
        return
    _passed[name] += 1
    if _TRACE:
        with Path(_TRACE).open("a", encoding="utf-8") as trace:
            trace.write(name + "\n")
    if name == _KILL and _passed[name] == int(_KILL_AT or 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == _PAUSE:
        while not Path(_PAUSE_UNTIL).exists():
            time.sleep(0.02)
