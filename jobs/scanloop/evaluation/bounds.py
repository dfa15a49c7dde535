"""Confidence bounds on rates, and on the difference of two rates measured on the same bags.

Every bound is one-sided at its `confidence`: "Pd is at least `lower`" and "Pd is at most `upper`" each hold with that confidence on their own,
which is how pass marks are stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

SEARCH_LIMIT_BAGS = 100_000
"""Beyond this many bags a forecast says no more than "too many"."""


@dataclass(frozen=True)
class Rate:
    """`count` of `total` bags, with exact bounds on the rate behind it."""

    count: int
    """Bags for which it happened."""
    total: int
    """Bags for which it could have happened."""
    lower: float
    """The rate is at least this, with `confidence`."""
    upper: float
    """The rate is at most this, with `confidence`."""
    confidence: float
    """Confidence of each bound on its own."""

    @property
    def rate(self) -> float | None:
        """`count / total`, or None when nothing was counted."""
        return self.count / self.total if self.total else None

    def as_json(self) -> dict[str, float | int | None]:
        """The fields and the rate, for a result file."""
        return {"count": self.count, "total": self.total, "rate": self.rate, "lower": self.lower, "upper": self.upper}


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two rates on the same bags: candidate minus champion."""

    total: int
    """Bags on which both were judged."""
    gained: int
    """Bags for which it happened with the candidate alone."""
    lost: int
    """Bags for which it happened with the champion alone."""
    lower: float
    """The difference is at least this, with `confidence`."""
    upper: float
    """The difference is at most this, with `confidence`."""
    confidence: float
    """Confidence of each bound on its own."""

    @property
    def difference(self) -> float | None:
        """`(gained - lost) / total`, or None when nothing was counted."""
        return (self.gained - self.lost) / self.total if self.total else None

    def as_json(self) -> dict[str, float | int | None]:
        """The fields and the difference, for a result file."""
        return {
            "total": self.total,
            "gained": self.gained,
            "lost": self.lost,
            "difference": self.difference,
            "lower": self.lower,
            "upper": self.upper,
        }


def clopper_pearson(count: int, total: int, confidence: float) -> Rate:
    """Exact binomial bounds; [0, 1] when `total` is 0.

    Source: Clopper and Pearson, Biometrika 26 (1934) 404-413, by the quantiles of the beta distribution.

    Raises:
        ValueError: `count` is not within 0..`total`.
    """
    from scipy.special import betaincinv

    if not 0 <= count <= total:
        raise ValueError(f"expected a count within 0..{total}, found {count}")
    lower = float(betaincinv(count, total - count + 1, 1 - confidence)) if count else 0.0
    upper = float(betaincinv(count + 1, total - count, confidence)) if count < total else 1.0
    return Rate(count, total, lower, upper, confidence)


def _score(delta: float, total: float, gained: float, lost: float) -> float:
    """Tango's score statistic for the hypothesis that the difference is `delta`; falls as `delta` rises."""
    a = 2 * total
    b = -gained - lost + (2 * total - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    lost_share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = total * (2 * lost_share + delta * (1 - delta))
    distance = gained - lost - total * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _lower_difference(total: float, gained: float, lost: float, z: float) -> float:
    return _root(lambda delta: _score(delta, total, gained, lost) - z, -1.0, (gained - lost) / total)


def paired_difference(total: int, gained: int, lost: int, confidence: float) -> PairedDifference:
    """Score bounds on a paired difference; [-1, 1] when `total` is 0.

    Unlike a bootstrap, the bounds stay honest when no bag differs: with 0 gained and 0 lost of n, the lower one is -z^2 / (n + z^2).

    Source: Tango, Statistics in Medicine 17 (1998) 891-908, equations 8 to 10.

    Raises:
        ValueError: more bags differ than there are.
    """
    if min(total, gained, lost) < 0 or gained + lost > total:
        raise ValueError(f"expected gained + lost within 0..{total}, found {gained} + {lost}")
    if total == 0:
        return PairedDifference(0, 0, 0, -1.0, 1.0, confidence)
    z = NormalDist().inv_cdf(confidence)
    lower, upper = _lower_difference(total, gained, lost, z), -_lower_difference(total, lost, gained, z)
    return PairedDifference(total, gained, lost, lower, upper, confidence)


def bags_to_settle(observed: PairedDifference, margin: float) -> int | None:
    """How many bags in all would settle whether the difference is above `-margin`, if the rates stay as observed.

    None: more than `SEARCH_LIMIT_BAGS`, because the observed difference lies too near the margin.
    """
    z = NormalDist().inv_cdf(observed.confidence)
    gained_share, lost_share = (observed.gained / observed.total, observed.lost / observed.total) if observed.total else (0.0, 0.0)

    def is_settled(total: int) -> bool:
        gained, lost = gained_share * total, lost_share * total
        return _lower_difference(total, gained, lost, z) >= -margin or -_lower_difference(total, lost, gained, z) < -margin

    high = max(1, observed.total)
    while not is_settled(high):
        high *= 2
        if high > SEARCH_LIMIT_BAGS:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_settled(middle) else (middle, high)
    return high
