"""Splits with a known reference, and detectors of a set skill that look at them: what statistics are tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from scanloop.evaluation.reference import DetectionSet, ReferenceScan, ReferenceSet
from scanloop.labelling.boxes import Box

CATEGORIES = ("handgun", "knife", "grenade")
SCANNERS = ("Acme X1", "Acme X2", "Borealis 7")


@dataclass(frozen=True)
class Skill:
    """How good a simulated detector is."""

    hit: float = 2.0
    """Mean log odds of the score of a threat of mean difficulty."""
    noise: float = 1.0
    """Spread of a detector's own log odds; what two detectors do not share."""
    false_alarms: float = 1.0
    """Mean number of false detections a scan."""
    false_score: float = -3.0
    """Mean log odds of a false detection."""
    jitter: float = 0.06
    """Spread of a box's edges, as part of its size."""


def make_split(bags: int, seed: int, *, threat_share: float = 0.5, looked_for_share: float = 1.0, views: int = 2) -> ReferenceSet:
    """Bags of `views` scans on three scanners, one or two threats in a share of them, each seen in every view."""
    rng = np.random.default_rng(seed)
    scans = []
    for bag in range(bags):
        scanner = SCANNERS[int(rng.integers(len(SCANNERS)))]
        carried = []
        if rng.random() < threat_share:
            carried = [CATEGORIES[int(k)] for k in rng.choice(len(CATEGORIES), size=1 + int(rng.random() < 0.2), replace=False)]
        for view in range(views):
            looked_for = {name for name in CATEGORIES if name in carried or rng.random() < looked_for_share}
            boxes = []
            for name in carried:
                width, height = rng.uniform(15, 120, 2)
                boxes.append(Box(name, (float(rng.uniform(0, 400)), float(rng.uniform(0, 250)), float(width), float(height))))
            scan_id = hashlib.sha256(f"{seed}/{bag}/{view}".encode()).hexdigest()
            scans.append(ReferenceScan(scan_id, f"site/{bag:04d}", scanner, f"view-{view}", "", frozenset(looked_for), tuple(boxes)))
    return ReferenceSet.of(CATEGORIES, scans)


def detect(reference: ReferenceSet, skill: Skill, seed: int, *, score_digits: int | None = None) -> DetectionSet:
    """What a detector of this skill says. Difficulty belongs to the threat, so two detectors find the same ones hard."""
    own = np.random.default_rng(seed)
    difficulty = np.random.default_rng(987).normal(0, 1.2, len(reference.box_scan))
    scan, category, boxes, scores = [], [], [], []

    def add(position: int, kind: int, box: np.ndarray, odds: float) -> None:
        score = 1 / (1 + np.exp(-odds))
        scan.append(position)
        category.append(kind)
        boxes.append(box)
        scores.append(float(np.clip(round(score, score_digits) if score_digits is not None else score, 0.001, 0.999)))

    for position, kind, box, hardness in zip(reference.box_scan, reference.box_category, reference.boxes_xywh, difficulty, strict=True):
        moved = box + own.normal(0, skill.jitter, 4) * np.array([box[2], box[3], box[2], box[3]])
        add(position, kind, np.maximum(moved, [0, 0, 2, 2]), skill.hit - hardness + own.normal(0, skill.noise))
        if own.random() < 0.3:
            add(position, kind, np.maximum(moved + own.normal(0, 4, 4), [0, 0, 2, 2]), skill.hit - hardness - 1.5)
    for position in range(len(reference.scans)):
        for _ in range(own.poisson(skill.false_alarms)):
            box = np.array([own.uniform(0, 400), own.uniform(0, 250), own.uniform(10, 100), own.uniform(10, 100)])
            add(position, int(own.integers(len(reference.categories))), box, skill.false_score + own.normal(0, 1.2))
    return DetectionSet.of(np.array(scan), np.array(category), np.array(boxes), np.array(scores))
