"""The numbers of one evaluation: AP, Pd and Pfa with bounds, by category and by scanner model, and the curves behind them."""

from __future__ import annotations

from typing import Any

import numpy as np

from scanloop.evaluation.bounds import Rate, clopper_pearson
from scanloop.evaluation.coco import coco_numbers, precision_table
from scanloop.evaluation.matching import RECALL_POINTS, average_precision, match, mean_over_categories
from scanloop.evaluation.outcomes import BagOutcomes, BagScores, bag_scores
from scanloop.evaluation.reference import Bools, DetectionSet, Floats, ReferenceSet
from scanloop.evaluation.thresholds import OperatingPoint

CURVE_POINTS = 200
"""Points kept of an operating curve."""
WORST_BAGS = 12
"""Bags listed as the worst misses and as the worst false alarms."""


def _rate(happened: Bools, among: Bools, confidence: float) -> Rate:
    return clopper_pearson(int((happened & among).sum()), int(among.sum()), confidence)


def _bag_rates(bags: BagScores, outcomes: BagOutcomes, confidence: float) -> dict[str, Any]:
    threat, clean = bags.is_threat, bags.is_clean
    return {
        "pd": _rate(outcomes.is_detected, threat, confidence).as_json(),
        "pd_located": _rate(outcomes.is_located, threat, confidence).as_json(),
        "pd_any_alarm": _rate(outcomes.is_alarmed, threat, confidence).as_json(),
        "pfa": _rate(outcomes.is_alarmed, clean, confidence).as_json(),
    }


def operating_curve(bags: BagScores, point: OperatingPoint) -> list[dict[str, float]]:
    """Pd and Pfa as every threshold moves by the same amount of log odds; `shift` 0 is the operating point."""
    margins = bags.margins(point.as_array)
    clean, threat = margins[bags.is_clean], margins[bags.is_threat]
    if not len(clean) or not len(threat):
        return []
    shifts = np.unique(margins[bags.is_clean | bags.is_threat])
    if len(shifts) > CURVE_POINTS:
        shifts = shifts[np.linspace(0, len(shifts) - 1, CURVE_POINTS).round().astype(int)]
    ordered_clean, ordered_threat = np.sort(clean), np.sort(threat)
    pfa = 1 - np.searchsorted(ordered_clean, shifts, "left") / len(clean)
    pd = 1 - np.searchsorted(ordered_threat, shifts, "left") / len(threat)
    return [{"shift": float(s), "pfa": float(a), "pd": float(d)} for s, a, d in zip(shifts[::-1], pfa[::-1], pd[::-1], strict=True)]


def worst_bags(bags: BagScores, point: OperatingPoint) -> dict[str, list[dict[str, Any]]]:
    """The threats missed by most and the clean bags that alarm loudest, each with the category that decided."""
    thresholds = point.as_array
    outcomes, margins = bags.at(thresholds), bags.margins(thresholds)
    order = np.argsort(margins, kind="stable")

    def entry(bag: int, relevant: Bools) -> dict[str, Any]:
        ratio = np.where(relevant, bags.best[bag] / thresholds, -1.0)
        category = int(ratio.argmax())
        return {
            "bag_id": bags.bag_ids[bag],
            "category": bags.categories[category],
            "score": float(bags.best[bag, category]),
            "threshold": float(thresholds[category]),
        }

    missed = [int(bag) for bag in order if bags.is_threat[bag] and not outcomes.is_detected[bag]]
    alarmed = [int(bag) for bag in order[::-1] if bags.is_clean[bag] and outcomes.is_alarmed[bag]]
    return {
        "worst_misses": [entry(bag, bags.carries[bag]) for bag in missed[:WORST_BAGS]],
        "worst_false_alarms": [entry(bag, np.ones(len(bags.categories), dtype=bool)) for bag in alarmed[:WORST_BAGS]],
    }


def _by_category(bags: BagScores, outcomes: BagOutcomes, coco: dict[str, Any], boxes: list[int], confidence: float) -> dict[str, Any]:
    return {
        name: {
            "boxes": boxes[position],
            **coco["by_category"][name],
            "pd": _rate(outcomes.alarms[:, position], bags.carries[:, position], confidence).as_json(),
            "pfa": _rate(outcomes.alarms[:, position], bags.is_clean, confidence).as_json(),
        }
        for position, name in enumerate(bags.categories)
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _by_scanner(reference: ReferenceSet, detections: DetectionSet, point: OperatingPoint, confidence: float) -> dict[str, Any]:
    slices: dict[str, Any] = {}
    for scanner_model in reference.scanner_models:
        part, positions = reference.only(np.array([scan.scanner_model == scanner_model for scan in reference.scans]))
        found = detections.only(positions)
        bags = bag_scores(part, found)
        ap50 = mean_over_categories(average_precision(match(part, found), thresholds=np.array([0])))[0]
        slices[scanner_model] = {
            "scans": len(part.scans),
            "bags": len(part.bag_ids),
            "ap50": _number(ap50),
            **_bag_rates(bags, bags.at(point.as_array), confidence),
        }
    return slices


def _precision_points(precision: Floats, categories: tuple[str, ...]) -> dict[str, Any]:
    curves = {
        name: [round(float(value), 6) for value in precision[0, :, position, 0]]
        for position, name in enumerate(categories)
        if precision[0, 0, position, 0] >= 0
    }
    return {"iou_threshold": 0.5, "recall": [round(float(value), 2) for value in RECALL_POINTS], "precision": curves}


def summarise(reference: ReferenceSet, detections: DetectionSet, point: OperatingPoint, confidence: float) -> dict[str, Any]:
    """Every number of an evaluation on the test split, as JSON without NaN; None stands for what could not be judged.

    Args:
        reference: the test split.
        detections: what the model said about it.
        point: thresholds chosen on the val split.
        confidence: of every bound.
    """
    precision = precision_table(reference, detections)
    coco = coco_numbers(precision, reference.categories)
    bags = bag_scores(reference, detections)
    outcomes = bags.at(point.as_array)
    boxes = np.bincount(reference.box_category, minlength=len(reference.categories)).tolist()
    return {
        "counts": {
            "scans": len(reference.scans),
            "bags": len(reference.bag_ids),
            "threat_bags": int(bags.is_threat.sum()),
            "clean_bags": int(bags.is_clean.sum()),
            "boxes": len(reference.box_scan),
            "detections": len(detections.scan),
        },
        "confidence": confidence,
        "ap": {key: coco[key] for key in ("ap", "ap50", "ap75", "by_area")},
        "operating_point": point.as_json(),
        **_bag_rates(bags, outcomes, confidence),
        "by_category": _by_category(bags, outcomes, coco, boxes, confidence),
        "by_scanner": _by_scanner(reference, detections, point, confidence),
        "operating_curve": operating_curve(bags, point),
        "precision_recall": _precision_points(precision, reference.categories),
        **worst_bags(bags, point),
    }
