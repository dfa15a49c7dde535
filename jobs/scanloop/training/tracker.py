"""The tracker: a process of its own that follows a spool and tells ClearML. Started by `tracking`, never imported by it.

Ends when the spool does. Standard input says whether anybody still waits: once it is closed and no end was written, the training died, and
the experiment is closed as aborted.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scanloop.errors import ScanloopError
from scanloop.tracking.server import TrackingRefused, TrackingUnavailable
from scanloop.tracking.spool import SPOOL

POLL_S = 0.5
MOST_BACKOFF_S = 30.0
LAST_TRY_S = 8.0
"""How long an experiment whose training died is tried to be closed."""


class Follower:
    """Reads a spool while it is written."""

    def __init__(self, folder: Path) -> None:
        self._spool = (folder / SPOOL).open(encoding="utf-8")
        self._pending = ""
        self.is_over = False

    def lines(self, wait_s: float) -> list[dict[str, Any]]:
        """What came since the last call, after waiting up to `wait_s` for the writer to end."""
        self.is_over = self.is_over or bool(select.select([sys.stdin], [], [], wait_s)[0])
        *whole, self._pending = (self._pending + self._spool.read()).split("\n")
        return [json.loads(line) for line in whole if line]

    def each(self) -> Iterator[dict[str, Any]]:
        """Every line up to the end, as it comes."""
        while not self.is_over:
            yield from self.lines(POLL_S)


def track_offline(folder: Path) -> int:
    """Make an offline session out of the spool of `folder`. Returns 0 if it was complete."""
    from clearml import Task

    followed = Follower(folder).each()
    begin = next(followed)
    task: Any = Task.init(
        project_name=begin["project"],
        task_name=begin["name"],
        tags=[*begin["tags"], begin["tracking_id"]],
        task_type="training",
        reuse_last_task_id=False,
        auto_connect_arg_parser=False,
        auto_connect_frameworks=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
    )
    task.connect(begin["options"], name="options")
    task.connect(begin["links"], name="links")
    task.connect_configuration(begin["config"], name="config")
    logger = task.get_logger()
    is_complete = False
    for event in followed:
        kind = event["kind"]
        if kind == "scalars":
            for name, value in event["values"].items():
                logger.report_scalar(name, name, value, event["iteration"])
        elif kind == "metrics":
            for name, value in event["values"].items():
                logger.report_single_value(name, value)
        elif kind == "picture":
            logger.report_image("detections", event["series"], event["iteration"], local_path=str(folder / event["path"]))
        is_complete = kind == "end"
    session = Path(f"{task.get_offline_mode_folder()}.zip").relative_to(folder).as_posix()
    task.close()
    if is_complete:
        _write(folder / "result.json", {"experiment_id": task.id, "mode": "offline", "session": session})
    return 0 if is_complete else 1


def track_online(folder: Path) -> int:
    """Tell a server the spool of `folder` while it grows. Returns 0 if all of it arrived.

    A server that does not answer is tried again, from the first line it has not acknowledged; at the end of the training it is given up at
    once, and the rest is left to the sync.
    """
    follower = Follower(folder)
    teller = Teller(folder)
    pending: list[dict[str, Any]] = []
    backoff_s = POLL_S
    while True:
        pending += follower.lines(backoff_s)
        if not pending and not follower.is_over:
            continue
        try:
            pending = teller.take(pending)
            backoff_s = POLL_S
        except TrackingUnavailable as error:
            print(error.message, file=sys.stderr)
            backoff_s = min(2 * backoff_s, MOST_BACKOFF_S)
        if follower.is_over:
            pending += follower.lines(0)
            return teller.finish(pending)


class Teller:
    """Tells a server what it has not heard yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self._begin: dict[str, Any] = {}
        self._experiment: Any = None
        self._end: dict[str, Any] | None = None

    def take(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tell `lines`; returns those that still must be told: none. Raises TrackingUnavailable: all of them."""
        from scanloop.tracking.experiments import open_experiment, tell
        from scanloop.tracking.server import Server

        if not self._begin:
            self._begin = next(line for line in lines if line["kind"] == "begin")
        if self._server is None:
            self._server = Server()
        if self._experiment is None:
            self._experiment = open_experiment(self._server, self._begin)
            found = {"experiment_id": self._experiment.task_id, "url": self._experiment.url}
            _write(self._folder / "experiment.json", found)
        told = [line for line in lines if line["kind"] not in ("begin", "end", "abort")]
        if told:
            tell(self._server, self._experiment.task_id, told, self._folder)
        self._end = next((line for line in lines if line["kind"] in ("end", "abort")), self._end)
        return []

    def finish(self, rest: list[dict[str, Any]]) -> int:
        """Tell the rest and close the experiment, or give up."""
        from scanloop.tracking.experiments import close_experiment

        give_up_at = time.monotonic() + LAST_TRY_S
        is_dead = not any(line["kind"] in ("end", "abort") for line in rest) and self._end is None
        while True:
            try:
                rest = self.take(rest)
                end = self._end or {"kind": "abort", "end": "stopped", "reason": "The training process died."}
                state = "completed" if end["kind"] == "end" else end.get("end", "stopped")
                close_experiment(self._server, self._experiment.task_id, state, end.get("reason", ""))
            except TrackingUnavailable:
                if not is_dead or time.monotonic() > give_up_at:
                    raise
                time.sleep(POLL_S)
                continue
            if state == "completed":
                result = {"experiment_id": self._experiment.task_id, "mode": "server", "session": None, "url": self._experiment.url}
                _write(self._folder / "result.json", result)
            return 0 if state == "completed" else 1


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.rename(path)


def track(folder: Path) -> int:
    """Follow the spool of `folder`."""
    from scanloop.tracking.server import is_configured

    try:
        return track_online(folder) if is_configured() else track_offline(folder)
    except (TrackingRefused, ScanloopError) as error:
        print(error.message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(track(Path(sys.argv[1])))
