"""Running a detector over a split."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from scanloop.errors import DataWrong
from scanloop.evaluation.reference import DetectionSet, ReferenceSet
from scanloop.store import Store
from scanloop.training.detections import Detections

log = logging.getLogger(__name__)
PROGRESS_S = 5.0


class SplitDetector(Protocol):
    """What evaluation asks of a detector."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories in label order."""

    def detect_many(self, scans: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Detections]:
        """Detect on many scans' planes, in their order."""


def _planes(store: Store, reference: ReferenceSet, what: str) -> Iterator[Mapping[str, np.ndarray]]:
    from scanloop.scans.planes import read_planes

    told = time.monotonic()
    for done, scan in enumerate(reference.scans):
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            log.info("%s: %d of %d scans.", what, done, len(reference.scans))
        yield read_planes(store.get(scan.planes_key))


def detect_split(detector: SplitDetector, store: Store, reference: ReferenceSet, what: str = "Detecting") -> DetectionSet:
    """Look at every scan of a split. Detections of categories that the split does not judge are left out.

    Raises:
        DataWrong: the detector answered for another number of scans, or a scan's planes cannot be used.
    """
    place = np.array([reference.categories.index(name) if name in reference.categories else -1 for name in detector.categories])
    found = list(detector.detect_many(_planes(store, reference, what)))
    if len(found) != len(reference.scans):
        raise DataWrong(f"{len(reference.scans)} scans were shown to the detector, it answered for {len(found)}.")
    scan = np.repeat(np.arange(len(found)), [len(one) for one in found])
    boxes = np.concatenate([one.boxes_xyxy for one in found]).astype(np.float64)
    category = place[np.concatenate([one.category_ids for one in found])]
    scores = np.concatenate([one.scores for one in found]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    known = category >= 0
    return DetectionSet.of(scan[known], category[known], boxes[known], scores[known])
