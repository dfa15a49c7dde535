"""Track a training as one ClearML experiment, without ever waiting for it.

Everything worth tracking is first a line in a spool (`events.jsonl`) of the run's own folder. A child process follows the spool and tells
ClearML: an offline session, or a server where `CLEARML_API_HOST` names one. ClearML's SDK patches libraries, starts threads and blocks when
its server does, so it is never imported here; the child has no credentials but ClearML's own, and is killed when it is late. Spool and
session go to the store under `tracking/`. What goes wrong is logged and changes nothing else.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanloop.errors import ScanloopError
from scanloop.steps import step
from scanloop.store import Store

log = logging.getLogger(__name__)
LATE_SHARE = 0.05
"""Time that tracking may add after a training, as a share of the training."""
LATE_AT_LEAST_S = 15.0
"""A short training allows at least this."""
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
             "REQUESTS_CA_BUNDLE")  # fmt: skip
"""What the child may know of the environment, beside `CLEARML_*`."""
QUIET_CLEARML = """\
api {}
sdk {
  development {
    report_use_subprocess: false
    store_uncommitted_code_diff: false
    suppress_update_message: true
    worker { log_stdout: false }
  }
}
"""
"""ClearML's own defaults fork a reporter, upload the source tree's uncommitted changes, and read ~/clearml.conf."""


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
    """One tracked training. No method raises because of ClearML, and none waits for it but `finish`."""

    def __init__(self, folder: Path, tracking_id: str) -> None:
        self.tracking_id = tracking_id
        self._folder = folder
        self._spool = folder / "events.jsonl"
        self._child: subprocess.Popen[bytes] | None = None
        self._pictures = 0

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin a new spool and start the tracker. `about`: project, name, tags, options, config and links of the experiment."""
        try:
            (self._folder / "home").mkdir(parents=True, exist_ok=True)
            (self._folder / "clearml.conf").write_text(QUIET_CLEARML, encoding="utf-8")
            self._spool.write_text("", encoding="utf-8")
            (self._folder / "result.json").unlink(missing_ok=True)
            self._write({"kind": "begin", "tracking_id": self.tracking_id, **about})
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

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Note points of curves."""
        self._write({"kind": "scalars", "iteration": iteration, "values": dict(values)})

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Note final numbers."""
        self._write({"kind": "metrics", "values": {name: value for name, value in values.items() if value is not None}})

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
        self._write({"kind": "picture", "series": series, "iteration": iteration, "path": f"pictures/{path.name}"})

    def _write(self, event: Mapping[str, Any]) -> None:
        try:
            with self._spool.open("a", encoding="utf-8") as spool:
                spool.write(json.dumps(event, default=str) + "\n")
        except OSError as error:
            log.warning("An event is not tracked: %s", error)

    def finish(self, store: Store, training_s: float) -> None:
        """Give the tracker its last moments, then keep spool, pictures and session under `tracking/<id>/`."""
        self._write({"kind": "end"})
        self.stop(max(LATE_AT_LEAST_S, LATE_SHARE * training_s))
        step("training.before_tracking")
        try:
            self._keep(store)
        except (ScanloopError, OSError) as error:
            log.warning("The tracked experiment is not kept: %s", error)

    def stop(self, deadline_s: float = 0.0) -> None:
        """End the tracker: wait at most `deadline_s`, then kill it and what it started."""
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

    def _keep(self, store: Store) -> None:
        prefix = f"tracking/{self.tracking_id}"
        kept = [self._spool, *sorted((self._folder / "pictures").glob("*.png"))]
        result = self._folder / "result.json"
        if result.exists():
            kept.append(result)
            session = json.loads(result.read_text(encoding="utf-8")).get("session")
            if session:
                store.put(f"{prefix}/session.zip", self._folder / session)
        for path in kept:
            store.put(f"{prefix}/{path.relative_to(self._folder).as_posix()}", path)
