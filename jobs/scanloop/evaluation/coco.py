"""Average precision by the COCO reference implementation (faster-coco-eval, the same numbers as pycocotools)."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from scanloop.evaluation.reference import DetectionSet, Floats, ReferenceSet

log = logging.getLogger(__name__)
AREAS = ("all", "small", "medium", "large")
"""COCO's slices by box area: below 32 x 32 px, up to 96 x 96 px, and above."""


def coco_truth(reference: ReferenceSet) -> dict[str, Any]:
    """The reference as COCO JSON; image and category ids are positions + 1."""
    annotations = [
        {"id": number + 1, "image_id": int(scan) + 1, "category_id": int(category) + 1, "bbox": box.tolist(), "area": float(box[2] * box[3]),
         "iscrowd": 0}
        for number, (scan, category, box) in enumerate(zip(reference.box_scan, reference.box_category, reference.boxes_xywh, strict=True))
    ]  # fmt: skip
    return {
        "info": {},
        "images": [{"id": position + 1} for position in range(len(reference.scans))],
        "categories": [{"id": position + 1, "name": name} for position, name in enumerate(reference.categories)],
        "annotations": annotations,
    }


def coco_detections(reference: ReferenceSet, detections: DetectionSet) -> list[dict[str, Any]]:
    """The judged detections as COCO results."""
    judged = detections.judged_by(reference)
    return [
        {"image_id": int(scan) + 1, "category_id": int(category) + 1, "bbox": box.tolist(), "score": float(score)}
        for scan, category, box, score in zip(judged.scan, judged.category, judged.boxes_xywh, judged.scores, strict=True)
    ]


def precision_table(reference: ReferenceSet, detections: DetectionSet) -> Floats:
    """COCO's precision (T, 101, K, areas) at 100 detections; -1 where a category has no box of that area."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(coco_truth(reference), print_function=log.debug)
    found = truth.loadRes(coco_detections(reference, detections))
    evaluation = COCOeval_faster(truth, found, "bbox", print_function=log.debug)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], dtype=np.float64)[..., -1]


def _mean(values: Floats) -> float | None:
    present = values[values > -1]
    return float(present.mean()) if present.size else None


def coco_numbers(precision: Floats, categories: tuple[str, ...]) -> dict[str, Any]:
    """AP, AP50, AP75, AP by area and AP and AP50 by category; None where nothing could be judged."""
    everywhere = precision[..., 0]
    return {
        "ap": _mean(everywhere),
        "ap50": _mean(everywhere[0]),
        "ap75": _mean(everywhere[5]),
        "by_area": {area: _mean(precision[..., position]) for position, area in enumerate(AREAS) if area != "all"},
        "by_category": {
            name: {"ap": _mean(everywhere[:, :, position]), "ap50": _mean(everywhere[0, :, position])}
            for position, name in enumerate(categories)
        },
    }
