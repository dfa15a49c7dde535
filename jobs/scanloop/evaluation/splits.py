"""The splits of a frozen snapshot, as evaluation reads them."""

from __future__ import annotations

from scanloop.errors import DataWrong
from scanloop.evaluation.reference import ReferenceScan, ReferenceSet
from scanloop.snapshots.manifest import SnapshotReader


def load_split(snapshot: SnapshotReader, split: str) -> ReferenceSet:
    """The scans of one split with their accepted annotations.

    Raises:
        DataWrong: the split is empty, or holds a scan into which threats were projected: such scans are for training alone.
    """
    scans = []
    for record in snapshot.records(split):
        if record.is_synthetic:
            raise DataWrong(f"Scan {record.scan_id} in the {split} split of snapshot {snapshot.snapshot_id[:12]} has projected threats.")
        scans.append(
            ReferenceScan(
                scan_id=record.scan_id,
                bag_id=record.bag_id,
                scanner_model=record.scanner_model,
                view_name=record.view_name,
                planes_key=record.planes_key,
                looked_for=frozenset(record.looked_for),
                boxes=record.boxes,
            )
        )
    if not scans:
        raise DataWrong(f"The {split} split of snapshot {snapshot.snapshot_id[:12]} is empty: nothing can be measured on it.")
    return ReferenceSet.of(snapshot.categories, scans)


def bags_of(snapshot: SnapshotReader, split: str) -> frozenset[str]:
    """Bags of one split."""
    return frozenset(record.bag_id for record in snapshot.records(split))
