"""Named boundaries: a trace, a kill at the Nth passing, a pause until a file appears."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[3] / "jobs" / "scanloop"
SCRIPT = "from scanloop.steps import step\nfor name in ('a.b', 'c.d', 'a.b', 'a.b'): step(name)\nprint('end')"


def _run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=False)


def test_nothing_happens_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert _run().stdout == "end\n"
    assert list(tmp_path.iterdir()) == []


def test_a_trace_lists_every_passing(tmp_path: Path) -> None:
    _run(SCANLOOP_STEP_TRACE=str(tmp_path / "trace"))
    assert (tmp_path / "trace").read_text().split() == ["a.b", "c.d", "a.b", "a.b"]


def test_a_kill_is_a_kill_at_the_passing_that_was_named(tmp_path: Path) -> None:
    for wanted, passed in (("a.b", 1), ("a.b:2", 3), ("a.b:3", 4), ("c.d:1", 2)):
        trace = tmp_path / wanted
        killed = _run(SCANLOOP_STEP_TRACE=str(trace), SCANLOOP_STEP_KILL=wanted)
        assert killed.returncode == -signal.SIGKILL
        assert len(trace.read_text().split()) == passed
    assert _run(SCANLOOP_STEP_KILL="a.b:9").stdout == "end\n"


def test_a_pause_ends_when_the_file_appears(tmp_path: Path) -> None:
    environment = os.environ | {"SCANLOOP_STEP_PAUSE": f"c.d:{tmp_path / 'go'}", "SCANLOOP_STEP_TRACE": str(tmp_path / "trace")}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "trace").exists() or "c.d" not in (tmp_path / "trace").read_text():
            assert process.poll() is None
        (tmp_path / "go").touch()
        assert process.communicate(timeout=30)[0] == "end\n"


def test_every_boundary_in_the_source_has_its_own_literal_name() -> None:
    calls = [(path, text) for path in SOURCE.rglob("*.py") for text in re.findall(r"(?<![\w.])step\(([^)]*)\)", path.read_text())]
    names = [text.strip("\"'") for path, text in calls if path.name != "steps.py"]
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in names), names
    assert [name for name, count in Counter(names).items() if count > 1] == []
