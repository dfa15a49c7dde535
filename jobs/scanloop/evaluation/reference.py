"""What the reviewed annotations say about scans, and what a detector said about them, as columns of numbers.

The reference is the set of accepted annotations of a frozen snapshot. A category counts for a scan only if it was looked for there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scanloop.errors import DataWrong
from scanloop.labelling.boxes import Box

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ReferenceScan:
    """One scan of a split with its accepted annotations."""

    scan_id: str
    """SHA-256 of the received bytes."""
    bag_id: str
    """The bag it is a view of."""
    scanner_model: str
    """Manufacturer and model of the scanner that made it."""
    view_name: str
    """Which view of the bag."""
    planes_key: str
    """Where its pixels are in the store."""
    looked_for: frozenset[str]
    """Categories that annotators looked for."""
    boxes: tuple[Box, ...]
    """Every threat they found."""


@dataclass(frozen=True)
class ReferenceSet:
    """The scans of one split in scan id order, with the categories that are judged."""

    categories: tuple[str, ...]
    """Category ids, in label order; every `category` array below holds positions in it."""
    scans: tuple[ReferenceScan, ...]
    """One entry a scan."""

    @classmethod
    def of(cls, categories: Sequence[str], scans: Iterable[ReferenceScan]) -> ReferenceSet:
        """Order the scans and check them.

        Raises:
            DataWrong: a scan appears twice, or a box is of a category that was not looked for.
        """
        ordered = tuple(sorted(scans, key=lambda scan: scan.scan_id))
        for before, after in pairwise(ordered):
            if before.scan_id == after.scan_id:
                raise DataWrong(f"Scan {after.scan_id} appears twice in one split.")
        for scan in ordered:
            for box in scan.boxes:
                if box.category not in scan.looked_for:
                    raise DataWrong(f"Scan {scan.scan_id} has a box of {box.category!r}, which its annotation does not list as looked for.")
        return cls(tuple(categories), ordered)

    def only(self, keep: Bools) -> tuple[ReferenceSet, Ints]:
        """The scans where `keep` (S,) is true, and the new position of every old scan (-1 where it is left out)."""
        positions = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int64)
        kept = tuple(scan for scan, is_kept in zip(self.scans, keep, strict=True) if is_kept)
        return ReferenceSet(self.categories, kept), positions

    @cached_property
    def bag_ids(self) -> tuple[str, ...]:
        """Every bag, sorted."""
        return tuple(sorted({scan.bag_id for scan in self.scans}))

    @cached_property
    def scanner_models(self) -> tuple[str, ...]:
        """Every scanner model, sorted."""
        return tuple(sorted({scan.scanner_model for scan in self.scans}))

    @cached_property
    def scan_positions(self) -> dict[str, int]:
        """Position of each scan id."""
        return {scan.scan_id: position for position, scan in enumerate(self.scans)}

    @cached_property
    def bag_of_scan(self) -> Ints:
        """(S,) position of each scan's bag in `bag_ids`."""
        positions = {bag_id: position for position, bag_id in enumerate(self.bag_ids)}
        return np.array([positions[scan.bag_id] for scan in self.scans], dtype=np.int64)

    @cached_property
    def looked_for(self) -> Bools:
        """(S, K) whether each category was looked for in each scan."""
        rows = [[category in scan.looked_for for category in self.categories] for scan in self.scans]
        return np.array(rows, dtype=bool).reshape(len(self.scans), len(self.categories))

    @cached_property
    def box_scan(self) -> Ints:
        """(G,) position of each judged box's scan."""
        return np.array([position for position, _ in self._boxes], dtype=np.int64)

    @cached_property
    def box_category(self) -> Ints:
        """(G,) category of each judged box."""
        return np.array([self.categories.index(box.category) for _, box in self._boxes], dtype=np.int64)

    @cached_property
    def boxes_xywh(self) -> Floats:
        """(G, 4) judged boxes in px."""
        return np.array([box.bbox_xywh for _, box in self._boxes], dtype=np.float64).reshape(-1, 4)

    @cached_property
    def _boxes(self) -> list[tuple[int, Box]]:
        known = set(self.categories)
        return [(position, box) for position, scan in enumerate(self.scans) for box in scan.boxes if box.category in known]


@dataclass(frozen=True)
class DetectionSet:
    """What a detector said about the scans of a `ReferenceSet`."""

    scan: Ints
    """(N,) position of the scan, not falling."""
    category: Ints
    """(N,) position of the category."""
    boxes_xywh: Floats
    """(N, 4) left, top, width, height in px."""
    scores: Floats
    """(N,) in 0..1."""

    def __post_init__(self) -> None:
        count = len(self.scan)
        if self.category.shape != (count,) or self.scores.shape != (count,) or self.boxes_xywh.shape != (count, 4):
            shapes = (self.category.shape, self.scores.shape, self.boxes_xywh.shape)
            raise ValueError(f"expected {count} detections in every column, found shapes {shapes}")
        steps = np.diff(self.scan)
        if np.any(steps < 0) or np.any((steps == 0) & (np.diff(self.scores) > 0)):
            raise ValueError("detections must be in scan order, the highest score of a scan first")

    @classmethod
    def of(cls, scan: Ints, category: Ints, boxes_xywh: Floats, scores: Floats) -> DetectionSet:
        """Group the rows by scan, the highest score first; rows of equal score keep their order."""
        order = np.lexsort((np.arange(len(scan)), -np.asarray(scores), scan))
        return cls(
            np.asarray(scan, dtype=np.int64)[order],
            np.asarray(category, dtype=np.int64)[order],
            np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)[order],
            np.asarray(scores, dtype=np.float64)[order],
        )

    def where(self, keep: Bools) -> DetectionSet:
        """The rows where `keep` (N,) is true."""
        return DetectionSet(self.scan[keep], self.category[keep], self.boxes_xywh[keep], self.scores[keep])

    def judged_by(self, reference: ReferenceSet) -> DetectionSet:
        """Only detections of categories that were looked for in their scan: the others are neither right nor wrong."""
        return self.where(reference.looked_for[self.scan, self.category])

    def only(self, positions: Ints) -> DetectionSet:
        """Follow `ReferenceSet.only`: renumber the scans, drop the detections of those left out."""
        renumbered = positions[self.scan]
        keep = renumbered >= 0
        return DetectionSet(renumbered[keep], self.category[keep], self.boxes_xywh[keep], self.scores[keep])
