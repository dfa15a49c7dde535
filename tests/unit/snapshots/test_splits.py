"""No leak, ever: not between splits, and not from an earlier snapshot's train into a later one's test."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from snapshot_records import labelled, line, record

from scanloop.snapshots.collect import records_of
from scanloop.snapshots.splits import drawn_split, split_bags
from scanloop.snapshots.verify import leaks

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}


@st.composite
def histories(draw):
    """Bags in order of arrival, with hashes from few enough values that many are near copies of each other."""
    bags = draw(
        st.lists(
            st.tuples(st.integers(0, 200), st.integers(0, 7), st.booleans(), st.booleans(), st.booleans()),
            max_size=24,
            unique_by=lambda bag: bag[0],
        )
    )
    return [
        labelled(
            f"bag-{bag}",
            view,
            is_whole=is_whole,
            phash=f"{(1 << code) - 1:016x}",
            is_projected=is_projected,
            boxes=(() if is_clean else labelled("x").whole[0].boxes),
        )
        for bag, code, is_whole, is_projected, is_clean in bags
        for view in ("side", "top")[: 1 + bag % 2]
    ]


@settings(deadline=None, max_examples=80)
@given(histories(), st.integers(0, 24), st.integers(0, 3), st.randoms(use_true_random=False))
def test_nothing_leaks_between_splits_or_between_versions(history, earlier, bits, random):
    definition = line(selection={"near_duplicate_bits": bits})
    now = records_of(history, definition).records
    assert list(leaks(now, bits)) == []
    assert records_of(random.sample(history, len(history)), definition).records == now, "the order of the input decided something"
    before = {one.bag_id: one.split for one in records_of(history[:earlier], definition).records}
    for one in now:
        if before.get(one.bag_id) == "test" and not one.is_synthetic:
            assert one.split == "test", "a bag left the test set"
        if one.split == "test":
            assert before.get(one.bag_id, "test") in ("test", "withheld"), "a bag came to test from where models were trained on it"
        assert not (one.is_synthetic and one.split in ("val", "test"))


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(0, 9))
def test_a_larger_test_share_only_adds_to_test(bag, seed):
    if drawn_split(seed, bag, SHARES) == "test":
        assert drawn_split(seed, bag, {"train": 0.4, "val": 0.15, "test": 0.45}) == "test"


def test_shares_are_met():
    drawn = Counter(drawn_split(1, f"bag-{number}", SHARES) for number in range(4000))
    for split, share in SHARES.items():
        assert drawn[split] / 4000 == pytest.approx(share, abs=0.03)


def test_another_seed_is_another_split():
    assert [drawn_split(1, f"{n}", SHARES) for n in range(50)] != [drawn_split(2, f"{n}", SHARES) for n in range(50)]


def test_the_weaker_copy_is_withheld_and_says_for_whom():
    test_bag = next(f"bag-{n}" for n in range(99) if drawn_split(0, f"bag-{n}", SHARES) == "test")
    train_bag = next(f"bag-{n}" for n in range(99) if drawn_split(0, f"bag-{n}", SHARES) == "train")
    prints = [labelled_print(bag) for bag in (test_bag, train_bag)]
    found = split_bags(prints, {test_bag: "test", train_bag: "train"}, 0)
    assert found.split_by_bag == {test_bag: "test", train_bag: "withheld"}
    assert found.withheld_for == {train_bag: test_bag}


def labelled_print(bag):
    from scanloop.curation.near_duplicates import Fingerprint

    return Fingerprint(record(bag).scan_id, bag, "Acme One", "top", "f" * 16)


def test_a_bag_is_scored_as_a_whole_or_not_at_all():
    """In val and test only annotations of finished bags count; train takes what is accepted."""
    bags = [f"bag-{number}" for number in range(40)]
    definition = line()
    half_done = records_of([labelled(bag, is_whole=False) for bag in bags], definition)
    assert {one.split for one in half_done.records} == {"train"}
    assert half_done.left_out == {"bag not finished": 40 - len(half_done.records)}
    assert {one.split for one in records_of([labelled(bag) for bag in bags], definition).records} == {"train", "val", "test"}


def test_a_bag_is_clean_only_if_no_view_of_it_has_a_box():
    records = records_of([labelled("b", "top"), labelled("b", "side", boxes=()), labelled("c", boxes=())], line()).records
    assert {(one.bag_id, one.view_name): one.is_clean_bag for one in records} == {
        ("b", "top"): False,
        ("b", "side"): False,
        ("c", "top"): True,
    }
