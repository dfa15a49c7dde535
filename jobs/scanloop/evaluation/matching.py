"""Detections matched to reference boxes once, and average precision under any weights of the bags.

Matching does not depend on how often a bag is counted, so a bootstrap replicate only repeats sums. At weight 1 the numbers are those of the COCO
evaluation (bounding boxes, all areas, 100 detections a scan and category); at whole weights they are what COCO would say if every
scan of a bag were there that many times.

Source: cocoeval.py of pycocotools, `evaluateImg` and `accumulate`; its order of operations is kept, so that thresholds fall the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scanloop.evaluation.reference import Bools, DetectionSet, Floats, Ints, ReferenceSet

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""COCO's ten; the first is that of AP50."""
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
"""Where COCO reads the precision."""
MAX_DETECTIONS = 100
"""Detections judged for one scan and category."""
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True)
class CategoryMatches:
    """The judged detections of one category, the highest score first."""

    scores: Floats
    """(D,) scores, falling; equal scores in scan order."""
    bag: Ints
    """(D,) position of the bag."""
    is_hit: Bools
    """(T, D) whether the detection takes a box at each IoU threshold."""
    boxes_in_bag: Ints
    """(B,) boxes of the category in each bag."""


@dataclass(frozen=True)
class Matches:
    """A split's detections, matched."""

    categories: tuple[CategoryMatches, ...]
    """One entry a category."""
    bag_count: int
    """Bags in the split."""


def iou_pairs(first_xywh: Floats, second_xywh: Floats) -> Floats:
    """Intersection over union of row i of `first_xywh` (P, 4) and row i of `second_xywh` (P, 4)."""
    dx, dy, dw, dh = first_xywh.T
    gx, gy, gw, gh = second_xywh.T
    width = np.minimum(dw + dx, gw + gx) - np.maximum(dx, gx)
    height = np.minimum(dh + dy, gh + gy) - np.maximum(dy, gy)
    inside = np.where((width > 0) & (height > 0), width * height, 0.0)
    union = dw * dh + gw * gh - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def _within_group(groups: Ints) -> Ints:
    """Position of each row within its run of equal values: [7, 7, 9] becomes [0, 1, 0]."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(groups)])
    return np.arange(len(groups)) - np.repeat(starts, lengths)


def overlaps(reference: ReferenceSet, detections: DetectionSet) -> tuple[Ints, Ints, Floats]:
    """Every pair of a detection and a box of the same scan and category.

    Returns:
        detection positions, box positions and IoU, (P,) each, ordered by detection, then by box.
    """
    kinds = len(reference.categories)
    box_cell = reference.box_scan * kinds + reference.box_category
    by_cell = np.argsort(box_cell, kind="stable")
    sorted_cells = box_cell[by_cell]
    cell = detections.scan * kinds + detections.category
    first, last = np.searchsorted(sorted_cells, cell, "left"), np.searchsorted(sorted_cells, cell, "right")
    counts = last - first
    detection = np.repeat(np.arange(len(cell)), counts)
    box = by_cell[np.repeat(first, counts) + _within_group(detection)] if len(detection) else np.zeros(0, dtype=np.int64)
    return detection, box, iou_pairs(detections.boxes_xywh[detection], reference.boxes_xywh[box])


def _hits(detection: Ints, box: Ints, iou: Floats, detection_count: int, box_count: int) -> Bools:
    """Give each box to the best detection that wants it, in the order of `detection`, at every threshold. Returns (T, N)."""
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    hit = np.zeros((len(thresholds), detection_count), dtype=bool)
    is_taken = np.zeros((len(thresholds), box_count), dtype=bool)
    near = iou >= thresholds[0]
    detection, box, iou = detection[near], box[near], iou[near]
    bounds = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1], True]) if len(detection) else np.zeros(1, dtype=np.int64)
    for start, end in pairwise(bounds):
        wanted, quality = box[start:end], iou[start:end]
        usable = np.where(~is_taken[:, wanted] & (quality >= thresholds[:, None]), quality, -1.0)
        best = usable.shape[1] - 1 - np.argmax(usable[:, ::-1], axis=1)
        found = np.flatnonzero(usable[np.arange(len(best)), best] >= 0)
        hit[found, detection[start]] = True
        is_taken[found, wanted[best[found]]] = True
    return hit


def match(reference: ReferenceSet, detections: DetectionSet) -> Matches:
    """Match the detections of `detections` to the boxes of `reference`, category by category."""
    judged = detections.judged_by(reference)
    kinds = len(reference.categories)
    cell = judged.scan * kinds + judged.category
    by_cell = np.lexsort((np.arange(len(cell)), -judged.scores, cell))
    rank = np.empty(len(cell), dtype=np.int64)
    rank[by_cell] = _within_group(cell[by_cell])
    judged = judged.where(rank < MAX_DETECTIONS)
    detection, box, iou = overlaps(reference, judged)
    hit = _hits(detection, box, iou, len(judged.scan), len(reference.box_scan))
    bag_count = len(reference.bag_ids)
    tables = []
    for category in range(kinds):
        rows = np.flatnonzero(judged.category == category)
        rows = rows[np.argsort(-judged.scores[rows], kind="stable")]
        boxes = reference.box_scan[reference.box_category == category]
        boxes_in_bag = np.bincount(reference.bag_of_scan[boxes], minlength=bag_count)
        tables.append(CategoryMatches(judged.scores[rows], reference.bag_of_scan[judged.scan[rows]], hit[:, rows], boxes_in_bag))
    return Matches(tuple(tables), bag_count)


def _read_precision(hits: Floats, seen: Floats, boxes: Floats) -> Floats:
    """(R, 101) precision at COCO's recall points from weighted counts (R, H) at each hit, and the boxes (R,) there are."""
    replicates, hit_count = hits.shape
    if hit_count == 0:
        return np.zeros((replicates, len(RECALL_POINTS)))
    precision = hits / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Every row's cumulative hits lie within 0..boxes, so rows set apart by more than that are one sorted array, searched once; all are whole.
    apart = (np.arange(replicates) * (boxes.max() + 2))[:, None]
    reached = np.searchsorted((hits + apart).ravel(), _hits_needed(boxes) + apart, side="left") - np.arange(replicates)[:, None] * hit_count
    inside = reached < hit_count
    return np.where(inside, np.take_along_axis(envelope, np.minimum(reached, hit_count - 1), axis=1), 0.0)


