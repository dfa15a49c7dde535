"""A bag's outcome from its views, and thresholds that keep false alarms within the target."""

from __future__ import annotations

import io

import numpy as np
import pytest
from simulated_detections import CATEGORIES, Skill, detect, make_split

from scanloop.errors import DataWrong
from scanloop.evaluation.outcomes import BagScores, bag_scores
from scanloop.evaluation.reference import DetectionSet, ReferenceScan, ReferenceSet
from scanloop.evaluation.tables import read_detections, write_detections, write_outcomes
from scanloop.evaluation.thresholds import LOWEST_THRESHOLD, OperatingPoint, chance_of_alarms, choose_operating_point
from scanloop.labelling.boxes import Box

EVERYTHING = frozenset(CATEGORIES)
HANDGUN, KNIFE = 0, 1
BOX = (10.0, 10.0, 30.0, 30.0)
ELSEWHERE = (200.0, 200.0, 30.0, 30.0)


def scan(name: str, bag: str, *boxes: Box, looked_for: frozenset[str] = EVERYTHING) -> ReferenceScan:
    return ReferenceScan(name, bag, "Acme X1", "top", "", looked_for, boxes)


def say(*rows: tuple[int, int, tuple[float, ...], float]) -> DetectionSet:
    scans, kinds, boxes, scores = zip(*rows, strict=True)
    return DetectionSet.of(np.array(scans), np.array(kinds), np.array(boxes), np.array(scores))


def test_a_bag_alarms_if_any_view_does() -> None:
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a", Box("knife", BOX)), scan("a2", "a", Box("knife", BOX)), scan("b1", "b")])
    bags = bag_scores(reference, say((0, KNIFE, BOX, 0.1), (1, KNIFE, BOX, 0.7), (2, KNIFE, BOX, 0.4)))
    outcomes = bags.at(np.array([0.5, 0.5, 0.5]))
    assert outcomes.is_alarmed.tolist() == [True, False]
    assert outcomes.is_detected.tolist() == [True, False]
    assert bags.is_clean.tolist() == [False, True]


def test_an_alarm_for_another_category_is_no_detection() -> None:
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a", Box("knife", BOX))])
    outcomes = bag_scores(reference, say((0, HANDGUN, BOX, 0.9))).at(np.array([0.5, 0.5, 0.5]))
    assert outcomes.is_alarmed.tolist() == [True]
    assert outcomes.is_detected.tolist() == [False]


def test_an_alarm_elsewhere_in_the_bag_is_not_located() -> None:
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a", Box("knife", BOX)), scan("b1", "b", Box("knife", BOX))])
    outcomes = bag_scores(reference, say((0, KNIFE, ELSEWHERE, 0.9), (1, KNIFE, BOX, 0.9))).at(np.array([0.5, 0.5, 0.5]))
    assert outcomes.is_detected.tolist() == [True, True]
    assert outcomes.is_located.tolist() == [False, True]


def test_a_bag_is_clean_only_if_everything_was_looked_for_in_every_view() -> None:
    partly = scan("b2", "b", looked_for=frozenset({"knife"}))
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a"), scan("a2", "a"), scan("b1", "b"), partly])
    bags = bag_scores(reference, say((3, HANDGUN, BOX, 0.99)))
    assert bags.is_clean.tolist() == [True, False]
    assert bags.best[1, HANDGUN] == 0


def test_a_score_equal_to_the_threshold_alarms() -> None:
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a")])
    bags = bag_scores(reference, say((0, KNIFE, BOX, 0.5)))
    assert bags.at(np.array([1.0, 0.5, 1.0])).is_alarmed.tolist() == [True]
    assert bags.at(np.array([1.0, 0.5000001, 1.0])).is_alarmed.tolist() == [False]


@pytest.mark.parametrize("target_pfa", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("bags", [12, 80, 400])
def test_operating_point_keeps_the_target_on_the_split_it_was_chosen_on(bags: int, target_pfa: float) -> None:
    reference = make_split(bags, 21)
    scores = bag_scores(reference, detect(reference, Skill(false_score=-1.5), 3))
    point = choose_operating_point(scores, target_pfa)
    alarmed = int(scores.at(point.as_array).is_alarmed[scores.is_clean].sum())
    assert alarmed == point.false_alarms <= target_pfa * point.clean_bags
    assert min(point.thresholds) >= LOWEST_THRESHOLD


def test_operating_point_spends_the_target() -> None:
    """Thresholds that were simply too high would keep any target."""
    reference = make_split(400, 22)
    scores = bag_scores(reference, detect(reference, Skill(false_score=-1.5), 3))
    loose, tight = (choose_operating_point(scores, target) for target in (0.3, 0.1))
    assert loose.false_alarms >= 0.25 * loose.clean_bags
    assert tight.false_alarms >= 0.07 * tight.clean_bags
    assert all(a <= b for a, b in zip(loose.thresholds, tight.thresholds, strict=True))


def test_operating_point_carries_over_to_unseen_bags() -> None:
    found = []
    for seed in range(12):
        chosen_on, tried_on = make_split(200, 100 + seed), make_split(200, 200 + seed)
        point = choose_operating_point(bag_scores(chosen_on, detect(chosen_on, Skill(false_score=-1.5), seed)), 0.1)
        bags = bag_scores(tried_on, detect(tried_on, Skill(false_score=-1.5), 50 + seed))
        found.append(bags.at(point.as_array).is_alarmed[bags.is_clean].mean())
    assert np.mean(found) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("clean", "allowed", "bags", "alarms"), [(13, 1, 11, 3), (200, 19, 140, 22), (5, 0, 8, 1), (3000, 299, 20_000, 2300), (4, 1, 6, 0)]
)
def test_chance_of_alarms_equals_the_beta_binomial(clean: int, allowed: int, bags: int, alarms: int) -> None:
    from scipy.stats import betabinom

    point = OperatingPoint(("knife",), (0.5,), 0.1, clean, allowed)
    assert chance_of_alarms(point, alarms, bags) == pytest.approx(betabinom.sf(alarms - 1, bags, allowed + 1, clean - allowed), rel=1e-6)


