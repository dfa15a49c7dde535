"""Background processes that outlive the command that started them, and are stopped exactly.

Each is known by a small file with its process id and its start time: a process id that the machine gave to somebody else since is never touched.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from scanloop.errors import WorldUnavailable

STOP_TIMEOUT_S = 20
MARK = "SCANLOOP_STACK_PROCESS"
"""Variable in the environment of every started process that says whose it is."""

_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Kept, because a Popen that is collected while its process runs complains; these are meant to run on."""


@dataclass(frozen=True)
class Known:
    """A process that was started here."""

    name: str
    """What it is called in the stack."""
    pid: int
    """Its process id, also its session's."""
    started_at: float
    """When the kernel says it started; with the id this names one process for ever."""
    log: str
    """File with what it says."""

    def process(self) -> psutil.Process | None:
        """The process, if it still is the one that was started."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) < 0.05 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


class Supervisor:
    """Starts, finds and stops the processes of one deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stack"
        self.logs = folder / "logs"

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def known(self) -> list[Known]:
        """Every process that was started and not stopped, alive or not."""
        return [Known(**json.loads(path.read_text())) for path in sorted(self.folder.glob("*.json"))]

    def find(self, name: str) -> psutil.Process | None:
        """The running process of that name, or None; also one whose starter was killed before it could write its file."""
        path = self._file(name)
        process = Known(**json.loads(path.read_text())).process() if path.exists() else None
        if process is None and (process := self._marked(name)) is not None:
            self._remember(name, process)
        return process

    def _mark(self, name: str) -> str:
        return f"{self.folder}:{name}"

    def _marked(self, name: str) -> psutil.Process | None:
        """The leader of a session that carries this deployment's mark for `name`."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == process.pid and process.environ().get(MARK) == self._mark(name):
                    return process
        return None

    def _marked_names(self) -> set[str]:
        """Names of all running processes that carry this deployment's mark, remembered or not."""
        names = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                mark = process.environ().get(MARK, "")
                if mark.startswith(self._mark("")):
                    names.add(mark.removeprefix(self._mark("")))
        return names

    def _remember(self, name: str, process: psutil.Process) -> None:
        known = Known(name, process.pid, process.create_time(), str(self.logs / f"{name}.log"))
        aside = self._file(name).with_suffix(".part")
        aside.write_text(json.dumps(asdict(known)))
        aside.replace(self._file(name))

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> psutil.Process:
        """Start `command` in a session of its own unless it runs already; what it says goes to its log."""
        running = self.find(name)
        if running is not None:
            return running
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(command),
                env={**environment, MARK: self._mark(name)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder or self.folder,
            )
        _CHILDREN.append(child)
        process = psutil.Process(child.pid)
        self._remember(name, process)
        return process

    def check(self) -> None:
        """Raises WorldUnavailable if a started process has ended by itself; the message has the end of its log."""
        for known in self.known():
            if known.process() is None:
                raise WorldUnavailable(f"{known.name} has ended by itself. The end of {known.log}:\n{last_lines(Path(known.log))}")

    def stop(self) -> list[str]:
        """Stop every process that was started here, with its children, the last started first. Returns their names."""
        for name in self._marked_names():
            self.find(name)
        stopped = []
        for known in sorted(self.known(), key=lambda known: -known.started_at):
            process = known.process()
            if process is not None:
                stop_tree(process)
                stopped.append(known.name)
            self._file(known.name).unlink(missing_ok=True)
        return stopped


def stop_tree(process: psutil.Process, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a process and all its descendants: asked first, killed after `timeout_s`."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in reversed(family):
        _quietly(member.terminate)
    _, alive = psutil.wait_procs(family, timeout_s)
    for member in alive:
        _quietly(member.kill)
    psutil.wait_procs(alive, timeout_s)


def _quietly(act: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        act()


def last_lines(path: Path, count: int = 12) -> str:
    """The last lines of a log."""
    if not path.exists():
        return "(nothing)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 20_000))
        return b"".join(log.readlines()[-count:]).decode(errors="replace")


def free_port(preferred: int, tries: int = 50) -> int:
    """The first port from `preferred` on that nobody listens on. Raises WorldUnavailable if there is none near."""
    for port in range(preferred, preferred + tries):
        if is_free(port):
            return port
    raise WorldUnavailable(f"No free port between {preferred} and {preferred + tries - 1}.")


def is_free(port: int) -> bool:
    """Whether this machine can listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def environment_without(prefixes: Sequence[str]) -> dict[str, str]:
    """This process's environment without variables that start with any of `prefixes`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(prefixes))}
