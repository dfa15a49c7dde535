"""A bag's outcome from its views: a bag alarms for a category if any of its views has a detection at or above the category's threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanloop.evaluation.matching import overlaps
from scanloop.evaluation.reference import Bools, DetectionSet, Floats, ReferenceSet

LOCATED_IOU = 0.3
"""An alarm points at a threat if their boxes overlap at least this much: enough for a person to open the right corner of the bag."""


@dataclass(frozen=True)
class BagScores:
    """What a detector said about each bag, before any threshold."""

    bag_ids: tuple[str, ...]
    """Every bag of the split, sorted."""
    categories: tuple[str, ...]
    """Category ids, in label order."""
    carries: Bools
    """(B, K) whether the bag has a threat of the category in any view."""
    was_looked_for: Bools
    """(B, K) whether the category was looked for in every view."""
    best: Floats
    """(B, K) highest score of the category in any view; 0 where nothing was detected."""
    best_located: Floats
    """(B, K) the same over detections that overlap a threat of the category."""

    @property
    def is_clean(self) -> Bools:
        """(B,) bags without any threat in which every category was looked for. Only these count for Pfa."""
        return np.logical_and.reduce(self.was_looked_for, axis=1) & ~self.is_threat

    @property
    def is_threat(self) -> Bools:
        """(B,) bags with a threat of any judged category. Only these count for Pd."""
        return _any_category(self.carries)

    def at(self, thresholds: Floats) -> BagOutcomes:
        """The outcome of every bag at one threshold a category (K,)."""
        alarms = (self.best >= thresholds) & (self.best > 0)
        located = (self.best_located >= thresholds) & (self.best_located > 0)
        return BagOutcomes(
            alarms=alarms,
            is_alarmed=_any_category(alarms),
            is_detected=_any_category(alarms & self.carries),
            is_located=_any_category(located & self.carries),
        )

    def margins(self, thresholds: Floats) -> Floats:
        """(B,) how far each bag is from alarming: positive alarms, negative does not; over carried categories for a bag with a threat.

        In log odds, where moving every threshold by the same amount makes the family of operating points that the operating curve shows.
        """
        distance = log_odds(self.best) - log_odds(thresholds)
        relevant = self.carries | ~self.is_threat[:, None]
        return np.where(relevant, distance, -np.inf).max(axis=1)


@dataclass(frozen=True)
class BagOutcomes:
    """What happens to each bag at an operating point."""

    alarms: Bools
    """(B, K) whether the bag alarms for the category."""
    is_alarmed: Bools
    """(B,) whether it alarms at all."""
    is_detected: Bools
    """(B,) whether it alarms for a category that it carries."""
    is_located: Bools
    """(B,) whether such an alarm also points at the threat."""


def _any_category(cells: Bools) -> Bools:
    """(B, K) to (B,)."""
    return np.asarray(np.logical_or.reduce(cells, axis=1), dtype=bool)


def log_odds(scores: Floats) -> Floats:
    """ln(p / (1 - p)), kept finite at 0 and 1."""
    inside = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.log(inside / (1 - inside))


def bag_scores(reference: ReferenceSet, detections: DetectionSet) -> BagScores:
    """Gather the views of each bag."""
    judged = detections.judged_by(reference)
    shape = (len(reference.bag_ids), len(reference.categories))
    carries = np.zeros(shape, dtype=bool)
    carries[reference.bag_of_scan[reference.box_scan], reference.box_category] = True
    looked_for = np.ones(shape, dtype=bool)
    np.logical_and.at(looked_for, reference.bag_of_scan, reference.looked_for)
    best = np.zeros(shape)
    np.maximum.at(best, (reference.bag_of_scan[judged.scan], judged.category), judged.scores)
    best_located = np.zeros(shape)
    pointing, _, iou = overlaps(reference, judged)
    pointing = pointing[iou >= LOCATED_IOU]
    np.maximum.at(best_located, (reference.bag_of_scan[judged.scan[pointing]], judged.category[pointing]), judged.scores[pointing])
    return BagScores(reference.bag_ids, reference.categories, carries, looked_for, best, best_located)