def test_chance_of_alarms_is_what_happens() -> None:
    """Draw a val split, put the threshold under its fourth highest score, count alarms in a test split; scores of the same detector."""
    rng = np.random.default_rng(3)
    val, test = np.sort(rng.random((20_000, 20)), axis=1), rng.random((20_000, 30))
    alarms = (test > val[:, -4][:, None]).sum(axis=1)
    point = OperatingPoint(("knife",), (0.5,), 0.2, 20, 3)
    for count in (3, 8, 13):
        assert (alarms >= count).mean() == pytest.approx(chance_of_alarms(point, count, 30), abs=0.012)


def test_one_poor_category_does_not_drown_the_others() -> None:
    clean = np.array([[0.02, score] for score in np.linspace(0.3, 0.99, 20)])
    threat = np.array([[0.8, 0.1]] * 5)
    best = np.vstack([clean, threat])
    carries = np.zeros(best.shape, dtype=bool)
    carries[20:, 0] = True
    bags = BagScores(tuple(map(str, range(25))), ("good", "poor"), carries, np.ones_like(carries), best, best)
    point = choose_operating_point(bags, 0.1)
    assert 0.02 < point.thresholds[0] < 0.8
    assert point.thresholds[1] > 0.9
    assert bags.at(point.as_array).is_detected[20:].all()


def test_what_equal_shares_leave_of_the_target_is_spent_where_it_finds_most() -> None:
    """One of ten clean bags may alarm. One more for each category would be two."""
    clean = np.array([[0.9, 0.1], [0.2, 0.9], *[[0.1, 0.1]] * 8])
    threat = np.array([[0.5, 0.05], [0.6, 0.05], [0.05, 0.95]])
    best = np.vstack([clean, threat])
    carries = np.zeros(best.shape, dtype=bool)
    carries[10:12, 0] = carries[12, 1] = True
    bags = BagScores(tuple(map(str, range(13))), ("a", "b"), carries, np.ones_like(carries), best, best)
    point = choose_operating_point(bags, 0.2)
    assert point.false_alarms == 1
    assert 0.2 < point.thresholds[0] < 0.5
    assert point.thresholds[1] > 0.9
    assert bags.at(point.as_array).is_detected[10:].all()


def test_without_a_clean_bag_nothing_alarms() -> None:
    reference = ReferenceSet.of(CATEGORIES, [scan("a1", "a", Box("knife", BOX))])
    bags = bag_scores(reference, say((0, KNIFE, BOX, 0.999)))
    point = choose_operating_point(bags, 0.1)
    assert (point.clean_bags, point.false_alarms) == (0, 0)
    assert not bags.at(point.as_array).is_alarmed.any()


def test_detections_survive_the_round_trip() -> None:
    val, test = make_split(20, 31), make_split(30, 32)
    splits = {"val": (val, detect(val, Skill(), 1)), "test": (test, detect(test, Skill(), 2))}
    data = write_detections(splits)
    assert write_detections(splits) == data
    for split, (reference, detections) in splits.items():
        again = read_detections(data, split, reference)
        for column in ("scan", "category", "boxes_xywh", "scores"):
            np.testing.assert_array_equal(getattr(again, column), getattr(detections, column))


def test_detections_of_another_snapshot_are_refused() -> None:
    test, other = make_split(30, 32), make_split(30, 33)
    data = write_detections({"test": (test, detect(test, Skill(), 2))})
    with pytest.raises(DataWrong, match="does not have"):
        read_detections(data, "test", other)


def test_outcomes_are_kept_whole() -> None:
    import pyarrow.parquet as pq

    reference = make_split(30, 41)
    bags = bag_scores(reference, detect(reference, Skill(), 2))
    point = choose_operating_point(bags, 0.2)
    rows = pq.read_table(io.BytesIO(write_outcomes(reference, bags, point))).to_pylist()
    outcomes = bags.at(point.as_array)
    assert len(rows) == 30 * len(CATEGORIES)
    detected = {row["bag_id"] for row in rows if row["carries"] and row["best_score"] >= row["threshold"]}
    assert detected == {bag_id for bag_id, found in zip(bags.bag_ids, outcomes.is_detected, strict=True) if found}
    assert detected == {row["bag_id"] for row in rows if row["bag_is_detected"]}
    assert {row["bag_id"] for row in rows if row["bag_is_clean"]} == {b for b, c in zip(bags.bag_ids, bags.is_clean, strict=True) if c}
