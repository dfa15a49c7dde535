"""What is in a snapshot, in numbers that a person checks first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from scanloop.snapshots.balance import cut_reason
from scanloop.snapshots.manifest import SPLITS, WITHHELD, Balance, SnapshotRecord

WITHHELD_REASON = "withheld, so that nothing leaks between splits"


def count(records: Iterable[SnapshotRecord], categories: Iterable[str], balance: Balance, seed: int) -> dict[str, Any]:
    """Count weighed records: by split the scans, bags, clean bags, boxes of each category; scans of each scanner; rows that are not used and why."""
    known = list(records)
    used = [record for record in known if record.weight > 0]
    by_split: dict[str, Any] = {}
    for split in SPLITS:
        mine = [record for record in used if record.split == split]
        boxes = Counter(box.category for record in mine for box in record.boxes)
        by_split[split] = {
            "scans": len(mine),
            "bags": len({record.bag_id for record in mine}),
            "clean_bags": len({record.bag_id for record in mine if record.is_clean_bag}),
            "boxes": {category: boxes[category] for category in categories},
        }
    unused = Counter(
        WITHHELD_REASON if record.split == WITHHELD else cut_reason(record, balance, seed) for record in known if record.weight == 0
    )
    return {
        "scans": len(used),
        "bags": len({record.bag_id for record in used}),
        "boxes": sum(len(record.boxes) for record in used),
        "synthetic": sum(record.is_synthetic for record in used),
        "splits": by_split,
        "scanners": dict(sorted(Counter(record.scanner_id for record in used).items())),
        "withheld": dict(sorted(unused.items())),
    }
