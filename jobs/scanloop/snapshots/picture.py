"""How a snapshot's train split is balanced over scanners and categories, before and after its rules, as numbers and as a picture.

Before: how many scans of train show a category on a scanner. After: how often they are shown in one pass of training, which is the sum of their
weights. The last column counts scans without a box.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanloop.snapshots.balance import cells_of
from scanloop.snapshots.manifest import SnapshotRecord

CLEAN = "nothing"
_INCHES_A_CELL = (1.15, 0.42)
_MAX_ROWS = 60


@dataclass(frozen=True)
class Cells:
    """Scans of train by scanner and category."""

    scanners: tuple[str, ...]
    """Rows: scanner ids, sorted."""
    columns: tuple[str, ...]
    """Columns: categories in label order, then `nothing`."""
    before: np.ndarray
    """(scanners, columns) int64: scans."""
    after: np.ndarray
    """(scanners, columns) float64: times shown in one pass of training."""


def cells(rows: Iterable[SnapshotRecord], categories: Iterable[str]) -> Cells:
    """Count the train rows of a snapshot, left-out ones too. A scan with two categories is in two cells."""
    columns = (*categories, CLEAN)
    before: Counter[tuple[str, str]] = Counter()
    after: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.split == "train":
            for cell in sorted(cells_of(row)) or [(row.scanner_id, CLEAN)]:
                before[cell] += 1
                after[cell] = after.get(cell, 0.0) + row.weight
    scanners = tuple(sorted({scanner for scanner, _ in before}))
    shape = (len(scanners), len(columns))
    return Cells(
        scanners,
        columns,
        np.array([[before[scanner, column] for column in columns] for scanner in scanners], np.int64).reshape(shape),
        np.array([[after.get((scanner, column), 0.0) for column in columns] for scanner in scanners], np.float64).reshape(shape),
    )


def draw(found: Cells, title: str, path: Path) -> None:
    """Draw both tables side by side as PNG; of more than 60 scanners those with the most scans."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-found.before.sum(axis=1), kind="stable")[:_MAX_ROWS]
    kept = np.sort(order)
    wide, high = (inches * count for inches, count in zip(_INCHES_A_CELL, (len(found.columns), max(1, len(kept))), strict=True))
    figure = Figure(figsize=(2 * wide + 5, high + 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    left_out = len(found.scanners) - len(kept)
    figure.suptitle(
        parse_math=False, t=title + (f" (the {len(kept)} scanners with the most scans of {len(found.scanners)})" if left_out else "")
    )
    largest = max(float(found.before.max(initial=0)), float(found.after.max(initial=0)), 1.0)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, values, what in ((axes[0], found.before, "scans in train"), (axes[1], found.after, "shown in one pass, after balancing")):
        shown = values[kept]
        if not len(kept):
            axis.text(0.5, 0.5, "no scan in train", ha="center", va="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        axis.imshow(np.sqrt(shown / largest), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_title(what)
        axis.set_xticks(range(len(found.columns)), found.columns, rotation=30, ha="right", parse_math=False)
        axis.set_yticks(range(len(kept)), [found.scanners[row] for row in kept], parse_math=False)
        axis.tick_params(length=0)
        for (row, column), value in np.ndenumerate(shown):
            colour = "white" if value > 0.36 * largest else "#333333"
            axis.text(column, row, f"{value:.0f}" if value else "–", ha="center", va="center", color=colour, fontsize=9)
    figure.savefig(path, format="png", dpi=110)
