"""Candidate and champion on the same bags of one frozen test split, as numbers. What they mean is the gate's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanloop.evaluation.bounds import PairedDifference, Rate, clopper_pearson, paired_difference
from scanloop.evaluation.matching import Matches, average_precision, match, mean_over_categories
from scanloop.evaluation.outcomes import BagOutcomes, BagScores, bag_scores
from scanloop.evaluation.reference import Bools, DetectionSet, Floats, ReferenceSet
from scanloop.evaluation.thresholds import OperatingPoint, chance_of_alarms
from scanloop.promotion.bootstrap import REPLICATES, Interval, draw_weights, interval, weighted_rate
from scanloop.promotion.policy import rejecting_confidence

AP50_ONLY = np.array([0])


@dataclass(frozen=True)
class Side:
    """One model as it stands before the gate."""

    model_id: str
    """The model."""
    detections: DetectionSet
    """What it says about the test split."""
    point: OperatingPoint
    """Its thresholds, chosen on the val split for the policy's target Pfa."""


@dataclass(frozen=True)
class Measured:
    """The numbers of one model on the test split."""

    model_id: str
    """The model."""
    ap: float | None
    """COCO AP; None without a judged box."""
    ap50: float | None
    """COCO AP at IoU 0.5."""
    pd: Rate
    """Bags with a threat that alarm for it."""
    pfa: Rate
    """Clean bags that alarm."""
    pfa_chance: float
    """Chance of at least that many alarms, had the val split promised no more than it shows."""
    val_clean_bags: int
    """Clean bags of the val split that its thresholds were chosen by."""

    def as_json(self) -> dict[str, Any]:
        """The fields, for the evidence."""
        rates = {"pd": self.pd.as_json(), "pfa": {**self.pfa.as_json(), "chance": self.pfa_chance}}
        return {"model_id": self.model_id, "ap": self.ap, "ap50": self.ap50, **rates}


@dataclass(frozen=True)
class Paired:
    """Candidate minus champion."""

    pd: PairedDifference
    """Pd, by score bounds."""
    pfa: PairedDifference
    """Pfa, by score bounds."""
    pd_resampled: Interval
    """Pd, by the bootstrap."""
    pfa_resampled: Interval
    """Pfa, by the bootstrap."""
    ap50: Interval
    """AP50, by the bootstrap."""
    ap: Interval
    """AP, by the bootstrap."""
    slices: Mapping[str, PairedDifference]
    """Pd on every protected slice, `category knife` or `scanner Acme X1`, at a confidence that allows for their number."""
    lost_bags: tuple[str, ...]
    """Bags with a threat that the champion finds and the candidate misses."""
    gained_bags: tuple[str, ...]
    """Bags with a threat that only the candidate finds."""
    new_false_alarms: tuple[str, ...]
    """Clean bags that alarm with the candidate alone."""
    cured_false_alarms: tuple[str, ...]
    """Clean bags that alarm with the champion alone."""

    @property
    def pd_bounds(self) -> tuple[float, float]:
        """The wider of both methods on either side: resampling sees correlations, score bounds stay honest where few bags differ."""
        lower, upper = self.pd_resampled.lower, self.pd_resampled.upper
        if lower is None or upper is None:
            return self.pd.lower, self.pd.upper
        return min(self.pd.lower, lower), max(self.pd.upper, upper)

    def as_json(self) -> dict[str, Any]:
        """The fields, for the evidence."""
        return {
            "pd": {**self.pd.as_json(), "resampled": self.pd_resampled.as_json()},
            "pfa": {**self.pfa.as_json(), "resampled": self.pfa_resampled.as_json()},
            "ap50": self.ap50.as_json(),
            "ap": self.ap.as_json(),
            "slices": {
                name: {**difference.as_json(), "confidence": difference.confidence} for name, difference in sorted(self.slices.items())
            },
            "bags": {name: list(getattr(self, name)) for name in ("lost_bags", "gained_bags", "new_false_alarms", "cured_false_alarms")},
        }


@dataclass(frozen=True)
class Comparison:
    """What was measured."""

    bags: int
    """Bags of the test split."""
    threat_bags: int
    """Those with a threat."""
    clean_bags: int
    """Those without any, where everything was looked for."""
    confidence: float
    """Confidence of each bound on its own."""
    candidate: Measured
    """The model that wants the place."""
    champion: Measured | None = None
    """The model that has it; None for a first champion."""
    paired: Paired | None = None
    """Their difference; None for a first champion."""
    resampling: dict[str, int] = field(default_factory=dict)
    """Replicates and seed of the bootstrap."""

    def as_json(self) -> dict[str, Any]:
        """The fields, for the evidence."""
        return {
            "counts": {"bags": self.bags, "threat_bags": self.threat_bags, "clean_bags": self.clean_bags},
            "confidence": self.confidence,
            "candidate": self.candidate.as_json(),
            "champion": self.champion.as_json() if self.champion else None,
            "difference": self.paired.as_json() if self.paired else None,
            "resampling": self.resampling,
        }


@dataclass(frozen=True)
class _Scored:
    """One side with everything that is computed once."""

    matches: Matches
    bags: BagScores
    outcomes: BagOutcomes
    measured: Measured