def _hits_needed(boxes: Floats) -> Floats:
    """(R, 101) the fewest hits of `boxes` (R,) that reach each recall point, by the same division as COCO's."""
    total = boxes[:, None]
    needed = np.maximum(0.0, np.floor(RECALL_POINTS * total) - 1)
    while (short := needed / total < RECALL_POINTS).any():
        needed += short
    return needed


def precision_curves(table: CategoryMatches, weights: Floats, thresholds: Ints) -> Floats:
    """Precision at each recall point of one category, NaN where the weighted split has no box of it.

    Args:
        table: the matches.
        weights: (R, B) how often each bag counts, one row a replicate.
        thresholds: (T,) positions in `IOU_THRESHOLDS`.

    Returns:
        (R, T, 101).
    """
    boxes = weights @ table.boxes_in_bag.astype(np.float64)
    curves = np.full((len(weights), len(thresholds), len(RECALL_POINTS)), np.nan)
    has_boxes = boxes > 0
    places = [np.flatnonzero(table.is_hit[threshold]) for threshold in thresholds]
    chunk = max(1, _CHUNK_CELLS // max(1, len(table.scores)))
    rows = np.flatnonzero(has_boxes)
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        weight = weights[part][:, table.bag]
        seen = np.cumsum(weight, axis=1)
        for position, place in enumerate(places):
            curves[part, position] = _read_precision(np.cumsum(weight[:, place], axis=1), seen[:, place], boxes[part])
    return curves


def average_precision(matches: Matches, weights: Floats | None = None, *, thresholds: Ints | None = None) -> Floats:
    """Average precision of every category at every threshold, NaN for a category without boxes.

    Args:
        matches: the matched split.
        weights: (R, B) how often each bag counts, whole numbers; None: once each.
        thresholds: positions in `IOU_THRESHOLDS`; None: all ten.

    Returns:
        (R, K, T). COCO's AP is the mean of what is not NaN over the last two axes.

    Raises:
        ValueError: a weight is negative or not whole.
    """
    counted = np.ones((1, matches.bag_count)) if weights is None else np.asarray(weights, dtype=np.float64)
    if (counted < 0).any() or (counted != np.floor(counted)).any():
        raise ValueError("expected whole weights, 0 or more")
    chosen = np.arange(len(IOU_THRESHOLDS)) if thresholds is None else thresholds
    values = [precision_curves(table, counted, chosen).mean(axis=2) for table in matches.categories]
    return np.stack(values, axis=1)


def mean_over_categories(values: Floats) -> Floats:
    """Mean of (R, K, T) over categories and thresholds, leaving out categories without boxes; NaN where none has any. Returns (R,)."""
    present = ~np.isnan(values)
    counts = present.sum(axis=(1, 2))
    sums = np.where(present, values, 0.0).sum(axis=(1, 2))
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
