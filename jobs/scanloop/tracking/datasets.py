"""Snapshots as versions of a ClearML Dataset: the root as its one file, the snapshot it came from as its parent, the counts and
the picture of its balance attached.

The pixels stay where they are. A version is made by the SDK's own `Dataset`, whose inner format is nobody else's business. It takes several
requests, so one that was left unfinished is removed before it is made again: only one sync runs at a time.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanloop.steps import step
from scanloop.tracking.server import Server, TrackingUnavailable, project_name, tag_of

NAME = "snapshots"
"""Name of the dataset; its versions are the snapshots of one product line."""


@dataclass(frozen=True)
class Version:
    """What a server is told about a snapshot."""

    snapshot_id: str
    """SHA-256 of the root."""
    product_line: str
    """Whose it is."""
    sequence: int
    """Its number, from 1."""
    parent: str | None
    """The server's id of the version it came from."""
    root: bytes
    """The root itself."""
    uri: str
    """Where the root is."""
    counts: Mapping[str, Any]
    """What was counted."""
    taxonomy: str
    """Version of the taxonomy that its categories are from."""
    picture: Path
    """How train is balanced over scanners and categories, a PNG."""


def register_dataset(server: Server, version: Version, folder: Path) -> str:
    """Make the version, unless the server has it; returns the server's id."""
    done = _final(server, version.snapshot_id)
    if done is not None:
        return done
    _remove_unfinished(server, version.snapshot_id, version.product_line)
    from clearml import Dataset

    path = folder / "root.json"
    path.write_bytes(version.root)
    # The SDK prints addresses and progress on standard output, which belongs to the job's result.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            made = Dataset.create(
                dataset_name=NAME,
                dataset_project=project_name(version.product_line),
                dataset_version=f"{version.sequence}.0.0",
                dataset_tags=[
                    tag_of(version.snapshot_id),
                    f"product line: {version.product_line}",
                    f"taxonomy: {version.taxonomy}",
                ],
                parent_datasets=[version.parent] if version.parent else None,
                description=f"Snapshot {version.snapshot_id}\n{version.uri}",
            )
            step("tracking.after_dataset_created")
            made.add_files(str(path), verbose=False)
            made.set_metadata({"snapshot_id": version.snapshot_id, "uri": version.uri, **_flat(version.counts)}, ui_visible=True)
            table = [["count", "value"], *([name, str(value)] for name, value in _flat(version.counts).items())]
            made.get_logger().report_table("snapshot", "counts", iteration=0, table_plot=table)
            made.get_logger().report_image("snapshot", "balance", iteration=0, local_path=str(version.picture))
            made.upload(show_progress=False, preview=False)
            step("tracking.after_dataset_uploaded")
            made.finalize()
        except (ValueError, RuntimeError, OSError) as error:
            raise TrackingUnavailable(f"Snapshot {version.snapshot_id[:12]} could not be registered: {error}") from error
    step("tracking.after_dataset_finalized")
    return str(made.id)


def _final(server: Server, snapshot_id: str) -> str | None:
    found = server.find_tasks(tag_of(snapshot_id))
    return next((str(task["id"]) for task in found if task["status"] in ("completed", "published")), None)


def _remove_unfinished(server: Server, snapshot_id: str, product_line: str) -> None:
    """Remove what a sync that died left: versions that were tagged and not finished, or not even tagged."""
    from clearml.backend_api.services import tasks

    project = server.find_project(f"{project_name(product_line)}/.datasets/{NAME}")
    if project is None:
        return
    wanted = tasks.GetAllRequest(project=[project], status=["created", "in_progress", "stopped", "failed"], only_fields=["id"],
                                 search_hidden=True)  # fmt: skip
    for task in server.send(wanted)["tasks"]:
        server.send(tasks.DeleteRequest(task=task["id"], force=True))


def _flat(counts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested counts under joined names."""
    flat: dict[str, Any] = {}
    for name, value in counts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, (int, float, str)) else json.dumps(value)
    return flat
