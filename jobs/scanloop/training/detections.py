"""The value that every detector returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanloop.errors import DataWrong


@dataclass(frozen=True)
class Detections:
    """What a detector found on one scan, best first. N is the number of boxes.

    Raises:
        DataWrong: shapes or types differ from the ones below, a number is not finite, a box has no area to the right and below,
            a score is outside [0, 1], or scores rise.
    """

    boxes_xyxy: np.ndarray
    """(N, 4) float32: left, top, right, bottom in pixels of the scan."""
    scores: np.ndarray
    """(N,) float32 in [0, 1], never rising."""
    category_ids: np.ndarray
    """(N,) int64: index into the categories of the model that found them."""

    def __post_init__(self) -> None:
        number = len(self.boxes_xyxy)
        for name, shape, dtype in (
            ("boxes_xyxy", (number, 4), np.float32),
            ("scores", (number,), np.float32),
            ("category_ids", (number,), np.int64),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise DataWrong(f"Detections.{name} must be {shape} {np.dtype(dtype)}, found {array.shape} {array.dtype}.")
            if not np.isfinite(array).all():
                raise DataWrong(f"Detections.{name} holds a value that is not finite.")
            array.setflags(write=False)
        if (self.boxes_xyxy[:, 2:] < self.boxes_xyxy[:, :2]).any():
            raise DataWrong("Detections.boxes_xyxy holds a box whose right or bottom edge lies before its left or top edge.")
        if ((self.scores < 0) | (self.scores > 1)).any():
            raise DataWrong("Detections.scores holds a score outside [0, 1].")
        if (np.diff(self.scores) > 0).any():
            raise DataWrong("Detections.scores must not rise.")
        if (self.category_ids < 0).any():
            raise DataWrong("Detections.category_ids holds a negative index.")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, boxes_xyxy: Any, scores: Any, category_ids: Any) -> Detections:
        """Make detections from anything array-like, sorted best first (ties keep their order)."""
        boxes = np.array(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
        values = np.array(scores, dtype=np.float32).reshape(-1)
        categories = np.array(category_ids, dtype=np.int64).reshape(-1)
        order = np.argsort(-values, kind="stable")
        return (
            cls(boxes[order], values[order], categories[order])
            if len(boxes) == len(values) == len(categories)
            else cls(boxes, values, categories)
        )

    @classmethod
    def none(cls) -> Detections:
        """A scan on which nothing was found."""
        return cls.of([], [], [])

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least `threshold`."""
        number = int((self.scores >= threshold).sum())
        return Detections(self.boxes_xyxy[:number].copy(), self.scores[:number].copy(), self.category_ids[:number].copy())

    def to_records(self, categories: Sequence[str]) -> list[dict[str, Any]]:
        """As plain values for JSON: `category`, `score`, `bbox_xywh` in pixels of the scan."""
        return [
            {"category": categories[category], "score": float(score), "bbox_xywh": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]}
            for (x1, y1, x2, y2), score, category in zip(self.boxes_xyxy, self.scores, self.category_ids, strict=True)
        ]
