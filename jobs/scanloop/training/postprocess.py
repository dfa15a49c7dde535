"""From the raw outputs of an RTMDet head to detections, in NumPy: what the exported network leaves out.

Does what `RTMDetSepBNHead.predict_by_feat` of mmdet 3.5 does, on devices that have no torch; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scanloop.errors import DataWrong
from scanloop.training.detections import Detections
from scanloop.training.preprocess import Letterbox

STRIDES_PX = (8, 16, 32)
"""Input pixels between neighbouring priors, per output level of an RTMDet."""


@dataclass(frozen=True)
class PostprocessRules:
    """What is kept of the raw outputs."""

    score_threshold: float = 0.005
    """Candidates at or below this score are dropped."""
    candidates_per_level: int = 1000
    """Best candidates of one level that go on."""
    iou_threshold: float = 0.6
    """A box that overlaps a better one of its category by more than this is dropped."""
    max_detections: int = 100
    """Boxes kept on one scan."""

    def to_config(self) -> dict[str, Any]:
        """As JSON for a bundle; `PostprocessRules(**config)` is the way back."""
        return asdict(self)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Logistic function in float32, without overflow."""
    return np.float32(0.5) * (np.float32(1) + np.tanh(np.float32(0.5) * values.astype(np.float32)))


def decode_boxes(distances: np.ndarray, stride_px: int) -> np.ndarray:
    """(4, H, W) distances of each prior to left, top, right and bottom, in input pixels, to (H * W, 4) boxes_xyxy.

    The prior of cell (row, column) is the point (column * stride, row * stride): offset 0, as RTMDet has it.
    """
    _, height, width = distances.shape
    y, x = np.meshgrid(np.arange(height, dtype=np.float32) * stride_px, np.arange(width, dtype=np.float32) * stride_px, indexing="ij")
    left, top, right, bottom = distances.astype(np.float32)
    return np.stack([x - left, y - top, x + right, y + bottom], axis=-1).reshape(-1, 4)


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, category_ids: np.ndarray, iou_threshold: float, max_detections: int) -> np.ndarray:
    """Greedy non-maximum suppression inside each category. Returns the indices kept, best first, at most `max_detections`."""
    order = np.argsort(-scores, kind="stable")
    boxes, categories = boxes_xyxy[order], category_ids[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for index in range(len(order)):
        if not alive[index]:
            continue
        kept.append(index)
        if len(kept) == max_detections:
            break
        corner = np.maximum(boxes[index, :2], boxes[:, :2])
        extent = np.maximum(np.minimum(boxes[index, 2:], boxes[:, 2:]) - corner, 0)
        overlap = extent[:, 0] * extent[:, 1]
        union = np.maximum(areas[index] + areas - overlap, np.finfo(np.float32).tiny)
        alive &= (overlap <= iou_threshold * union) | (categories != categories[index])
    return order[kept]


def postprocess(
    class_logits: Sequence[np.ndarray], distances: Sequence[np.ndarray], size_px: int, letterbox: Letterbox, rules: PostprocessRules
) -> Detections:
    """Decode the outputs for one scan.

    `class_logits`: per level (C, H, W) before the sigmoid. `distances`: per level (4, H, W) in input pixels. Both in the order of
    `STRIDES_PX`. Boxes come back in pixels of the scan.

    Raises:
        DataWrong: the number of levels or a shape does not fit an input of `size_px`.
    """
    boxes, scores, categories = [], [], []
    if not len(class_logits) == len(distances) == len(STRIDES_PX):
        raise DataWrong(f"Expected outputs on {len(STRIDES_PX)} levels, found {len(class_logits)} and {len(distances)}.")
    for logits, level_distances, stride_px in zip(class_logits, distances, STRIDES_PX, strict=True):
        cells = size_px // stride_px
        if logits.shape[1:] != (cells, cells) or level_distances.shape != (4, cells, cells):
            raise DataWrong(f"Expected {cells} × {cells} cells at stride {stride_px}, found {logits.shape} and {level_distances.shape}.")
        level_scores = sigmoid(logits).reshape(logits.shape[0], -1).T
        prior, category = np.nonzero(level_scores > rules.score_threshold)
        values = level_scores[prior, category]
        best = np.argsort(-values, kind="stable")[: rules.candidates_per_level]
        boxes.append(decode_boxes(level_distances, stride_px)[prior[best]])
        scores.append(values[best])
        categories.append(category[best].astype(np.int64))
    width, height = letterbox.input_width_px, letterbox.input_height_px
    all_boxes = np.clip(np.concatenate(boxes), 0, np.array([width, height, width, height], dtype=np.float32))
    all_scores, all_categories = np.concatenate(scores), np.concatenate(categories)
    solid = (all_boxes[:, 2:] > all_boxes[:, :2]).all(axis=1)
    all_boxes, all_scores, all_categories = all_boxes[solid], all_scores[solid], all_categories[solid]
    kept = suppress(all_boxes, all_scores, all_categories, rules.iou_threshold, rules.max_detections)
    return Detections.of(letterbox.to_scan(all_boxes[kept]), all_scores[kept], all_categories[kept])
