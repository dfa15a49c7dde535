"""Average precision equals the COCO reference implementation, at weight 1 and under any whole weights of the bags."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_detections import CATEGORIES, Skill, detect, make_split

from scanloop.evaluation.coco import coco_detections, coco_numbers, coco_truth, precision_table
from scanloop.evaluation.matching import IOU_THRESHOLDS, average_precision, iou_pairs, match, mean_over_categories
from scanloop.evaluation.reference import DetectionSet, ReferenceScan, ReferenceSet
from scanloop.labelling.boxes import Box

SPLITS = {
    "skilled": (make_split(60, 1), Skill(), None),
    "poor": (make_split(60, 2), Skill(hit=-1, jitter=0.3, false_alarms=6), None),
    "equal scores": (make_split(60, 3), Skill(false_alarms=4), 1),
    "partly looked for": (make_split(60, 4, looked_for_share=0.6), Skill(false_alarms=4), None),
    "crowded": (make_split(8, 5, threat_share=1.0), Skill(false_alarms=400, false_score=-1), 2),
    "a category without boxes": (make_split(3, 6, threat_share=1.0), Skill(), None),
}


def oracle_stats(reference: ReferenceSet, detections: DetectionSet) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_truth(reference)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_detections(reference, detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


def repeated(reference: ReferenceSet, detections: DetectionSet, times: np.ndarray) -> tuple[ReferenceSet, DetectionSet]:
    """Every scan of a bag there as many times as the bag counts."""
    scans, rows = [], []
    for position, scan in enumerate(reference.scans):
        for copy in range(int(times[reference.bag_of_scan[position]])):
            rows.append(np.flatnonzero(detections.scan == position))
            scans.append(ReferenceScan(f"{scan.scan_id}{copy:02d}", scan.bag_id, scan.scanner_model, "", "", scan.looked_for, scan.boxes))
    new_scan = np.repeat(np.arange(len(scans)), [len(row) for row in rows])
    taken = np.concatenate(rows)
    again = DetectionSet(new_scan, detections.category[taken], detections.boxes_xywh[taken], detections.scores[taken])
    return ReferenceSet.of(CATEGORIES, scans), again


@pytest.mark.parametrize("name", SPLITS)
def test_equals_pycocotools(name: str) -> None:
    reference, skill, digits = SPLITS[name]
    detections = detect(reference, skill, 11, score_digits=digits)
    oracle = oracle_stats(reference, detections)

    precision = precision_table(reference, detections)
    ours = average_precision(match(reference, detections))[0]

    assert np.abs(precision - oracle).max() < 1e-9
    expected = np.where(oracle[:, 0, :, 0] < 0, np.nan, oracle[..., 0].mean(axis=1)).T
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    numbers = coco_numbers(precision, reference.categories)
    assert numbers["ap"] == pytest.approx(mean_over_categories(ours[None])[0], abs=1e-9)
    assert numbers["ap50"] == pytest.approx(np.nanmean(ours[:, 0]), abs=1e-9)
    assert 0 < numbers["ap50"] < 1


@pytest.mark.parametrize("name", ["skilled", "poor", "partly looked for", "a category without boxes"])
def test_weights_equal_repeating_the_scans(name: str) -> None:
    reference, skill, digits = SPLITS[name]
    detections = detect(reference, skill, 12, score_digits=digits)
    weights = np.random.default_rng(5).poisson(1.0, size=(6, len(reference.bag_ids))).astype(float)
    weights[:, 0] += 1

    ours = average_precision(match(reference, detections), weights)

    for replicate, times in enumerate(weights):
        brute = average_precision(match(*repeated(reference, detections, times)))[0]
        oracle = coco_numbers(precision_table(*repeated(reference, detections, times)), CATEGORIES)
        np.testing.assert_allclose(ours[replicate], brute, atol=1e-9)
        assert mean_over_categories(ours[replicate][None])[0] == pytest.approx(oracle["ap"], abs=1e-9)
        assert mean_over_categories(ours[replicate][None, :, :1])[0] == pytest.approx(oracle["ap50"], abs=1e-9)


def test_replicates_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make_split(40, 8)
    matches = match(reference, detect(reference, Skill(), 1))
    weights = np.random.default_rng(0).poisson(1.0, size=(50, len(reference.bag_ids))).astype(float)
    whole = average_precision(matches, weights)
    monkeypatch.setattr("scanloop.evaluation.matching._CHUNK_CELLS", 300)
    np.testing.assert_array_equal(average_precision(matches, weights), whole)


@pytest.mark.parametrize("wrong", [0.5, -1.0])
def test_other_weights_are_refused(wrong: float) -> None:
    reference = make_split(5, 8)
    with pytest.raises(ValueError, match="whole weights"):
        average_precision(match(reference, detect(reference, Skill(), 1)), np.full((1, 5), wrong))


def test_a_category_that_was_not_looked_for_is_neither_right_nor_wrong() -> None:
    looked = ReferenceScan("a", "bag-a", "s", "v", "", frozenset(CATEGORIES), (Box("knife", (10.0, 10.0, 20.0, 20.0)),))
    not_looked = ReferenceScan("b", "bag-b", "s", "v", "", frozenset({"handgun"}), ())
    reference = ReferenceSet.of(CATEGORIES, [looked, not_looked])
    knife = CATEGORIES.index("knife")
    box = [10.0, 10.0, 20.0, 20.0]
    detections = DetectionSet.of(np.array([0, 1]), np.array([knife, knife]), np.array([box, box]), np.array([0.5, 0.9]))
    assert average_precision(match(reference, detections))[0, knife] == pytest.approx(np.ones(len(IOU_THRESHOLDS)))


boxes = st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(0.5, 60), st.floats(0.5, 60))


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_overlap_is_symmetric_and_within_0_and_1(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    a, b = np.array([first]), np.array([second])
    there, back = iou_pairs(a, b)[0], iou_pairs(b, a)[0]
    assert there == pytest.approx(back, abs=1e-12)
    assert 0 <= there <= 1 + 1e-12
    assert iou_pairs(a, a)[0] == pytest.approx(1.0)
