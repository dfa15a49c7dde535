"""Detections and bag outcomes as Parquet: kept so that any number can be counted again, with other thresholds or other weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scanloop.errors import DataWrong
from scanloop.evaluation.outcomes import BagScores
from scanloop.evaluation.reference import DetectionSet, ReferenceSet
from scanloop.evaluation.thresholds import OperatingPoint
from scanloop.parquet import read_table, write_table


def write_detections(splits: Mapping[str, tuple[ReferenceSet, DetectionSet]]) -> bytes:
    """One row a detection: split, scan_id, category, box in px, score; in split, scan and score order."""
    import pyarrow as pa

    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("split", "scan_id", "category", "x", "y", "width", "height", "score")}
    for split, (reference, detections) in splits.items():
        scan_ids = np.array([scan.scan_id for scan in reference.scans], dtype=object)
        names = np.array(reference.categories, dtype=object)
        columns["split"].append(np.full(len(detections.scan), split, dtype=object))
        columns["scan_id"].append(scan_ids[detections.scan] if len(scan_ids) else scan_ids)
        columns["category"].append(names[detections.category])
        for position, name in enumerate(("x", "y", "width", "height")):
            columns[name].append(detections.boxes_xywh[:, position])
        columns["score"].append(detections.scores)
    text = {"split", "scan_id", "category"}
    arrays = {name: pa.array(np.concatenate(parts), pa.string() if name in text else pa.float64()) for name, parts in columns.items()}
    return write_table(pa.table(arrays))


def read_detections(data: bytes, split: str, reference: ReferenceSet) -> DetectionSet:
    """The detections of one split, laid over its scans.

    Raises:
        DataWrong: a row names a scan that is not in the split, or a category that the reference does not have.
    """
    import pyarrow.compute as pc

    table = read_table(data)
    table = table.filter(pc.equal(table["split"], split))
    kinds = {name: position for position, name in enumerate(reference.categories)}
    try:
        scan = np.array([reference.scan_positions[scan_id] for scan_id in table["scan_id"].to_pylist()], dtype=np.int64)
        category = np.array([kinds[name] for name in table["category"].to_pylist()], dtype=np.int64)
    except KeyError as unknown:
        raise DataWrong(f"The kept detections name {unknown.args[0]!r}, which the {split} split of this snapshot does not have.") from None
    boxes = np.column_stack([table[name].to_numpy() for name in ("x", "y", "width", "height")]) if len(table) else np.zeros((0, 4))
    return DetectionSet.of(scan, category, boxes, table["score"].to_numpy())


def write_outcomes(reference: ReferenceSet, bags: BagScores, point: OperatingPoint) -> bytes:
    """One row a bag and category: what it carries, its best scores, the threshold, whether it alarms, and the bag's outcome."""
    import pyarrow as pa

    thresholds = point.as_array
    outcomes = bags.at(thresholds)
    bag_count, kinds = bags.best.shape
    scanners: list[set[str]] = [set() for _ in range(bag_count)]
    for bag, scan in zip(reference.bag_of_scan, reference.scans, strict=True):
        scanners[bag].add(scan.scanner_model)

    def each(per_bag: np.ndarray) -> np.ndarray:
        return np.repeat(per_bag, kinds)

    table = pa.table(
        {
            "bag_id": pa.array([bag_id for bag_id in bags.bag_ids for _ in range(kinds)], pa.string()),
            "scanner_models": pa.array([sorted(found) for found in scanners for _ in range(kinds)], pa.list_(pa.string())),
            "category": pa.array(list(bags.categories) * bag_count, pa.string()),
            "carries": bags.carries.ravel(),
            "was_looked_for": bags.was_looked_for.ravel(),
            "best_score": bags.best.ravel(),
            "best_located_score": bags.best_located.ravel(),
            "threshold": np.tile(thresholds, bag_count),
            "alarms": outcomes.alarms.ravel(),
            "bag_is_clean": each(bags.is_clean),
            "bag_is_threat": each(bags.is_threat),
            "bag_is_alarmed": each(outcomes.is_alarmed),
            "bag_is_detected": each(outcomes.is_detected),
            "bag_is_located": each(outcomes.is_located),
        }
    )
    return write_table(table)
