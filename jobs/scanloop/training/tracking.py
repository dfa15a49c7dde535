"""Track a training as one ClearML experiment, without ever waiting for it.

Everything worth tracking is first a line in a spool (`events.jsonl`) of the run's own folder. A child process follows the spool and tells
ClearML: an offline session, or a server where `CLEARML_API_HOST` names one. ClearML's SDK patches libraries, starts threads and blocks when
its server does, so it is never imported here; the child has no credentials but ClearML's own, and is killed when it is late. Spool and
session go to the store under `tracking/`, where `scanloop tracking sync` finds what the child could not deliver. What goes wrong is logged and
changes nothing else.

mmengine's ClearMLVisBackend is not used for the same reason: it runs the SDK inside the training process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from scanloop.errors import ScanloopError
from scanloop.steps import step
from scanloop.store import Store
from scanloop.tracking.environment import environment
from scanloop.tracking.server import CONFIGURATION, is_configured
from scanloop.tracking.spool import MARKERS, SPOOL, folder_of

log = logging.getLogger(__name__)
LATE_SHARE = 0.05
"""Time that tracking may add after a training, as a share of the training."""
LATE_AT_LEAST_S = 15.0
"""A short training allows at least this for an offline session, which waits for nothing outside."""
SERVER_AT_LEAST_S = 2.0
"""A short training allows at least this for a server; what is missing then is told by the next sync."""
ABORT_S = 8.0
"""Time to close the experiment of a training that was cancelled or failed."""
TERMINATED = 128 + signal.SIGTERM
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
             "REQUESTS_CA_BUNDLE")  # fmt: skip
"""What the child may know of the environment, beside `CLEARML_*`."""


def tracking_id_of(run_id: str, product_line: str) -> str:
    """The id of a run's experiment: the same whether or not ClearML answered."""
    return hashlib.sha256(f"{product_line}\n{run_id}".encode()).hexdigest()[:32]


