"""Run `scanloop` commands in real processes that cost milliseconds to start: forked from one that has the heavy imports done.

    with Zygote() as zygote:
        done = zygote.run(["snapshot", "create", …], environment, folder)

Every command is a process of its own with its own environment, output and exit code, and SIGKILL ends it as it ends any process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

PRELOADED = (
    "scanloop.cli.main",
    "scanloop.cli.options",
    "scanloop.catalog.canonical",
    "scanloop.store.folder",
    "psycopg",
    "pyarrow.parquet",
    "cv2",
    "pydicom",
    "tuf.ngclient",
    "matplotlib.figure",
    "pandas",
    "great_expectations",
    "torch",
    "mmengine.runner",
    "mmdet.models",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "faster_coco_eval",
    "clearml",
    "jinja2",
    "scipy.stats",
)
"""Modules that take long to import. None may start a thread: a thread does not survive a fork."""
TIMEOUT_S = 300


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line that a command ends with."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


class Zygote:
    """The process that others are forked from."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        for name in [name for name in environment if name.startswith(("SCANLOOP_", "CLEARML_"))]:
            del environment[name]
        command = [sys.executable, "-W", "ignore", "-m", "harness.zygote", str(theirs.fileno())]
        self._process = subprocess.Popen(command, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours
        self._lines: IO[str] = ours.makefile("r", encoding="utf-8")

    def run(self, arguments: list[str], environment: dict[str, str], folder: Path, kill_after_s: float | None = None) -> Done:
        """Run `scanloop ARGUMENTS` and wait until it ended. Its output passes through files in `folder`.

        `kill_after_s`: SIGKILL it so long after it was forked, wherever it is then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._socket.sendall(json.dumps({"arguments": arguments, "environment": environment, "folder": str(folder)}).encode() + b"\n")
        pid = int(self._lines.readline())
        limit_s, how = (TIMEOUT_S, signal.SIGABRT) if kill_after_s is None else (kill_after_s, signal.SIGKILL)
        watch = threading.Timer(limit_s, _end, (pid, how))
        watch.start()
        try:
            code = int(self._lines.readline())
        finally:
            watch.cancel()
        return Done(code, (folder / "stdout").read_text(), (folder / "stderr").read_text())

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.close()
        self._socket.close()
        self._process.wait(60)


def _end(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, how)


def _serve(connection: socket.socket) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    with connection.makefile("r", encoding="utf-8") as requests:
        while request := requests.readline():
            pid = os.fork()
            if pid == 0:
                _be_the_command(connection, **json.loads(request))
            connection.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _be_the_command(connection: socket.socket, arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Become `scanloop ARGUMENTS`; never returns."""
    code = 1
    try:
        connection.close()
        os.environ.clear()
        os.environ.update(environment)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, number)
            os.close(file)
        sys.argv = ["scanloop", *arguments]
        import scanloop.steps
        from scanloop.cli.main import run

        importlib.reload(scanloop.steps)  # it reads the environment when it is loaded
        code = run(arguments)
    except BaseException:  # noqa: BLE001  the parent reads what happened from stderr
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
