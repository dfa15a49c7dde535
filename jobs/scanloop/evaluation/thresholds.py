"""The operating point: one threshold a category, chosen on the val split so that the chance of a clean bag to alarm meets the target.

With k of n clean bags allowed to alarm, a bag not seen before alarms with a probability of at most (k + 1) / (n + 1); k is the largest number
that keeps this at the target. Source: Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", chapter 2 (conformal prediction).

Every category gets the same share of false alarms, as large as the union of all categories allows; a detector that is good at one category
and poor at another is then not drowned by the poor one. On a split so small that this leaves half of the target unused, the rest goes to the
categories that find most with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scanloop.evaluation.outcomes import BagScores
from scanloop.evaluation.reference import Floats

LOWEST_THRESHOLD = 0.05
"""No threshold below this: such scores are what a detector gives to anything."""
NEVER = 1.0
"""A threshold that no score reaches: scores are sigmoids."""


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds with what they were chosen by."""

    categories: tuple[str, ...]
    """Category ids, in label order."""
    thresholds: tuple[float, ...]
    """A bag alarms for the category at or above this score."""
    target_pfa: float
    """Share of clean bags that may alarm."""
    clean_bags: int
    """Clean bags of the val split."""
    false_alarms: int
    """How many of them alarm at the chosen thresholds."""

    @property
    def as_array(self) -> Floats:
        """(K,) thresholds."""
        return np.array(self.thresholds, dtype=np.float64)

    def as_json(self) -> dict[str, object]:
        """For a result file and for the release that carries the model."""
        return {
            "split": "val",
            "target_pfa": self.target_pfa,
            "clean_bags": self.clean_bags,
            "false_alarms": self.false_alarms,
            "thresholds": dict(zip(self.categories, self.thresholds, strict=True)),
        }


def chance_of_alarms(point: OperatingPoint, alarms: int, bags: int) -> float:
    """Chance that at least `alarms` of `bags` clean bags not seen before alarm, by the luck of the val split and of these bags alone.

    Source: the number of new observations beyond an order statistic is beta-binomial (Wilks, Annals of Mathematical Statistics 13 (1942) 400-409).
    """
    from scipy.special import betaln

    a, b = point.false_alarms + 1, point.clean_bags - point.false_alarms
    counts = np.arange(alarms, bags + 1)
    if b == 0:
        return 1.0
    log_ways = -np.log1p(bags) - betaln(bags - counts + 1, counts + 1)
    return min(1.0, float(np.exp(log_ways + betaln(counts + a, bags - counts + b) - betaln(a, b)).sum()))


def _threshold(clean: Floats, others: Floats, allowed: int) -> float:
    """The threshold that lets `allowed` of the `clean` best scores of one category alarm: halfway to the next score above that any bag has."""
    refused = np.sort(clean)[::-1][allowed] if allowed < len(clean) else 0.0
    above = np.concatenate([clean, others])
    above = above[above > refused]
    middle = (refused + above.min()) / 2 if above.size else (refused + 1) / 2
    return max(LOWEST_THRESHOLD, float(middle if middle > refused else np.nextafter(refused, 1.0)))


def choose_operating_point(bags: BagScores, target_pfa: float) -> OperatingPoint:
    """Choose thresholds on the bags of the val split. Without a clean bag to choose by, nothing alarms, and the gate says so."""
    is_clean = bags.is_clean
    clean, others = bags.best[is_clean], bags.best[bags.is_threat]
    if not len(clean):
        return OperatingPoint(bags.categories, (NEVER,) * len(bags.categories), target_pfa, 0, 0)
    budget = max(0, math.floor(target_pfa * (len(clean) + 1) + 1e-9) - 1)
    kinds = range(clean.shape[1])

    def at(allowed: tuple[int, ...]) -> tuple[Floats, int, int]:
        """Thresholds that let so many clean bags alarm for each category; clean bags that alarm at all, and threats that are found."""
        thresholds = np.array([_threshold(clean[:, k], others[:, k], allowed[k]) for k in kinds])
        found = bags.at(thresholds)
        return thresholds, int(found.is_alarmed[is_clean].sum()), int((found.alarms & bags.carries).sum())

    allowed = tuple(0 for _ in kinds)
    best = at(allowed)
    while (more := at(tuple(count + 1 for count in allowed)))[1] <= budget and allowed[0] < budget:
        allowed, best = tuple(count + 1 for count in allowed), more
    while best[1] < budget / 2:
        tried = {k: at(tuple(count + (place == k) for place, count in enumerate(allowed))) for k in kinds}
        useful = [k for k in kinds if tried[k][1] <= budget and tried[k][2] > best[2]]
        if not useful:
            break
        chosen = max(useful, key=lambda k: (tried[k][2], -k))
        allowed, best = tuple(count + (place == chosen) for place, count in enumerate(allowed)), tried[chosen]
    return OperatingPoint(bags.categories, tuple(best[0].tolist()), target_pfa, len(clean), best[1])
