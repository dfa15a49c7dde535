"""Snapshots in the form that detection tools read.

Source: the COCO data format, cocodataset.org/#format-data; bbox is [x, y, width, height] in px from the top left corner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scanloop.snapshots.manifest import SnapshotRecord

_ID_HEX_DIGITS = 13
"""52 bits: exact in a double, where tools put ids into arrays of floats."""


def to_coco(records: Iterable[SnapshotRecord], categories: Sequence[str]) -> dict[str, Any]:
    """COCO JSON of records: category ids count from 1 in the order of `categories`; image ids follow from scan ids.

    `file_name` is the store key of the planes. Beyond COCO, an image has `scan_id`, `bag_id`, `scanner_id`, `scanner_model`, `view_name`, `weight`,
    `is_synthetic` and `looked_for` (category ids; for others it is no negative). Images are in order of scan id; so are annotations, from 1.
    """
    category_ids = {category: number for number, category in enumerate(categories, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    known = sorted(records, key=lambda record: record.scan_id)
    ids = image_ids([record.scan_id for record in known])
    for record in known:
        images.append(
            {
                "id": ids[record.scan_id],
                "file_name": record.planes_key,
                "height": record.height_px,
                "width": record.width_px,
                "scan_id": record.scan_id,
                "bag_id": record.bag_id,
                "scanner_id": record.scanner_id,
                "scanner_model": record.scanner_model,
                "view_name": record.view_name,
                "weight": record.weight,
                "is_synthetic": record.is_synthetic,
                "looked_for": [category_ids[category] for category in record.looked_for if category in category_ids],
            }
        )
        for box in record.boxes:
            if box.category in category_ids:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": ids[record.scan_id],
                        "category_id": category_ids[box.category],
                        "bbox": list(box.bbox_xywh),
                        "area": box.bbox_xywh[2] * box.bbox_xywh[3],
                        "iscrowd": 0,
                    }
                )
    named = [{"id": number, "name": category} for category, number in category_ids.items()]
    return {"info": {"description": "scanloop"}, "images": images, "annotations": annotations, "categories": named}


def image_ids(scan_ids: Iterable[str]) -> dict[str, int]:
    """An integer for each scan: the first 52 bits of its id; of two scans that share them, the later id moves up to the next free one."""
    taken: dict[int, str] = {}
    for scan_id in sorted(set(scan_ids)):
        number = int(scan_id[:_ID_HEX_DIGITS], 16)
        while number in taken:
            number += 1
        taken[number] = scan_id
    return {scan_id: number for number, scan_id in taken.items()}
