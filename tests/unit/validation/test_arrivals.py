"""What a scanner delivers against what it usually does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scanloop.validation.arrivals import Arrivals, judge, rate_of

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
"""A Monday."""
Rate = Callable[[datetime], float]


def office(hour: datetime) -> float:
    """Forty bags an hour by day, none at night, a quarter at weekends."""
    return 0.0 if not 6 <= hour.hour < 20 else 10.0 if hour.weekday() >= 5 else 40.0


def arrivals(rate: Rate, days: int = 28, until: datetime = NOW, seed: int = 1, busy: float = 0.0) -> Arrivals:
    """Poisson arrivals; `busy`: how much the rate of whole days varies."""
    rng = np.random.default_rng(seed)
    hours: dict[datetime, int] = {}
    factor = 1.0
    for number in range(24 * days):
        hour = NOW - timedelta(days=days) + timedelta(hours=number)
        if hour.hour == 0:
            factor = max(0.1, rng.normal(1, busy))
        if hour < until and (count := int(rng.poisson(rate(hour) * factor))):
            hours[hour] = count
    return Arrivals("argus-1", hours, max(hours) + timedelta(minutes=59))


def test_a_rate_knows_the_hour_of_the_week() -> None:
    rate = rate_of(arrivals(office).hours, NOW)
    assert rate is not None
    assert rate.basis == "hour of week"
    monday, sunday = datetime(2026, 3, 30, 10, tzinfo=UTC), datetime(2026, 3, 29, 10, tzinfo=UTC)
    assert rate.expected(monday, monday + timedelta(hours=1)) == pytest.approx(40, rel=0.35)
    assert rate.expected(sunday, sunday + timedelta(hours=1)) == pytest.approx(10, rel=0.7)
    assert rate.expected(monday.replace(hour=1), monday.replace(hour=3)) < 20
    assert rate.dispersion < 4


def test_a_short_history_knows_the_hour_of_the_day_only() -> None:
    rate = rate_of(arrivals(office, days=6).hours, NOW)
    assert rate is not None
    assert rate.basis == "hour of day"


@pytest.mark.parametrize("found", [arrivals(office, days=2), arrivals(lambda hour: 0.02, days=28, seed=3)], ids=["two days", "few scans"])
def test_too_little_history_is_said_and_judged_no_further(found: Arrivals) -> None:
    finding = judge(found, NOW)
    assert (finding.state, finding.expected, finding.chance_silent) == ("new", None, None)


@pytest.mark.parametrize(
    ("silent_h", "state"),
    [(0, "regular"), (1, "silent"), (24, "silent"), (24 * 29, "silent"), (24 * 31, "gone")],
)
def test_silence_counts_from_what_was_expected_since(silent_h: int, state: str) -> None:
    since = NOW - timedelta(hours=silent_h)
    found = arrivals(office, until=since) if silent_h < 24 * 20 else Arrivals("argus-1", {}, since)
    expected = state if found.hours or state == "gone" else "new"
    assert judge(found, NOW).state == expected


def test_a_night_without_scans_is_no_silence() -> None:
    night = NOW.replace(hour=5)
    found = arrivals(office, until=NOW.replace(hour=0))
    assert judge(found, night).state == "regular"


def test_a_flood_is_told_with_the_window_it_came_in() -> None:
    found = arrivals(office)
    hour = NOW - timedelta(hours=1)
    finding = judge(Arrivals("argus-1", {**found.hours, hour: 900}, found.last_at), NOW)
    assert (finding.state, finding.window_h, finding.observed) == ("flooding", 1.0, 900)
    assert finding.expected == pytest.approx(40, rel=0.5)


def test_a_day_with_a_tenth_of_the_scans_is_few() -> None:
    found = arrivals(office)
    thinned = {hour: count // 10 if hour >= NOW - timedelta(days=1) else count for hour, count in found.hours.items()}
    assert judge(Arrivals("argus-1", thinned, found.last_at), NOW).state == "few"


def test_days_that_vary_much_widen_the_bounds() -> None:
    wild = rate_of(arrivals(office, busy=0.5).hours, NOW)
    assert wild is not None
    assert wild.dispersion > 10


@pytest.mark.parametrize("busy", [0.0, 0.2, 0.5])
def test_regular_scanners_are_told_of_rarely(busy: float) -> None:
    states = [judge(arrivals(office, seed=seed, busy=busy), NOW).state for seed in range(150)]
    assert states.count("regular") >= 147
