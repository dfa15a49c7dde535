"""Paired resampling equals the brute force way, and the comparison says what was lost and gained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_detections import Skill, detect, make_split

from scanloop.evaluation.coco import coco_numbers, precision_table
from scanloop.evaluation.outcomes import bag_scores
from scanloop.evaluation.reference import DetectionSet, ReferenceSet
from scanloop.evaluation.thresholds import choose_operating_point
from scanloop.promotion.bootstrap import draw_weights, interval, weighted_rate
from scanloop.promotion.comparison import Side, compare


def side(name: str, reference: ReferenceSet, skill: Skill, seed: int) -> Side:
    val = make_split(120, 77)
    point = choose_operating_point(bag_scores(val, detect(val, skill, seed)), 0.1)
    return Side(name, detect(reference, skill, seed + 1), point)


def with_scans_repeated(reference: ReferenceSet, detections: DetectionSet, times: np.ndarray) -> tuple[ReferenceSet, DetectionSet]:
    scans, parts = [], []
    for position, scan in enumerate(reference.scans):
        for copy in range(int(times[reference.bag_of_scan[position]])):
            rows = detections.where(detections.scan == position)
            parts.append(dataclasses.replace(rows, scan=np.full(len(rows.scan), len(scans))))
            scans.append(dataclasses.replace(scan, scan_id=f"{scan.scan_id}{copy:02d}"))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("scan", "category", "boxes_xywh", "scores")}
    return ReferenceSet.of(reference.categories, scans), DetectionSet(**joined)


def test_bootstrap_equals_scoring_every_replicate_anew() -> None:
    reference = make_split(40, 1)
    candidate, champion = side("new", reference, Skill(hit=0), 10), side("old", reference, Skill(hit=-1.5), 20)
    paired = compare(reference, candidate, champion, confidence=0.9, seed=5, replicates=25).paired
    assert paired is not None

    bags = {"new": bag_scores(reference, candidate.detections), "old": bag_scores(reference, champion.detections)}
    outcomes = {"new": bags["new"].at(candidate.point.as_array), "old": bags["old"].at(champion.point.as_array)}
    threat, clean = bags["new"].is_threat, bags["new"].is_clean
    gains: dict[str, list[float]] = {"ap": [], "ap50": [], "pd_resampled": [], "pfa_resampled": []}
    for times in draw_weights((threat, clean), 25, 5):
        scored = [with_scans_repeated(reference, one.detections, times) for one in (candidate, champion)]
        new, old = (coco_numbers(precision_table(*again), reference.categories) for again in scored)
        members = np.repeat(np.arange(len(times)), times.astype(int))
        gains["ap"].append(new["ap"] - old["ap"])
        gains["ap50"].append(new["ap50"] - old["ap50"])
        drawn_threats, drawn_clean = members[threat[members]], members[clean[members]]
        detected = [outcomes[name].is_detected[drawn_threats].mean() for name in ("new", "old")]
        alarmed = [outcomes[name].is_alarmed[drawn_clean].mean() for name in ("new", "old")]
        gains["pd_resampled"].append(detected[0] - detected[1])
        gains["pfa_resampled"].append(alarmed[0] - alarmed[1])
    for name, values in gains.items():
        found = getattr(paired, name)
        assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])), abs=1e-9), name


def test_every_replicate_has_as_many_threats_and_clean_bags_as_the_split() -> None:
    threat = np.array([True] * 7 + [False] * 13)
    weights = draw_weights((threat, ~threat), 200, 1)
    assert set(weights[:, threat].sum(axis=1)) == {7.0}
    assert set(weights[:, ~threat].sum(axis=1)) == {13.0}
    assert weights.std(axis=0).min() > 0.5
    np.testing.assert_array_equal(weights, draw_weights((threat, ~threat), 200, 1))
    assert not np.array_equal(weights, draw_weights((threat, ~threat), 200, 2))


def test_a_model_compared_with_itself_differs_in_nothing() -> None:
    reference = make_split(60, 3)
    one = side("same", reference, Skill(hit=0), 10)
    comparison = compare(reference, one, one, confidence=0.95, seed=1, replicates=50)
    paired = comparison.paired
    assert paired is not None
    assert (paired.ap50.value, paired.ap50.lower, paired.ap50.upper) == (0.0, 0.0, 0.0)
    assert paired.lost_bags == paired.gained_bags == paired.new_false_alarms == paired.cured_false_alarms == ()
    assert paired.pd_bounds[0] < 0 < paired.pd_bounds[1], "no difference seen is no proof of no difference"


def test_lost_and_gained_bags_are_named() -> None:
    reference = make_split(80, 4)
    candidate, champion = side("new", reference, Skill(hit=0), 10), side("old", reference, Skill(hit=-1.5), 20)
    paired = compare(reference, candidate, champion, confidence=0.95, seed=1, replicates=20).paired
    assert paired is not None
    assert (len(paired.gained_bags), len(paired.lost_bags)) == (paired.pd.gained, paired.pd.lost)
    assert len(paired.gained_bags) > len(paired.lost_bags) > 0
    new, old = (bag_scores(reference, s.detections).at(s.point.as_array) for s in (candidate, champion))
    gained = [reference.bag_ids.index(bag_id) for bag_id in paired.gained_bags]
    assert new.is_detected[gained].all()
    assert not old.is_detected[gained].any()


def test_evidence_is_plain_json_and_the_same_every_time() -> None:
    from scanloop.canonical import canonical_json

    reference = make_split(60, 5, looked_for_share=0.8)
    sides = [side("new", reference, Skill(hit=0), 10), side("old", reference, Skill(hit=-1.5), 20)]
    first, second = (canonical_json(compare(reference, *sides, confidence=0.95, seed=1, replicates=30).as_json()) for _ in range(2))
    assert first == second
    assert b"NaN" not in first


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bootstrap_bounds_hold_the_true_difference_as_often_as_they_say(confidence: float) -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        difference = rng.choice([-1, 0, 1], p=[0.15, 0.6, 0.25], size=150)
        weights = draw_weights((np.ones(150, dtype=bool),), 200, int(rng.integers(1 << 30)))
        resampled = weighted_rate(difference == 1, weights) - weighted_rate(difference == -1, weights)
        found = interval(difference.mean(), resampled, confidence, 0.99)
        assert found.lower is not None
        held += found.lower <= 0.10
    assert held / 300 == pytest.approx(confidence, abs=0.045)
