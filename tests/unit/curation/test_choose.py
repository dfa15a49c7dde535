from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from scanloop.curation.choose import Candidate, Policy, choose, fair_quotas
from scanloop.curation.near_duplicates import Fingerprint


def candidate(
    bag: str, view: str = "top", *, scanner: str = "a", at: tuple[float, ...] = (0.0, 0.0), phash: str | None = None
) -> Candidate:
    scan_id = f"{bag}/{view}"
    own = hashlib.sha256(scan_id.encode()).hexdigest()[:16]
    return Candidate(Fingerprint(scan_id, bag, "Acme One", view, phash or own), scanner, "", at)


@st.composite
def pools(draw):
    bags = draw(st.lists(st.integers(0, 40), unique=True, max_size=14))
    return [
        candidate(
            f"b{bag}", view, scanner="abc"[bag % 3], at=(float(bag % 7), float(bag % 5)), phash=None if bag % 4 else f"{bag % 3:016x}"
        )
        for bag in bags
        for view in ("side", "top")[: 1 + bag % 2]
    ]


policies = st.builds(Policy, st.integers(1, 20), st.floats(0, 1), st.integers(0, 4), st.integers(0, 3))


@settings(deadline=None, max_examples=60)
@given(pools(), pools(), policies, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing_and_the_rules_hold(pool, past, policy, random):
    chosen_before = {scan.scan_id for scan in past}
    pool = [scan for scan in pool if scan.scan_id not in chosen_before]
    choices = choose(pool, past, policy)
    shuffled, shuffled_past = random.sample(pool, len(pool)), random.sample(past, len(past))
    assert choose(shuffled, shuffled_past, policy) == choices
    assert sorted(choice.scan_id for choice in choices) == sorted(scan.scan_id for scan in pool)
    assert [choice.rank for choice in choices] == list(range(1, len(choices) + 1))
    assert sum(choice.is_chosen for choice in choices) <= policy.budget_scans
    assert all(choice.reason and choice.is_chosen == (choice.stage in ("known_bag", "diverse", "exploration")) for choice in choices)
    fates = defaultdict(set)
    for choice in choices:
        fates[choice.scan_id.partition("/")[0]].add(choice.is_chosen)
    assert all(len(fate) == 1 for fate in fates.values()), "a bag was split"


def test_far_bags_are_chosen_before_near_ones():
    pool = [candidate(f"b{x}", at=(float(x), 0.0)) for x in (0, 1, 2, 50, 100)]
    choices = choose(pool, [candidate("old", at=(0.0, 0.0))], Policy(2, 0.0, 0, 0))
    assert [choice.scan_id for choice in choices[:2]] == ["b100/top", "b50/top"]
    assert [choice.score for choice in choices[:2]] == [100.0, 50.0]


def test_an_abundant_scanner_does_not_crowd_out_a_rare_one():
    pool = [candidate(f"a{x}", scanner="a", at=(100.0 + x, 0.0)) for x in range(20)] + [candidate("r", scanner="rare", at=(100.5, 0.0))]
    chosen = [choice.scan_id for choice in choose(pool, [], Policy(4, 0.0, 0, 0)) if choice.is_chosen]
    assert "r/top" in chosen
    assert len(chosen) == 4


def test_exploration_draws_by_seed():
    pool = [candidate(f"b{x}", at=(float(x), 0.0)) for x in range(40)]
    first, again, other = (
        {choice.scan_id for choice in choose(pool, [], Policy(10, 1.0, 0, seed)) if choice.stage == "exploration"} for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 10


def test_a_new_view_of_a_chosen_bag_comes_first_and_is_no_duplicate_of_itself():
    same = "f" * 16
    choices = choose(
        [candidate("b1", "top", phash=same), candidate("b2", at=(9.0, 9.0))], [candidate("b1", "side", phash=same)], Policy(1, 0.0, 4, 0)
    )
    assert [(choice.scan_id, choice.stage) for choice in choices] == [("b1/top", "known_bag"), ("b2/top", "budget")]


def test_a_duplicate_says_what_it_is_like():
    choices = choose([candidate("b1", phash="f" * 16)], [candidate("b0", phash="f" * 15 + "e")], Policy(5, 0.0, 4, 0))
    assert [choice.stage for choice in choices] == ["near_duplicate"]
    assert "b0/top" in choices[0].reason
    assert "1 of 64 bits" in choices[0].reason


@pytest.mark.parametrize(
    ("scans", "budget", "expected"),
    [
        ({"a": 10, "b": 10}, 6, {"a": 3, "b": 3}),
        ({"a": 100, "b": 1}, 10, {"a": 9, "b": 1}),
        ({"a": 2, "b": 2}, 100, {"a": 2, "b": 2}),
        ({"a": 5, "b": 5, "c": 5}, 4, {"a": 2, "b": 1, "c": 1}),
        ({}, 5, {}),
        ({"a": 3}, 0, {"a": 0}),
    ],
)
def test_quotas_share_the_budget(scans, budget, expected):
    assert fair_quotas(Counter(scans), budget) == expected
