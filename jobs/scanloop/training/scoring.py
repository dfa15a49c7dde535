"""How good a detector is on one split right after its training. Verdicts come from evaluation, on the test split; this is a first look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scanloop.training.detections import Detections
from scanloop.training.detector import BATCH_SCANS, Detector

if TYPE_CHECKING:
    from scanloop.snapshots.manifest import SnapshotReader, SnapshotRecord
    from scanloop.store import Store


@dataclass(frozen=True)
class Scored:
    """A detector's look at one split."""

    metrics: dict[str, float | None]
    """`<split>_ap`, `<split>_ap50`, `<split>_scans`; None where nothing could be judged."""
    detections: Mapping[str, Detections]
    """What was found, by scan id."""


def detect_records(detector: Detector, store: Store, records: Sequence[SnapshotRecord]) -> dict[str, Detections]:
    """Run the detector over scans of a snapshot, by scan id."""
    from scanloop.scans.planes import read_planes

    planes = (read_planes(store.get(record.planes_key)) for record in records)
    found = detector.detect_many(planes, BATCH_SCANS)
    return {record.scan_id: detections for record, detections in zip(records, found, strict=True)}


def score_split(detector: Detector, snapshot: SnapshotReader, split: str) -> Scored:
    """Detect on a split and compute COCO's AP and AP50 over it. An empty split gives metrics of None."""
    from scanloop.evaluation.coco import coco_numbers, precision_table
    from scanloop.evaluation.reference import DetectionSet
    from scanloop.evaluation.splits import load_split

    records = list(snapshot.records(split))
    if not records:
        return Scored({f"{split}_ap": None, f"{split}_ap50": None, f"{split}_scans": 0}, {})
    found = detect_records(detector, snapshot.store, records)
    reference = load_split(snapshot, split)
    columns = [(reference.scan_positions[scan_id], detections) for scan_id, detections in found.items()]
    boxes = np.concatenate([detections.boxes_xyxy for _, detections in columns]).astype(np.float64)
    places = [reference.categories.index(category) for category in detector.categories]
    detected = DetectionSet.of(
        np.concatenate([np.full(len(detections), position, dtype=np.int64) for position, detections in columns]),
        np.array(places, dtype=np.int64)[np.concatenate([detections.category_ids for _, detections in columns])],
        np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        np.concatenate([detections.scores for _, detections in columns]).astype(np.float64),
    )
    numbers = coco_numbers(precision_table(reference, detected), reference.categories)
    return Scored({f"{split}_ap": numbers["ap"], f"{split}_ap50": numbers["ap50"], f"{split}_scans": len(records)}, found)
