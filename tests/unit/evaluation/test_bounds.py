"""Bounds against published values, closed forms and exact enumeration."""

from __future__ import annotations

from math import comb
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanloop.evaluation.bounds import _score, bags_to_settle, clopper_pearson, paired_difference


@pytest.mark.parametrize(
    ("count", "total", "lower", "upper"),
    [
        (59, 59, 0.9505, 1.0),
        (58, 58, 0.9497, 1.0),
        (0, 300, 0.0, 0.00994),
        (0, 10, 0.0, 0.2589),
        (5, 10, 0.2224, 0.7776),
        (1, 20, 0.00256, 0.2161),
    ],
    ids=["59 of 59", "58 of 58", "300 clean", "10 clean", "half of 10", "1 of 20"],
)
def test_clopper_pearson_equals_published_values(count: int, total: int, lower: float, upper: float) -> None:
    rate = clopper_pearson(count, total, 0.95)
    assert rate.lower == pytest.approx(lower, abs=6e-5)
    assert rate.upper == pytest.approx(upper, abs=6e-5)


def test_pass_marks_of_regulators() -> None:
    assert clopper_pearson(59, 59, 0.95).lower >= 0.95
    assert clopper_pearson(58, 58, 0.95).lower < 0.95
    assert clopper_pearson(0, 300, 0.95).upper <= 0.01


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_inverts_the_binomial(counted: tuple[int, int], confidence: float) -> None:
    count, total = counted
    rate = clopper_pearson(count, total, confidence)

    def at_least(p: float) -> float:
        return sum(comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(count, total + 1))

    if count:
        assert at_least(rate.lower) == pytest.approx(1 - confidence, abs=1e-9)
    if count < total:
        at_most = 1 - sum(comb(total, k) * rate.upper**k * (1 - rate.upper) ** (total - k) for k in range(count + 1, total + 1))
        assert at_most == pytest.approx(1 - confidence, abs=1e-9)


def test_nothing_counted_says_nothing() -> None:
    rate = clopper_pearson(0, 0, 0.95)
    assert (rate.lower, rate.upper, rate.rate) == (0.0, 1.0, None)
    difference = paired_difference(0, 0, 0, 0.95)
    assert (difference.lower, difference.upper, difference.difference) == (-1.0, 1.0, None)


@pytest.mark.parametrize("total", [5, 20, 59, 500])
def test_no_differing_bag_has_the_closed_form(total: int) -> None:
    z = 1.6448536269514722
    bound = paired_difference(total, 0, 0, 0.95)
    assert bound.lower == pytest.approx(-(z**2) / (total + z**2), abs=1e-9)
    assert bound.upper == pytest.approx(-bound.lower)


def test_score_statistic_of_the_original_paper() -> None:
    # 44 patients, one of them treated well by one method alone: Z = 1.709 against a margin of 10 % (Tango 1998, section 5).
    assert paired_difference(44, 0, 1, NormalDist().cdf(1.709)).lower == pytest.approx(-0.1, abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 60))
def test_paired_bounds_hold_the_observed_and_mirror(gained: int, lost: int, same: int) -> None:
    bound = paired_difference(gained + lost + same, gained, lost, 0.95)
    mirrored = paired_difference(gained + lost + same, lost, gained, 0.95)
    assert bound.difference is not None
    assert -1 <= bound.lower <= bound.difference <= bound.upper <= 1
    assert bound.lower == pytest.approx(-mirrored.upper, abs=1e-9)


@pytest.mark.parametrize(("total", "lost_share", "gained_share"), [(40, 0.10, 0.0), (60, 0.15, 0.05), (30, 0.30, 0.20)])
def test_a_drop_as_large_as_the_margin_rarely_passes(total: int, lost_share: float, gained_share: float) -> None:
    """Exact chance, over every possible outcome, that a candidate whose true drop is the whole margin is called non-inferior."""
    margin = lost_share - gained_share
    chance = 0.0
    for lost in range(total + 1):
        for gained in range(total - lost + 1):
            same = total - lost - gained
            p = (
                comb(total, lost)
                * comb(total - lost, gained)
                * lost_share**lost
                * gained_share**gained
                * (1 - lost_share - gained_share) ** same
            )
            if p > 1e-12 and paired_difference(total, gained, lost, 0.95).lower >= -margin:
                chance += p
    assert 0.005 < chance < 0.065


@pytest.mark.parametrize(("total", "gained", "lost", "margin"), [(10, 0, 0, 0.15), (40, 1, 2, 0.1), (20, 0, 8, 0.15), (0, 0, 0, 0.05)])
def test_forecast_is_the_smallest_number_that_settles(total: int, gained: int, lost: int, margin: float) -> None:
    needed = bags_to_settle(paired_difference(total, gained, lost, 0.95), margin)
    assert needed is not None

    def settles(bags: int) -> bool:
        scale = bags / total if total else 0
        bound = _scaled(bags, gained * scale, lost * scale)
        return bound[0] >= -margin or bound[1] < -margin

    assert settles(needed)
    assert needed <= total or not settles(needed - 1)


def _scaled(total: int, gained: float, lost: float) -> tuple[float, float]:
    """The score interval by walking over a grid of differences, for fractional counts too."""
    inside = [
        delta for delta in np.linspace(-0.9999, 0.9999, 10_001) if abs(_score(delta, total, gained, lost)) <= NormalDist().inv_cdf(0.95)
    ]
    return float(inside[0]), float(inside[-1])


def test_a_difference_at_the_margin_cannot_be_settled() -> None:
    assert bags_to_settle(paired_difference(100, 0, 10, 0.95), 0.1) is None


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="expected a count"):
        clopper_pearson(count, total, 0.95)
    with pytest.raises(ValueError, match="expected gained"):
        paired_difference(total, count, 0, 0.95)
