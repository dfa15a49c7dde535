"""A dry run of an import: everything is read as an import would read it, and nothing is written. No deployment is needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scanloop.imports.annotate import content_of
from scanloop.imports.entries import Entry
from scanloop.imports.layout import SetFolder
from scanloop.imports.problems import Problems
from scanloop.imports.source import Progress, Source, Surveyed, as_counts, survey
from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import Received, Sandbox


def check_import(source: Source, progress: Progress, *, with_pictures: bool = True) -> tuple[dict[str, Any], Problems]:
    """What an import of the set would come to, and everything that is odd about it.

    Raises:
        DataWrong: as an import would.
    """
    problems, surveyed = Problems(), Surveyed()
    counts = dict.fromkeys(("readable", "unreadable", "boxes", "clean"), 0)
    with TemporaryDirectory(prefix="scanloop-import-") as name:
        folder = Path(name)
        entries = survey(source, folder, problems, surveyed, progress)
        if with_pictures:
            _look(source, folder, entries, problems, counts)
        else:
            for _ in entries:
                continue
    found = as_counts(surveyed) | (counts if with_pictures else {})
    return {"dataset": source.dataset, "preset": source.preset.name, **found, "problems": dict(sorted(problems.counts.items()))}, problems


def _look(source: Source, folder: Path, entries: Iterator[Entry], problems: Problems, counts: dict[str, int]) -> None:
    """Read every picture in the sandbox, as intake does, and place the boxes in it."""
    root = SetFolder(source.folder, Problems()).root
    upcoming, asked = itertools.tee(entries)
    with Sandbox(folder / "reader", [root, folder]) as sandbox:

        def received() -> Iterator[Received]:
            for number, entry in enumerate(upcoming):
                sidecar = folder / f"sidecar-{number % 8}"
                sidecar.write_bytes(source.sidecar(entry))
                yield Received(root / entry.path, sidecar)

        for entry, outcome in zip(asked, sandbox.read_all(received()), strict=False):
            if not isinstance(outcome, ScanContent):
                found = f"{outcome.reason_code}: {outcome.message}" if isinstance(outcome, ScanRefused) else "a report about scans"
                counts["unreadable"] += 1
                problems.report("picture_unreadable", entry.path, "", "a picture that can be read", found)
                continue
            counts["readable"] += 1
            height_px, width_px = next(iter(outcome.planes.values())).shape
            boxes, looked_for = content_of(entry, width_px, height_px, problems)
            counts["boxes"] += len(boxes)
            counts["clean"] += bool(looked_for) and not boxes
