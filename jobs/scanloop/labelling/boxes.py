"""A box that says where a threat is, as people draw it and detectors learn it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class Box:
    """One threat in one view."""

    category: str
    """Id of its category in the taxonomy."""
    bbox_xywh: tuple[float, float, float, float]
    """Left, top, width, height in px of the planes, origin at the top left corner."""

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in px."""
        x, y, width, height = self.bbox_xywh
        return (x, y, x + width, y + height)

    def as_json(self) -> dict[str, Any]:
        """The form that the catalog keeps."""
        return {"category": self.category, "bbox_xywh": list(self.bbox_xywh)}


def box_from_json(content: Mapping[str, Any]) -> Box:
    """Read what `Box.as_json` wrote."""
    x, y, width, height = (float(value) for value in content["bbox_xywh"])
    return Box(str(content["category"]), (x, y, width, height))


def boxes_from_json(content: Iterable[Mapping[str, Any]]) -> tuple[Box, ...]:
    """Read a catalog column of boxes."""
    return tuple(box_from_json(box) for box in content)


def iou_matrix(boxes_a: Iterable[Box], boxes_b: Iterable[Box]) -> NDArray[np.float64]:
    """Intersection over union of every box of one list with every box of the other, shape (len(a), len(b)); categories play no part."""
    a = np.array([box.xyxy for box in boxes_a], dtype=np.float64).reshape(-1, 4)
    b = np.array([box.xyxy for box in boxes_b], dtype=np.float64).reshape(-1, 4)
    overlap = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]), 0, None)
    intersection = overlap[..., 0] * overlap[..., 1]
    area_a, area_b = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b))
    union = area_a[:, None] + area_b[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
