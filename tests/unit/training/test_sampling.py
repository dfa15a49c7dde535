"""The order of showing: by weight, the same for a seed, and resumable anywhere."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanloop.training.sampling import RepeatFactorSampler, epoch_order


@given(st.lists(st.floats(0.1, 4), min_size=1, max_size=30), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_one_pass_shows_a_scan_by_its_weight(weights, seed, epoch):
    counts = np.bincount(epoch_order(weights, seed, epoch), minlength=len(weights))
    if sum(int(weight) for weight in weights):
        assert all(int(weight) <= count <= int(weight) + 1 for weight, count in zip(weights, counts, strict=True))
    assert counts.sum() >= 1


def test_fractions_come_true_on_average():
    shown = np.bincount(np.concatenate([epoch_order([1.0, 1.5, 2.25], 3, epoch) for epoch in range(2000)]), minlength=3) / 2000
    assert np.allclose(shown, [1.0, 1.5, 2.25], atol=0.05)


@given(skipped=st.lists(st.integers(0, 40), max_size=3), seed=st.integers(0, 100))
def test_skipping_is_what_showing_would_have_been(skipped, seed):
    weights = [1.0, 2.5, 1.2, 1.0]
    straight = list(islice(RepeatFactorSampler(weights, seed), 140))
    resumed = RepeatFactorSampler(weights, seed)
    for number in skipped:
        resumed.skip(number)
    assert list(islice(resumed, 20)) == straight[sum(skipped) : sum(skipped) + 20]


def test_another_seed_gives_another_order():
    orders = [[draw.index for draw in islice(RepeatFactorSampler([1.0] * 20, seed), 40)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2][:20]) == list(range(20))


@given(share=st.integers(1, 4), processes=st.integers(1, 4), steps=st.integers(1, 6), skipped=st.integers(0, 5))
def test_processes_together_show_what_one_shows(share, processes, steps, skipped):
    weights = [1.0, 2.5, 1.0, 0.3, 1.7]
    parts = [RepeatFactorSampler(weights, 3, share, rank, processes) for rank in range(processes)]
    for part in parts:
        part.skip(skipped * share)
    shown = [list(islice(part, steps * share)) for part in parts]
    together = [draw for step in range(steps) for part in shown for draw in part[step * share : (step + 1) * share]]
    alone = RepeatFactorSampler(weights, 3)
    alone.skip(skipped * share * processes)
    assert together == list(islice(alone, steps * share * processes))
