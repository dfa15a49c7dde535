"""How much a scanner delivers, against what it usually does at this hour of the week. Pure.

Counts are Poisson where nothing else makes them vary; people, flights and holidays do, so the bounds are wider by the factor by which a machine's own
days vary more than Poisson. What is found is told and holds nothing back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HISTORY_DAYS = 28
"""How far back a rate is learned from."""
SILENCE = 1e-4
"""A machine is silent when so little chance is left that nothing came by chance."""
FLOOD = 1e-6
"""It floods, or delivers few, when so little chance is left that as many, or as few, came by chance."""
GONE_DAYS = 30
"""A machine that delivered nothing for so long is gone: nobody is told again that it is silent."""
_MIN_DAYS, _MIN_SCANS = 3, 30
"""Less history than this is no rate."""
_HOUR = timedelta(hours=1)
_WEEK_HOURS = 168
_WEEKS_FOR_WEEKDAYS = 2
_PRIOR_OF_DAY, _PRIOR_OF_WEEK = 0.25, 0.5
"""Hours at the overall rate that an hour of the day is mixed with, and at the rate of its hour of the day that one of the week is: an hour that never
had a scan has a rate all the same."""


@dataclass(frozen=True)
class Arrivals:
    """What is known about one scanner's deliveries."""

    scanner_id: str
    """The scanner."""
    hours: Mapping[datetime, int]
    """Start of an hour to scans made in it, hours without any left out; at most HISTORY_DAYS."""
    last_at: datetime
    """When its last scan was made."""


@dataclass(frozen=True)
class Rate:
    """What a scanner usually delivers."""

    by_slot: Sequence[float]
    """Scans an hour, for each hour of the week."""
    dispersion: float
    """How many times as much as Poisson its days vary, at least 1."""
    days: float
    """Days it was learned from."""
    basis: str
    """hour of week, hour of day or overall: what the history is long enough for."""

    def expected(self, start: datetime, end: datetime) -> float:
        """Scans between two moments."""
        total, hour = 0.0, _hour_of(start)
        while hour < end:
            share = (min(end, hour + _HOUR) - max(start, hour)) / _HOUR
            total += share * self.by_slot[_slot(hour)]
            hour += _HOUR
        return total


@dataclass(frozen=True)
class ArrivalFinding:
    """How a scanner's deliveries are at a moment."""

    scanner_id: str
    """The scanner."""
    state: str
    """regular, silent, few, flooding, new (too little history) or gone."""
    last_at: datetime
    """When its last scan was made."""
    observed: int
    """Scans of the window that decided."""
    expected: float | None
    """Scans expected in it; None without a rate."""
    window_h: float
    """Length of that window, hours."""
    chance_silent: float | None
    """How likely it is that nothing came since its last scan by chance."""
    chance_flood: float | None
    """How likely it is that as much came in the last hour, or day, by chance."""
    chance_few: float | None
    """How likely it is that as little came in the last day by chance."""
    rate_a_day: float | None
    """Scans a day that it usually delivers."""
    basis: str
    """What the rate was learned from."""


def rate_of(hours: Mapping[datetime, int], until: datetime) -> Rate | None:
    """Learn a rate from whole hours before `until`; None if there are too few days or scans."""
    known = {hour: count for hour, count in hours.items() if hour + _HOUR <= until}
    if sum(known.values()) < _MIN_SCANS:
        return None
    first, last = min(known), _hour_of(until)
    length = round((last - first) / _HOUR)
    if length < 24 * _MIN_DAYS:
        return None
    overall = sum(known.values()) / length
    weeks = length / _WEEK_HOURS
    of_day = _rates(known, first, length, 24, [overall] * 24, _PRIOR_OF_DAY)
    basis = "hour of week" if weeks >= _WEEKS_FOR_WEEKDAYS else "hour of day"
    by_slot = of_day * 7
    if basis == "hour of week":
        by_slot = _rates(known, first, length, _WEEK_HOURS, by_slot, _PRIOR_OF_WEEK)
    return Rate(by_slot, _dispersion(known, first, length, by_slot), length / 24, basis)


