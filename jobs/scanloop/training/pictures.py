"""Sample pictures: what a detector found, beside what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from scanloop.training.detections import Detections

TRUTH_RGB = (0, 160, 60)
FOUND_RGB = (220, 30, 60)


def detection_picture(
    planes: Mapping[str, np.ndarray],
    truth: Sequence[tuple[str, Sequence[float]]],
    found: Detections,
    categories: Sequence[str],
    *,
    threshold: float,
) -> np.ndarray:
    """Draw one scan as people see it: (H, W, 3) uint8 RGB.

    `truth` are (category, bbox_xywh), drawn green and thin; detections of at least `threshold` are red with category and score.
    """
    from scanloop.scans.views import as_seen

    seen = as_seen(planes)
    picture = np.ascontiguousarray(seen) if seen.ndim == 3 else cv2.cvtColor(seen, cv2.COLOR_GRAY2RGB)
    for _, (x, y, width, height) in truth:
        cv2.rectangle(picture, (round(x), round(y)), (round(x + width), round(y + height)), TRUTH_RGB, 1, cv2.LINE_AA)
    shown = found.above(threshold)
    for (x1, y1, x2, y2), score, category in zip(shown.boxes_xyxy, shown.scores, shown.category_ids, strict=True):
        left, top = round(float(x1)), round(float(y1))
        cv2.rectangle(picture, (left, top), (round(float(x2)), round(float(y2))), FOUND_RGB, 2, cv2.LINE_AA)
        name = f"{categories[category]} {score:.2f}"
        place = (max(left, 2), top - 4 if top > 14 else round(float(y2)) + 12)
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, FOUND_RGB, 1, cv2.LINE_AA)
    return picture
