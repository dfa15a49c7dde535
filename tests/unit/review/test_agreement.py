from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from scanloop.labelling.boxes import Box, box_from_json, iou_matrix
from scanloop.review.agreement import agree, match, mean_box, pair_score
from scanloop.review.decide import decide

GUN = Box("handgun", (10.0, 10.0, 40.0, 40.0))
NEAR_GUN = Box("handgun", (14.0, 10.0, 40.0, 44.0))
KNIFE = Box("knife", (100.0, 10.0, 50.0, 10.0))
boxes = st.lists(
    st.builds(
        Box, st.sampled_from(["handgun", "knife"]), st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 6), st.integers(1, 6))
    ),
    max_size=6,
)


def verdict(one, two, round_number=1, min_agreement=0.99):
    return decide({"ann": one, "bob": two}, round_number, iou_agreement=0.5, min_agreement=min_agreement)


@settings(deadline=None)
@given(boxes, boxes, st.floats(0.05, 0.95))
def test_agreement_is_symmetric_and_one_with_oneself(one, two, threshold):
    assert pair_score(one, two, threshold) == pair_score(two, one, threshold)
    assert 0 <= pair_score(one, two, threshold) <= 1
    assert pair_score(one, one, threshold) == 1
    forth, back = agree({"a": one, "b": two}, threshold), agree({"a": two, "b": one}, threshold)
    assert forth.score == back.score
    assert len(forth.consensus) == len(back.consensus)
    assert len(forth.disputed) == len(back.disputed) == len(one) + len(two) - 2 * len(forth.consensus)


@settings(deadline=None)
@given(boxes, boxes, st.floats(0.05, 0.95))
def test_matches_are_one_to_one_within_category_and_above_the_threshold(one, two, threshold):
    pairs = match(one, two, threshold)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    for i, j in pairs:
        assert one[i].category == two[j].category
        assert iou_matrix([one[i]], [two[j]])[0, 0] >= threshold


@settings(deadline=None)
@given(boxes.filter(bool), boxes.filter(bool))
def test_iou_agrees_with_counting_pixels(one, two):
    def mask(box):
        x, y, w, h = (int(value) for value in box.bbox_xywh)
        grid = np.zeros((20, 20), bool)
        grid[y : y + h, x : x + w] = True
        return grid

    expected = [[(mask(a) & mask(b)).sum() / (mask(a) | mask(b)).sum() for b in two] for a in one]
    assert iou_matrix(one, two) == pytest.approx(np.array(expected))


def test_as_many_as_possible_match_even_where_one_perfect_pair_is_tempting():
    one = [Box("knife", (0, 0, 10, 10)), Box("knife", (5, 0, 10, 10))]
    two = [Box("knife", (5, 0, 10, 10)), Box("knife", (10, 0, 10, 10))]
    assert sorted(match(one, two, 0.3)) == [(0, 0), (1, 1)]


def test_consensus_is_the_mean_of_the_edges():
    assert mean_box([GUN, NEAR_GUN]).bbox_xywh == (12.0, 10.0, 40.0, 42.0)
    assert verdict([GUN, KNIFE], [KNIFE, NEAR_GUN]).consensus == (mean_box([GUN, NEAR_GUN]), KNIFE)


def test_agreeing_on_nothing_is_agreement():
    found = verdict([], [])
    assert (found.verdict, found.agreement, found.consensus) == ("accepted", 1.0, ())


def test_a_finding_of_one_of_two_is_disputed_and_named():
    found = verdict([GUN, KNIFE], [GUN])
    assert (found.verdict, found.consensus) == ("returned", ())
    assert found.agreement == pytest.approx(2 / 3)
    assert "knife at (100, 10) of 50 × 10 px marked by ann only" in found.reason
    assert found.details["disputed"][0]["authors"] == ["ann"]


def test_a_low_pass_mark_does_not_let_a_disputed_finding_through():
    assert verdict([GUN, KNIFE], [GUN], min_agreement=0.1).verdict == "returned"


def test_two_names_for_one_thing_are_named():
    found = verdict([GUN], [Box("knife", GUN.bbox_xywh)])
    assert found.verdict == "returned"
    assert "called knife by another" in found.reason


def test_the_third_time_it_goes_up():
    assert [verdict([GUN], [], number).verdict for number in (1, 2, 3)] == ["returned", "returned", "escalated"]


def test_of_three_annotators_two_decide_and_agreement_still_counts():
    given_boxes = {"a": [GUN, KNIFE], "b": [NEAR_GUN], "c": [GUN]}
    found = agree(given_boxes, 0.5)
    assert [box.category for box in found.consensus] == ["handgun"]
    assert [one.authors for one in found.dismissed] == [("a",)]
    assert decide(given_boxes, 1, iou_agreement=0.5, min_agreement=0.99).verdict == "returned"
    assert decide(given_boxes, 1, iou_agreement=0.5, min_agreement=0.7).verdict == "accepted"


def test_one_annotator_alone_is_believed():
    assert decide({"ann": [GUN]}, 1, iou_agreement=0.5, min_agreement=0.99).consensus == (GUN,)


@settings(deadline=None)
@given(boxes)
def test_boxes_survive_the_catalog(given_boxes):
    assert [box_from_json(box.as_json()) for box in given_boxes] == given_boxes