def _score(reference: ReferenceSet, side: Side, confidence: float) -> _Scored:
    matches = match(reference, side.detections)
    bags = bag_scores(reference, side.detections)
    outcomes = bags.at(side.point.as_array)
    precision = average_precision(matches)
    threat, clean = bags.is_threat, bags.is_clean
    alarmed = int((outcomes.is_alarmed & clean).sum())
    measured = Measured(
        side.model_id,
        ap=_number(mean_over_categories(precision)[0]),
        ap50=_number(mean_over_categories(precision[..., :1])[0]),
        pd=clopper_pearson(int((outcomes.is_detected & threat).sum()), int(threat.sum()), confidence),
        pfa=clopper_pearson(alarmed, int(clean.sum()), confidence),
        pfa_chance=chance_of_alarms(side.point, alarmed, int(clean.sum())),
        val_clean_bags=side.point.clean_bags,
    )
    return _Scored(matches, bags, outcomes, measured)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _difference(new: Bools, old: Bools, among: Bools, confidence: float) -> PairedDifference:
    gained, lost = int((new & ~old & among).sum()), int((old & ~new & among).sum())
    return paired_difference(int(among.sum()), gained, lost, confidence)


def _slices(reference: ReferenceSet, candidate: _Scored, champion: _Scored, confidence: float) -> dict[str, PairedDifference]:
    masks: dict[str, tuple[Bools, Bools, Bools]] = {}
    for position, name in enumerate(reference.categories):
        alarms = (candidate.outcomes.alarms[:, position], champion.outcomes.alarms[:, position])
        masks[f"category {name}"] = (*alarms, candidate.bags.carries[:, position])
    detected = (candidate.outcomes.is_detected, champion.outcomes.is_detected)
    for scanner_model in reference.scanner_models:
        is_of_model = np.zeros(len(reference.bag_ids), dtype=bool)
        is_of_model[[reference.bag_of_scan[p] for p, scan in enumerate(reference.scans) if scan.scanner_model == scanner_model]] = True
        masks[f"scanner {scanner_model}"] = (*detected, candidate.bags.is_threat & is_of_model)
    judged = {name: mask for name, mask in masks.items() if mask[2].any()}
    shared = 1 - (1 - rejecting_confidence(confidence)) / max(1, len(judged))
    return {name: _difference(new, old, among, shared) for name, (new, old, among) in judged.items()}


def _resampled(candidate: _Scored, champion: _Scored, weights: Floats, confidence: float) -> dict[str, Interval]:
    threat, clean = candidate.bags.is_threat, candidate.bags.is_clean
    new, old = candidate.measured, champion.measured
    precision = [average_precision(side.matches, weights) for side in (candidate, champion)]
    ap = [mean_over_categories(values) for values in precision]
    ap50 = [mean_over_categories(values[..., AP50_ONLY]) for values in precision]
    pd = [weighted_rate(side.outcomes.is_detected[threat], weights[:, threat]) for side in (candidate, champion)]
    pfa = [weighted_rate(side.outcomes.is_alarmed[clean], weights[:, clean]) for side in (candidate, champion)]
    asked = (confidence, rejecting_confidence(confidence))
    return {
        "ap": interval(_nan(new.ap) - _nan(old.ap), ap[0] - ap[1], *asked),
        "ap50": interval(_nan(new.ap50) - _nan(old.ap50), ap50[0] - ap50[1], *asked),
        "pd_resampled": interval(_nan(new.pd.rate) - _nan(old.pd.rate), pd[0] - pd[1], *asked),
        "pfa_resampled": interval(_nan(new.pfa.rate) - _nan(old.pfa.rate), pfa[0] - pfa[1], *asked),
    }


def compare(
    reference: ReferenceSet, candidate: Side, champion: Side | None, *, confidence: float, seed: int, replicates: int = REPLICATES
) -> Comparison:
    """Measure both models on the same bags.

    Args:
        reference: the test split.
        candidate: the model that wants the place.
        champion: the model that has it; None for a first champion.
        confidence: of each bound on its own.
        seed: of the bootstrap.
        replicates: of the bootstrap.
    """
    new = _score(reference, candidate, confidence)
    threat, clean = new.bags.is_threat, new.bags.is_clean
    counts = (len(reference.bag_ids), int(threat.sum()), int(clean.sum()))
    if champion is None:
        return Comparison(*counts, confidence, new.measured)
    old = _score(reference, champion, confidence)
    weights = draw_weights((threat, clean, ~threat & ~clean), replicates, seed)

    def named(mask: Bools) -> tuple[str, ...]:
        return tuple(reference.bag_ids[bag] for bag in np.flatnonzero(mask))

    detected, alarmed = (new.outcomes.is_detected, old.outcomes.is_detected), (new.outcomes.is_alarmed, old.outcomes.is_alarmed)
    paired = Paired(
        pd=_difference(*detected, threat, confidence),
        pfa=_difference(*alarmed, clean, confidence),
        **_resampled(new, old, weights, confidence),
        slices=_slices(reference, new, old, confidence),
        lost_bags=named(detected[1] & ~detected[0] & threat),
        gained_bags=named(detected[0] & ~detected[1] & threat),
        new_false_alarms=named(alarmed[0] & ~alarmed[1] & clean),
        cured_false_alarms=named(alarmed[1] & ~alarmed[0] & clean),
    )
    return Comparison(*counts, confidence, new.measured, old.measured, paired, {"replicates": replicates, "seed": seed})
