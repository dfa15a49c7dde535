"""Run a function in a process of its own, and really kill it at a named boundary.

The processes fork from a server that has the heavy imports done, so that a kill costs milliseconds and not the start of Python.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "jobs" / "scanloop"
KILLED = -9
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["scanloop.release.signer", "scanloop.edge.update", "torch", "mmdet.models", "loaded_clearml"])


def run(function: Callable[..., Any], *arguments: Any, kill: str = "", passing: int = 1, trace: Path | None = None) -> int:
    """Call `function(*arguments)` in a new process, killing it at the nth passing of the boundary `kill`. Returns its exit code, KILLED if killed."""
    process = start(function, *arguments, kill=kill, passing=passing, trace=trace)
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{function.__name__} did not end")
    code = process.exitcode
    process.close()
    return code


def start(
    function: Callable[..., Any], *arguments: Any, kill: str = "", passing: int = 1, trace: Path | None = None
) -> multiprocessing.process.BaseProcess:
    """As `run`, without waiting."""
    process = _context.Process(target=_child, args=(function, arguments, kill, passing, str(trace or "")))
    process.start()
    return process


def passed(trace: Path) -> Counter[str]:
    """How often each boundary was passed, from a trace."""
    return Counter(trace.read_text().split())


def boundaries(*sources: str) -> set[str]:
    """The literal of every `step()` in source files of the package."""
    found: set[str] = set()
    for source in sources:
        found |= set(re.findall(r'\bstep\("([a-z_.]+)"\)', (PACKAGE / source).read_text()))
    return found


def occurrences(counts: Counter[str], most: int = 3) -> Iterable[tuple[str, int]]:
    """Which passings to kill at: the first, the last and the middle ones of each boundary, at most `most` of them."""
    for name, count in sorted(counts.items()):
        picks = sorted({1, count, (count + 1) // 2})[:most] if count > 1 else [1]
        for number in picks:
            yield name, number


def _child(function: Callable[..., Any], arguments: tuple[Any, ...], kill: str, passing: int, trace: str) -> None:
    from scanloop import steps

    steps._KILL, steps._KILL_AT, steps._TRACE, steps._ACTIVE = kill, str(passing), trace or None, True
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001  however the child ends, it says so
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.flush()
        os._exit(getattr(error, "exit_code", 1))
    os._exit(0)
