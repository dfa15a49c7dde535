"""The tracker: a process of its own that follows a spool and tells ClearML. Started by `tracking`, never imported by it.

Ends when the spool does. Standard input says whether anybody still waits: once it is closed and no end was written, the training died, and
the session is left unfinished.
"""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLL_S = 0.5


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the spool's lines as they come, up to the end or to the death of who writes them."""
    with (folder / "events.jsonl").open(encoding="utf-8") as spool:
        pending = ""
        while True:
            pending += spool.readline()
            if pending.endswith("\n"):
                yield json.loads(pending)
                pending = ""
                continue
            is_over = bool(select.select([sys.stdin], [], [], POLL_S)[0])
            if is_over:
                pending += spool.read()
                yield from (json.loads(line) for line in pending.splitlines() if line)
                return


def track(folder: Path) -> int:
    """Replay the spool of `folder` into one ClearML experiment. Returns 0 if it was complete."""
    from clearml import Task

    followed = events(folder)
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
    session = Path(f"{task.get_offline_mode_folder()}.zip").relative_to(folder).as_posix() if task.is_offline() else None
    task.close()
    if is_complete:
        result = {"experiment_id": task.id, "mode": "offline" if session else "server", "session": session}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(track(Path(sys.argv[1])))