def _rates(
    known: Mapping[datetime, int], first: datetime, length: int, period: int, usual: Sequence[float], prior_hours: float
) -> list[float]:
    """Scans an hour in each hour of a period, mixed with what is usual as if that had been seen for some hours."""
    counts, seen = [0] * period, [0] * period
    for number in range(length):
        hour = first + number * _HOUR
        counts[_slot(hour) % period] += known.get(hour, 0)
        seen[_slot(hour) % period] += 1
    return [(counts[slot] + prior_hours * usual[slot]) / (seen[slot] + prior_hours) for slot in range(period)]


def _dispersion(known: Mapping[datetime, int], first: datetime, length: int, by_slot: Sequence[float]) -> float:
    """Pearson's statistic a day: squared distance from what is expected, in what is expected. Whole days only."""
    terms = []
    for day in range(length // 24):
        hours = [first + timedelta(hours=24 * day + number) for number in range(24)]
        expected = sum(by_slot[_slot(hour)] for hour in hours)
        if expected > 0:
            terms.append((sum(known.get(hour, 0) for hour in hours) - expected) ** 2 / expected)
    return max(1.0, sum(terms) / max(1, len(terms) - 1)) if terms else 1.0


def judge(found: Arrivals, now: datetime) -> ArrivalFinding:
    """How the scanner's deliveries are at `now`. The last day is judged by what was before it: a flood does not become usual while it lasts."""
    rate = rate_of(found.hours, min(now - timedelta(days=1), found.last_at))
    silent_h = (now - found.last_at) / _HOUR
    if now - found.last_at > timedelta(days=GONE_DAYS):
        return ArrivalFinding(found.scanner_id, "gone", found.last_at, 0, None, round(silent_h, 1), None, None, None, None, "")
    if rate is None:
        total = sum(found.hours.values())
        return ArrivalFinding(
            found.scanner_id, "new", found.last_at, total, None, round(silent_h, 1), None, None, None, None, "too little history"
        )
    since = rate.expected(found.last_at, now)
    chance_silent = math.exp(-since / rate.dispersion)
    windows = []
    for hours in (1, 24):
        start = now - timedelta(hours=hours)
        observed = sum(count for hour, count in found.hours.items() if start <= hour < now or hour <= start < hour + _HOUR)
        windows.append((hours, observed, rate.expected(_hour_of(start), now)))
    floods = [(_at_least(observed, expected, rate.dispersion), hours, observed, expected) for hours, observed, expected in windows]
    chance_flood, flood_h, flooding, usual = min(floods)
    _, observed, expected = windows[-1]
    chance_few = _at_most(observed, expected, rate.dispersion)
    if chance_silent < SILENCE:
        state, window = "silent", (silent_h, 0, since)
    elif chance_flood < FLOOD:
        state, window = "flooding", (float(flood_h), flooding, usual)
    elif chance_few < FLOOD:
        state, window = "few", (24.0, observed, expected)
    else:
        state, window = "regular", (24.0, observed, expected)
    return ArrivalFinding(
        found.scanner_id, state, found.last_at, window[1], round(window[2], 2), round(window[0], 1),
        chance_silent, chance_flood, chance_few, round(sum(rate.by_slot) / 7, 1), f"{rate.basis} of {rate.days:.0f} days",
    )  # fmt: skip


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _slot(hour: datetime) -> int:
    return hour.weekday() * 24 + hour.hour


def _at_most(count: int, expected: float, dispersion: float) -> float:
    """Chance of at most `count` events of a Poisson number whose variance is `dispersion` times as large, counted in units of that."""
    return _poisson_cdf(math.floor(count / dispersion), expected / dispersion)


def _at_least(count: int, expected: float, dispersion: float) -> float:
    units = math.floor(count / dispersion)
    return 1.0 if units <= 0 else _poisson_tail(units, expected / dispersion)


def _poisson_cdf(count: int, mean: float) -> float:
    """P(X <= count). Sums upwards from the smallest term that matters."""
    if mean <= 0:
        return 1.0
    return min(1.0, math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)))


def _poisson_tail(count: int, mean: float) -> float:
    """P(X >= count), exact also where it is tiny."""
    if mean <= 0:
        return 0.0
    if count <= mean:
        return max(0.0, 1.0 - _poisson_cdf(count - 1, mean))
    total, term = 0.0, math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    k = count
    while term > total * 1e-16 and term > 0:
        total += term
        k += 1
        term *= mean / k
    return min(1.0, total)