def child_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the tracker: no secrets but ClearML's, no home folder, offline unless a server is named."""
    env = {name: environment[name] for name in PASSED_ON if name in environment}
    env |= {name: value for name, value in environment.items() if name.startswith("CLEARML_")}
    env |= {"HOME": str(folder / "home"), "CLEARML_CACHE_DIR": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    if "CLEARML_API_HOST" not in env:
        env["CLEARML_OFFLINE_MODE"] = "1"
    env.setdefault("CLEARML_CONFIG_FILE", str(folder / "clearml.conf"))
    return env


class Experiment:
    """One tracked training. No method raises because of ClearML, and none waits for it but `finish` and `stop`."""

    def __init__(self, folder: Path, tracking_id: str) -> None:
        self.tracking_id = tracking_id
        self._folder = folder
        self._spool = folder / SPOOL
        self._child: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None
        self._pictures = 0
        self._is_open = False

    @property
    def url(self) -> str | None:
        """The experiment's page, as soon as a server has it."""
        try:
            return str(json.loads((self._folder / "experiment.json").read_text(encoding="utf-8"))["url"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def start(self, about: Mapping[str, Any], store: Store | None = None) -> None:
        """Begin a new spool and start the tracker. `about`: project, name, tags, options, config and links of the experiment.

        Leaves a mark in `store`, which tells the next sync that this experiment is open, should nothing else be heard of it. From here on
        SIGTERM ends the process through its `finally` blocks.
        """
        begin = {"kind": "begin", "tracking_id": self.tracking_id, "at": _now(), "environment": environment(), **about}
        try:
            (self._folder / "home").mkdir(parents=True, exist_ok=True)
            (self._folder / "clearml.conf").write_text(CONFIGURATION, encoding="utf-8")
            self._spool.write_text("", encoding="utf-8")
            for name in ("result.json", "experiment.json"):
                (self._folder / name).unlink(missing_ok=True)
            self._is_open = True
            self._write(begin)
            with (self._folder / "tracker.log").open("wb") as output:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "scanloop.training.tracker", str(self._folder)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=child_environment(self._folder, os.environ),
                    start_new_session=True,
                )
        except OSError as error:
            log.warning("The experiment is not tracked: %s", error)
        if store is not None:
            self._store = store
            self._keep_quietly(lambda: store.put(f"{MARKERS}{self.tracking_id}.json", json.dumps(begin, default=str).encode()))
        _end_by_exception_on_sigterm()

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Note points of curves."""
        self._write({"kind": "scalars", "iteration": iteration, "values": dict(values), "at": _now()})

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Note final numbers."""
        known = {name: value for name, value in values.items() if value is not None}
        self._write({"kind": "metrics", "values": known, "at": _now()})

    def picture(self, series: str, iteration: int, png: bytes) -> None:
        """Note a picture."""
        path = self._folder / "pictures" / f"{self._pictures:03d}.png"
        self._pictures += 1
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            log.warning("A picture is not tracked: %s", error)
            return
        self._write({"kind": "picture", "series": series, "iteration": iteration, "path": f"pictures/{path.name}", "at": _now()})

    def _write(self, event: Mapping[str, Any]) -> None:
        try:
            with self._spool.open("a", encoding="utf-8") as spool:
                spool.write(json.dumps(event, default=str) + "\n")
        except OSError as error:
            log.warning("An event is not tracked: %s", error)

    def finish(self, store: Store, training_s: float) -> None:
        """Give the tracker its last moments, then keep spool, pictures and session under `tracking/<id>/`."""
        self._write({"kind": "end", "at": _now()})
        self._is_open = False
        self._end(max(SERVER_AT_LEAST_S if is_configured() else LATE_AT_LEAST_S, LATE_SHARE * training_s))
        step("training.before_tracking")
        self._keep_quietly(lambda: self._keep(store))

    def stop(self) -> None:
        """End the tracker. A training that did not finish is closed: as failed if an error is on its way up, as aborted otherwise."""
        if self._is_open:
            self._is_open = False
            error = sys.exc_info()[1]
            end = "failed" if isinstance(error, Exception) else "stopped"
            self._write({"kind": "abort", "end": end, "reason": _reason(error), "at": _now()})
            self._end(ABORT_S if self._child is not None else 0.0)
            store = self._store
            if store is not None:
                self._keep_quietly(lambda: self._keep(store))
        self._end(0.0)

    def _end(self, deadline_s: float) -> None:
        """Wait at most `deadline_s` for the tracker, then kill it and what it started."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(OSError):
            if child.stdin:
                child.stdin.close()
        try:
            if child.wait(deadline_s) != 0:
                log.warning("Tracking failed, see %s", self._folder / "tracker.log")
        except subprocess.TimeoutExpired:
            log.warning("Tracking was still busy after %.0f s and was stopped; the spool is kept.", deadline_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _keep_quietly(self, act: Any) -> None:
        try:
            act()
        except (ScanloopError, OSError) as error:
            log.warning("The tracked experiment is not kept: %s", error)

    def _keep(self, store: Store) -> None:
        prefix = folder_of(self.tracking_id)
        kept = sorted((self._folder / "pictures").glob("*.png"))
        result = self._folder / "result.json"
        if result.exists():
            kept.append(result)
            session = json.loads(result.read_text(encoding="utf-8")).get("session")
            if session:
                store.put(f"{prefix}/session.zip", self._folder / session)
        for path in [*kept, self._spool]:  # the spool last: it names the others
            store.put(f"{prefix}/{path.relative_to(self._folder).as_posix()}", path)


def _now() -> int:
    return int(time.time() * 1000)


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "The training was given up."
    if isinstance(error, SystemExit):
        return "The training was cancelled."
    return f"{type(error).__name__}: {error}"[:300]


def _end_by_exception_on_sigterm() -> None:
    """Make SIGTERM an exception, unless somebody handles it already: as process 1 of a container it would otherwise be ignored."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not cut the closing short; SIGKILL follows if it takes too long
    raise SystemExit(TERMINATED)
