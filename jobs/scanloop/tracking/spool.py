"""The spool of an experiment: JSON lines, written by a training, followed by its tracker, replayed by the sync.

    begin     what the experiment is: project, name, tags, options, links, config, environment
    scalars   points of curves        metrics  final numbers        picture  a file beside the spool
    end       the training is done    abort    it was cancelled or failed

Each line says when (`at`, milliseconds). An attempt writes its spool anew, with what earlier attempts of its run did.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanloop.errors import ObjectNotFound
from scanloop.store import Store

SPOOL = "events.jsonl"
MARKERS = "tracking/open/"
"""Under this lies one object for each experiment that was begun and of whose end no server was told."""


@dataclass(frozen=True)
class Spool:
    """A whole spool."""

    begin: dict[str, Any]
    """Its first line."""
    lines: list[dict[str, Any]]
    """What followed, without the end."""
    end: str | None
    """`completed`, `stopped` or `failed`; None: nobody wrote an end."""
    reason: str
    """Why it was aborted."""


def folder_of(tracking_id: str) -> str:
    """Where an experiment is kept in the store."""
    return f"tracking/{tracking_id}"


def parse(text: str) -> Spool | None:
    """Read a spool. A last line that was cut off is left out; None if not even the beginning is there."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    if not found or found[0].get("kind") != "begin":
        return None
    told = [line for line in found[1:] if line["kind"] not in ("end", "abort")]
    last = found[-1]
    end = {"end": "completed", "abort": last.get("end", "stopped")}.get(last["kind"])
    return Spool(found[0], told, end, str(last.get("reason", "")) if end != "completed" else "")


def load(store: Store, tracking_id: str, folder: Path) -> Spool | None:
    """The spool that is kept of an experiment, with its pictures copied to `folder`; None if none is kept."""
    prefix = folder_of(tracking_id)
    try:
        spool = parse(store.get(f"{prefix}/{SPOOL}").decode())
    except (ObjectNotFound, UnicodeDecodeError):
        return None
    if spool is None:
        return None
    for line in spool.lines:
        if line["kind"] == "picture" and store.head(f"{prefix}/{line['path']}") is not None:
            target = folder / line["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            store.download(f"{prefix}/{line['path']}", target)
    return spool


def offline_id(store: Store, tracking_id: str) -> str | None:
    """Id of the offline session that was made of an experiment."""
    try:
        result = json.loads(store.get(f"{folder_of(tracking_id)}/result.json"))
    except (ObjectNotFound, ValueError):
        return None
    return str(result["experiment_id"]) if result.get("mode") == "offline" else None
