from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from scanloop.labelling.boxes import Box
from scanloop.snapshots.effective import AnnotationSet, effective_annotation

CATEGORIES = ("handgun", "knife", "grenade")
boxes = st.lists(
    st.builds(Box, st.sampled_from((*CATEGORIES, "retired")), st.tuples(*(st.integers(0, 9).map(float) for _ in range(4)))), max_size=4
)
sets = st.lists(
    st.builds(
        AnnotationSet,
        st.integers(0, 10**6).map("a{}".format),
        st.integers(0, 5).map("2026-01-0{}".format),
        st.frozensets(st.sampled_from((*CATEGORIES, "retired"))),
        boxes.map(tuple),
    ),
    max_size=6,
    unique_by=lambda one: one.annotation_id,
)


@settings(deadline=None)
@given(sets, st.randoms(use_true_random=False))
def test_each_category_is_what_the_newest_set_that_looked_for_it_says(history, random):
    merged = effective_annotation(history, CATEGORIES)
    assert effective_annotation(random.sample(history, len(history)), CATEGORIES) == merged
    for category in CATEGORIES:
        speaking = [one for one in history if category in one.looked_for]
        assert (category in merged.looked_for) == bool(speaking)
        newest = max(speaking, key=lambda one: (one.accepted_at, one.annotation_id), default=None)
        expected = sorted(box for box in newest.boxes if box.category == category) if newest else []
        assert [box for box in merged.boxes if box.category == category] == expected
        assert newest is None or newest.annotation_id in merged.annotation_ids
    assert {box.category for box in merged.boxes} <= set(merged.looked_for) <= set(CATEGORIES)


@settings(deadline=None)
@given(sets, st.frozensets(st.sampled_from(CATEGORIES)), boxes.map(tuple))
def test_a_later_set_changes_only_the_categories_it_looked_for(history, looked_for, new_boxes):
    before = effective_annotation(history, CATEGORIES)
    after = effective_annotation([*history, AnnotationSet("z", "2027", looked_for, new_boxes)], CATEGORIES)
    assert [box for box in before.boxes if box.category not in looked_for] == [box for box in after.boxes if box.category not in looked_for]
    assert set(after.looked_for) == set(before.looked_for) | looked_for


def test_a_backfill_adds_its_category_and_keeps_the_rest():
    first = AnnotationSet("a1", "2026-01-01", frozenset({"handgun", "knife"}), (Box("knife", (1, 2, 3, 4)),))
    backfill = AnnotationSet("a2", "2026-02-01", frozenset({"grenade"}), (Box("grenade", (5, 6, 7, 8)),))
    merged = effective_annotation([backfill, first], CATEGORIES)
    assert merged.looked_for == CATEGORIES
    assert [box.category for box in merged.boxes] == ["grenade", "knife"]
    assert merged.annotation_ids == ("a1", "a2")
