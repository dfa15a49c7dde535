"""Paired resampling of bags: both models see the same replicate, so what is common to them cancels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanloop.evaluation.reference import Bools, Floats

REPLICATES = 1000
"""Replicates of a decision."""


@dataclass(frozen=True)
class Interval:
    """A number measured on all bags, with percentile bounds from the replicates."""

    value: float | None
    """On every bag once; None where it could not be judged."""
    lower: float | None
    """At least this, with the confidence asked for."""
    upper: float | None
    """At most this, with the confidence asked for."""
    ceiling: float | None
    """At most this, with the higher confidence that a rejection asks for."""

    def as_json(self) -> dict[str, float | None]:
        """The fields, for a result file."""
        return {"value": self.value, "lower": self.lower, "upper": self.upper, "ceiling": self.ceiling}


def draw_weights(strata: tuple[Bools, ...], replicates: int, seed: int) -> Floats:
    """How often each bag counts in each replicate, (R, B): a draw with replacement within each stratum.

    Bags with and without threats are drawn apart, so that every replicate has as many of each as the split.

    Args:
        strata: masks (B,) that share no bag; a bag in none has weight 0.
        replicates: R.
        seed: of the draw; the same seed gives the same weights.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((replicates, len(strata[0])))
    for stratum in strata:
        members = np.flatnonzero(stratum)
        if len(members):
            weights[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=replicates)
    return weights


def weighted_rate(happened: Bools, weights: Floats) -> Floats:
    """Share of the weight on bags for which it happened, (R,); NaN for a replicate without weight."""
    total = weights.sum(axis=1)
    return np.divide(weights @ happened, total, out=np.full(len(weights), np.nan), where=total > 0)


def interval(value: float, replicates: Floats, confidence: float, rejecting: float) -> Interval:
    """Percentile bounds, each one-sided at `confidence`, the ceiling at `rejecting`. Replicates that could not be judged (NaN) are left out."""
    judged = replicates[~np.isnan(replicates)]
    if np.isnan(value) or not len(judged):
        return Interval(None, None, None, None)
    lower, upper, ceiling = np.quantile(judged, [1 - confidence, confidence, rejecting])
    return Interval(float(value), float(lower), float(upper), float(ceiling))
