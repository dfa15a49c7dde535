"""Records and labelled scans for tests of snapshot rules."""

from __future__ import annotations

import hashlib
from typing import Any

from small_world import definition

from scanloop.labelling.boxes import Box
from scanloop.product_lines import ProductLine
from scanloop.snapshots.collect import LabelledScan
from scanloop.snapshots.effective import AnnotationSet
from scanloop.snapshots.manifest import SnapshotRecord

KNIFE = Box("knife", (1.5, 2.0, 30.25, 4.0))


def record(bag: str, view: str = "top", *, boxes: tuple[Box, ...] = (KNIFE,), **changes: Any) -> SnapshotRecord:
    facts: dict[str, Any] = {
        "scan_id": hashlib.sha256(f"{bag}/{view}".encode()).hexdigest(),
        "bag_id": bag,
        "site_id": "ams",
        "scanner_id": "acme-one-1",
        "scanner_model": "Acme One",
        "view_name": view,
        "planes_key": "scans/planes/aa/x.tiff",
        "planes": ("high", "low"),
        "height_px": 48,
        "width_px": 64,
        "acquired_at": "2026-03-01T00:00:00+00:00",
        "phash": hashlib.sha256(f"{bag}{view}".encode()).hexdigest()[:16],
        "split": "train",
        "is_synthetic": False,
        "is_clean_bag": not boxes,
        "looked_for": ("handgun", "knife"),
        "annotation_ids": ("a1",),
        "boxes": boxes,
    }
    return SnapshotRecord(**facts | changes)


def labelled(bag: str, view: str = "top", *, is_whole: bool = True, boxes: tuple[Box, ...] = (KNIFE,), **changes: Any) -> LabelledScan:
    one = record(bag, view)
    facts: dict[str, Any] = {
        name: getattr(one, name) for name in ("scan_id", "bag_id", "site_id", "scanner_id", "scanner_model", "view_name")
    }
    facts |= {"planes_key": one.planes_key, "phash": one.phash, "acquired_at": None, "is_projected": False}
    facts["planes"] = [{"name": name, "height_px": 48, "width_px": 64, "bits": 16} for name in one.planes]
    note = (AnnotationSet(f"a-{bag}-{view}", "2026-01-01", frozenset({"handgun", "knife"}), boxes),)
    return LabelledScan(facts | changes, note if is_whole else (), () if is_whole else note)


def line(**changes: Any) -> ProductLine:
    return ProductLine.model_validate(definition(**changes))
