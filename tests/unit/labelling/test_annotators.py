"""The simulated annotators err as often as they are told to, measured on 2,000 boxes within exact binomial bounds."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binomtest

from scanloop.errors import WrongArguments
from scanloop.labelling.annotators import ErrorRates, answer
from scanloop.labelling.boxes import Box
from scanloop.labelling.simulated import rates_from_url

SIZE_PX = (200, 300)
TRUTH = (Box("handgun", (20.0, 30.0, 60.0, 40.0)), Box("knife", (150.0, 100.0, 80.0, 20.0)))
LOOKED_FOR = ("handgun", "knife", "grenade")


def answers(rates, scans=1000, truth=TRUTH, looked_for=LOOKED_FOR):
    return [
        answer(truth, looked_for, SIZE_PX, rates, seed=7, annotator="annotator-1", scan_id=f"scan-{number}", round_number=1).boxes
        for number in range(scans)
    ]


def assert_rate(events, trials, rate):
    """Fails once in ten thousand seeds if the rate is right; the seed is fixed."""
    interval = binomtest(events, trials).proportion_ci(0.9999)
    assert interval.low <= rate <= interval.high, (events, trials, rate)


def test_misses_happen_at_the_set_rate():
    given_boxes = answers(ErrorRates(miss=0.1, spurious=0, swap=0, jitter_px=0))
    assert_rate(2000 - sum(map(len, given_boxes)), 2000, 0.1)


def test_swaps_happen_at_the_set_rate_and_only_to_categories_looked_for():
    boxes = answers(ErrorRates(miss=0, spurious=0, swap=0.15, jitter_px=0))
    swapped = [given.category for pair in boxes for given, true in zip(pair, TRUTH, strict=True) if given.category != true.category]
    assert_rate(len(swapped), 2000, 0.15)
    assert set(swapped) == set(LOOKED_FOR)


def test_spurious_boxes_happen_at_the_set_rate():
    given_boxes = answers(ErrorRates(miss=0, spurious=0.2, swap=0, jitter_px=0), truth=())
    assert {len(boxes) for boxes in given_boxes} == {0, 1}
    assert_rate(sum(map(len, given_boxes)), 1000, 0.2)


def test_edges_move_by_the_set_deviation():
    moved = [
        np.subtract(given.xyxy, true.xyxy)
        for boxes in answers(ErrorRates(miss=0, spurious=0, swap=0, jitter_px=2))
        for given, true in zip(boxes, TRUTH, strict=True)
    ]
    assert np.std(moved) == pytest.approx(2, rel=0.05)
    assert abs(np.mean(moved)) < 5 * 2 / math.sqrt(8000)


def test_without_errors_the_truth_comes_back():
    assert answers(ErrorRates(0, 0, 0, 0), scans=1) == [TRUTH]


def test_what_is_not_looked_for_is_not_marked():
    assert answers(ErrorRates(0, 0, 0, 0), scans=1, looked_for=("knife",)) == [TRUTH[1:]]


def test_annotators_rounds_and_seeds_err_independently_and_repeatably():
    rates = ErrorRates(miss=0.5, spurious=0.5, jitter_px=3)

    def of(**changes):
        who = {"seed": 1, "annotator": "a", "scan_id": "s", "round_number": 1} | changes
        return answer(TRUTH, LOOKED_FOR, SIZE_PX, rates, **who)

    assert of() == of()
    assert len({of(), of(annotator="b"), of(round_number=2), of(seed=2), of(scan_id="t")}) == 5


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(st.integers(4, 60), st.integers(4, 60)),
    st.floats(0, 100),
    st.lists(st.tuples(*(st.floats(0, 1) for _ in range(4))), max_size=3),
    st.integers(0, 999),
)
def test_boxes_stay_inside_the_picture(size_px, jitter_px, shares, seed):
    height, width = size_px
    truth = [
        Box("knife", (x * (width - 1), y * (height - 1), max(1, w * width * (1 - x)), max(1, h * height * (1 - y))))
        for x, y, w, h in shares
    ]
    rates = ErrorRates(miss=0, spurious=1, swap=0, jitter_px=jitter_px)
    given_answer = answer(truth, LOOKED_FOR, size_px, rates, seed=seed, annotator="a", scan_id="s", round_number=1)
    assert len(given_answer.boxes) == len(truth) + 1
    for box in given_answer.boxes:
        x, y, w, h = box.bbox_xywh
        assert x >= 0
        assert y >= 0
        assert w >= 0.99
        assert h >= 0.99
        assert x + w <= width + 1e-6
        assert y + h <= height + 1e-6


def test_rates_are_read_from_the_url():
    rates, seed = rates_from_url("simulated:?miss=.1&spurious=.2&swap=.3&jitter_px=4&seed=9")
    assert (rates, seed) == (ErrorRates(0.1, 0.2, 0.3, 4.0), 9)
    assert rates_from_url("simulated:") == (ErrorRates(), 0)


@pytest.mark.parametrize("query", ["miss=2", "miss=often", "typo=.1", "jitter_px=-1", "swap=nan", "seed=x", "miss="])
def test_a_url_that_is_no_set_of_rates_is_refused(query):
    with pytest.raises(WrongArguments, match="SCANLOOP_LABELLING_URL"):
        rates_from_url(f"simulated:?{query}")
