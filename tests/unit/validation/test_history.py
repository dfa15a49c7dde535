"""A machine against its own history, as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from scanloop.validation.history import (
    JUDGED_TOGETHER,
    RECENT,
    REFERENCE,
    Past,
    Point,
    comparison,
    cut,
    gain_change_of,
    history_rows,
    point_of,
)
from scanloop.validation.suites import HistoryLimits

LIMITS = HistoryLimits()
START = datetime(2026, 3, 1, tzinfo=UTC)
FIGURES = {"air_peak": 0.98, "air_noise": 0.005, "air_share": 0.4, "saturated_share": 0.002, "dark_share": 0.01}
FIGURES |= {"dead_rows": 1, "dead_columns": 0, "is_blank": False}


def points(count: int, start: int = 0, seed: int = 0, **figures: Any) -> tuple[Point, ...]:
    """Scans a minute apart whose levels scatter by 0.04 %."""
    scatter = np.random.default_rng(seed).normal(1, 4e-4, count)
    found = FIGURES | figures
    statistics = [{"high": found | {"air_peak": found["air_peak"] * factor}} for factor in scatter]
    return tuple(
        point_of(f"{seed}-{start + number}", START + timedelta(minutes=start + number), one) for number, one in enumerate(statistics)
    )


def row(judged: tuple[Point, ...], past: Past) -> dict[str, Any]:
    (found,) = history_rows("argus-1", "top", judged, past, LIMITS)
    return found


PAST = Past(points(60, seed=1), points(40, seed=2))


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({}, "gain_change", 0.0),
        ({"air_peak": 0.98 * 0.97}, "gain_change", -0.03),
        ({"air_peak": 0.98 * 1.01}, "gain_change", 0.01),
        ({"air_noise": 0.0075}, "noise_change", 0.5),
        ({"dead_rows": 5}, "new_dead_rows", 4),
        ({"dead_rows": 0}, "new_dead_rows", -1),
        ({"dead_columns": 2}, "new_dead_columns", 2),
        ({"saturated_share": 0.102}, "more_saturated", 0.1),
        ({"dark_share": 0.31}, "more_dark", 0.3),
        ({"is_blank": True}, "blank_share", 1.0),
    ],
    ids=["nothing", "gain falls", "gain rises", "noise", "dead rows", "repaired row", "dead columns", "saturated", "dark", "blank"],
)
def test_a_change_is_measured_against_the_last_scans(change: dict[str, Any], column: str, value: float) -> None:
    found = row(points(12, 100, seed=3, **change), PAST)
    assert found[column] == pytest.approx(value, abs=6e-4)
    assert (found["has_history"], found["compared_with"], found["scans"], found["history"]) == (True, "its last scans", 12, 60)


def test_a_slow_fall_is_seen_since_calibration_when_the_last_scans_fell_with_it() -> None:
    found = row(points(12, 500, air_peak=0.98 * 0.97), Past(points(60, 400, air_peak=0.98 * 0.971), points(40)))
    assert abs(found["gain_change"]) < 0.003
    assert found["gain_change_since_calibration"] == pytest.approx(-0.03, abs=6e-4)


def test_a_suite_that_asks_for_all_the_history_there_can_be_still_compares_with_both_baselines() -> None:
    limits = HistoryLimits(min_history=RECENT)
    (found,) = history_rows("argus-1", "top", points(12, 500, air_peak=0.98 * 0.97), Past(points(RECENT), points(REFERENCE)), limits)
    assert found["gain_change"] == pytest.approx(-0.03, abs=6e-4)
    assert found["gain_change_since_calibration"] == pytest.approx(-0.03, abs=6e-4)
    with pytest.raises(ValidationError):
        HistoryLimits(min_history=RECENT + 1)


def test_dead_lines_that_come_one_by_one_add_up() -> None:
    found = row(points(12, 500, dead_rows=4), Past(points(60, 400, dead_rows=3), points(40)))
    assert found["new_dead_rows"] == 3


def test_with_little_history_nothing_is_judged_and_that_is_said() -> None:
    found = row(points(12, 100, air_peak=0.5), Past(points(LIMITS.min_history - 1)))
    assert (found["has_history"], found["compared_with"], found["gain_change"], found["blank_share"]) == (False, "nothing yet", None, None)
    assert found["air_level"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("share", "counted"), [(0.97, -0.03 / 4), (0.8, -0.2 / 4)])
def test_after_a_calibration_a_machine_is_compared_with_before_until_it_has_a_history_again(share: float, counted: float) -> None:
    past = Past(points(5, 90), points(5, 90), points(60))
    found = row(points(12, 100, air_peak=0.98 * share), past)
    assert found["compared_with"] == "its scans before calibration"
    assert found["gain_change"] == pytest.approx(counted, abs=2e-4)
    assert found["gain_change_since_calibration"] is None


def test_dead_lines_count_whole_after_a_calibration_too() -> None:
    assert row(points(12, 100, dead_rows=3), Past((), (), points(60)))["new_dead_rows"] == 2


def test_one_odd_bag_is_never_the_majority() -> None:
    odd = points(1, 100, air_peak=0.7, dead_rows=40)
    for judged in (odd, (*points(1, 99), *odd), (*odd, *points(6, 101))):
        found = row(judged, PAST)
        assert abs(found["gain_change"]) < 0.002
        assert found["new_dead_rows"] == 0


def test_odd_bags_in_the_history_do_not_count() -> None:
    past = Past((*points(50), *points(10, 50, air_peak=0.6)), points(40))
    assert row(points(12, 100, air_peak=0.98 * 0.97), past)["gain_change"] == pytest.approx(-0.03, abs=6e-4)


def test_a_change_within_the_machines_own_spread_is_none() -> None:
    wild = np.random.default_rng(5).normal(0.98, 0.02, 60)
    past = Past(tuple(one for number, level in enumerate(wild) for one in points(1, number, air_peak=level)))
    assert row(points(12, 100, air_peak=0.98 * 0.95), past)["gain_change"] == 0.0
    assert row(points(12, 100, air_peak=0.98 * 0.8), past)["gain_change"] == pytest.approx(-0.2, abs=0.02)


def test_a_scan_without_air_or_of_before_does_not_tell_of_gain() -> None:
    (full,) = points(1, 100, air_share=0.01, air_peak=0.5)
    old = point_of("old", START, {"high": {name: value for name, value in FIGURES.items() if name != "air_peak"}})
    assert gain_change_of(full, PAST, LIMITS) is None
    assert old.planes["high"]["air_level"] is None
    assert gain_change_of(points(1, 100, air_peak=0.49)[0], PAST, LIMITS) == pytest.approx(-0.5, abs=0.01)
    assert gain_change_of(points(1, 100)[0], Past(), LIMITS) is None


def test_what_is_judged_together_is_cut_evenly_and_keeps_its_order() -> None:
    for count in (0, 1, JUDGED_TOGETHER, JUDGED_TOGETHER + 1, 1000):
        parts = cut(list(range(count)))
        assert [number for part in parts for number in part] == list(range(count))
        assert all(len(part) <= JUDGED_TOGETHER for part in parts)
        assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


def test_the_latest_history_counts_whatever_was_long_before() -> None:
    compared = comparison(Past(points(30, 50), points(30, 50), points(60, air_peak=0.5)), LIMITS)
    assert compared is not None
    assert (compared.name, len(compared.points), compared.weight) == ("its last scans", 30, 1.0)
