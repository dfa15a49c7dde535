from __future__ import annotations

import math

import pytest
from snapshot_records import KNIFE, record

from scanloop.labelling.boxes import Box
from scanloop.snapshots.balance import balance_of, repeat_factors, weighed

GUN = Box("handgun", (1, 1, 2, 2))


def test_a_rare_cell_is_repeated_by_the_square_root_of_what_it_lacks():
    records = [record(f"b{n}", boxes=(KNIFE,)) for n in range(99)] + [record("g", boxes=(GUN, GUN))]
    assert repeat_factors(records, 0.25) == (("acme-one-1", "handgun", pytest.approx(5.0)),)


def test_cells_are_of_scanner_and_category():
    records = [record(f"b{n}") for n in range(9)] + [record("other", scanner_id="acme-two-1")]
    assert repeat_factors(records, 0.4) == (("acme-two-1", "knife", pytest.approx(2.0)),)


def test_a_record_has_the_largest_factor_of_its_cells():
    records = [record(f"b{n}") for n in range(99)] + [record("g", boxes=(GUN, KNIFE))]
    balance = balance_of(records, repeat_threshold=0.5, clean_bag_ratio=1, seed=0)
    assert weighed(records[-1], balance, 0).weight == pytest.approx(math.sqrt(50))
    assert weighed(records[0], balance, 0).weight == 1
    assert weighed(record("t", split="test", boxes=(GUN,)), balance, 0).weight == 1
    assert weighed(record("w", split="withheld"), balance, 0).weight == 0


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 0), (0.5, 2), (1.0, 4), (2.5, 10), (99.0, 12)])
def test_clean_train_bags_are_capped_by_bags_with_a_threat(ratio, kept):
    threats = [record(f"t{n}") for n in range(4)]
    clean = [record(f"c{n}", view, boxes=()) for n in range(12) for view in ("side", "top")]
    balance = balance_of([*threats, *clean], repeat_threshold=0, clean_bag_ratio=ratio, seed=3)
    used = [one for one in clean if weighed(one, balance, 3).weight > 0]
    assert len({one.bag_id for one in used}) == kept
    assert len(used) == 2 * kept, "the views of a bag stay together"
    assert all(weighed(one, balance, 3).weight > 0 for one in threats)
    assert weighed(record("c", boxes=(), split="test"), balance, 3).weight == 1, "clean test bags are never left out"


def test_without_threats_no_clean_bag_is_left_out():
    clean = [record(f"c{n}", boxes=()) for n in range(5)]
    assert balance_of(clean, repeat_threshold=0.1, clean_bag_ratio=1, seed=0).clean_cut is None


def test_clean_bags_that_are_kept_stay_when_more_arrive():
    threats = [record(f"t{n}") for n in range(3)]
    clean = [record(f"c{n}", boxes=()) for n in range(40)]

    def kept(count):
        balance = balance_of([*threats, *clean[:count]], repeat_threshold=0, clean_bag_ratio=1, seed=0)
        return {one.bag_id for one in clean[:count] if weighed(one, balance, 0).weight > 0}

    assert len(kept(20)) == len(kept(40)) == 3
    draws = sorted(kept(20) | kept(40))
    assert len(draws) <= 6
