"""A machine against its own history. Pure: takes points and earlier points, gives rows for the suites.

Two baselines, because each is blind to what the other sees: the machine's last scans show a jump, its first scans after the last calibration
show a fall too slow for the last ones.
Medians and median absolute deviations, so that odd bags in either do not count. Only validated scans are in a baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from scanloop.validation.frame import HISTORY_NUMBERS
from scanloop.validation.suites import HistoryLimits

JUDGED_TOGETHER = 60
"""Scans of a machine that are judged as one: more than that are cut by time, so that a drift does not hide behind the hours before it."""
RECENT, REFERENCE = 60, 40
"""Scans of a view in the baseline of the last and of the first after calibration."""
_GROUP = 5
"""Scans whose median is compared with that of the next ones: HistoryLimits.min_scans."""
_OF_MEDIAN = 1.2533
"""Standard error of a median, in that of a mean: the root of pi / 2."""
_TO_SIGMA = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation."""
_LITTLE_AIR = 0.02
"""With less air than this in a picture its level of air is not measured."""
_FIGURES = ("saturated_share", "dark_share", "dead_rows", "dead_columns")
_LEVELS = ("air_level", "air_noise")


@dataclass(frozen=True)
class Point:
    """What one scan says about its machine."""

    scan_id: str
    """Which scan."""
    at: datetime
    """When it was made."""
    planes: Mapping[str, Mapping[str, float | None]]
    """Plane to figure to value; None where this scan does not tell."""


@dataclass(frozen=True)
class Spread:
    """Median and spread of one figure over several scans."""

    middle: float
    """Median."""
    sigma: float
    """Standard deviation of single scans, from the median absolute deviation."""
    group_sigma: float
    """Standard deviation of the medians of a few scans that follow each other: what is left of chance, and what differs from day to day."""
    count: int
    """Scans that tell of it."""


@dataclass(frozen=True)
class Past:
    """Validated scans of one view of a machine, made before those that are judged, each part in the order of time."""

    recent: tuple[Point, ...] = ()
    """The last ones since its calibration."""
    reference: tuple[Point, ...] = ()
    """The first ones since its calibration."""
    earlier: tuple[Point, ...] = ()
    """The last ones before its calibration."""


def point_of(scan_id: str, at: datetime, statistics: Mapping[str, Mapping[str, Any]]) -> Point:
    """A point from the statistics of a scan's planes. The level of air is the peak of its values."""
    return Point(scan_id, at, {name: _figures(found) for name, found in sorted(statistics.items())})


def _figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    tells = not found["is_blank"] and found.get("air_share", 1.0) >= _LITTLE_AIR and "air_peak" in found
    levels = {"air_level": found["air_peak"] if tells else None, "air_noise": found["air_noise"] if tells else None}
    lines = {name: float(found[name]) if not found["is_blank"] else None for name in ("dead_rows", "dead_columns")}
    return {**levels, **lines, **{name: float(found[name]) for name in ("saturated_share", "dark_share", "is_blank")}}


def spread_of(points: Iterable[Point], plane: str, figure: str) -> Spread | None:
    """Median and spread of a figure of one plane; None if no point tells of it."""
    values = [value for point in points if (value := point.planes.get(plane, {}).get(figure)) is not None]
    if not values:
        return None
    middle = median(values)
    groups = [median(values[start : start + _GROUP]) for start in range(0, len(values) - _GROUP + 1, _GROUP)]
    sigma = _TO_SIGMA * median(abs(value - middle) for value in values)
    among_groups = _TO_SIGMA * median(abs(value - median(groups)) for value in groups) if groups else 0.0
    return Spread(middle, sigma, max(among_groups, _OF_MEDIAN * sigma / _GROUP**0.5), len(values))


@dataclass(frozen=True)
class Comparison:
    """What a view of a machine is compared with."""

    points: tuple[Point, ...]
    """The last scans, of this calibration if there are enough of them."""
    reference: tuple[Point, ...]
    """The first scans of this calibration; empty while there are too few."""
    weight: float
    """What a change counts for: 1, or less while the machine is only compared with what it did before its calibration."""
    name: str
    """How this is called."""


def comparison(past: Past, limits: HistoryLimits) -> Comparison | None:
    """What to compare with; None if there is too little history."""
    if len(past.recent) >= limits.min_history:
        return Comparison(past.recent, past.reference, 1.0, "its last scans")
    if len(past.earlier) >= limits.min_history:
        return Comparison(past.earlier, (), 1 / limits.settling, "its scans before calibration")
    return None


def history_rows(scanner_id: str, view: str, points: Sequence[Point], past: Past, limits: HistoryLimits) -> list[dict[str, Any]]:
    """One row for each plane: what the scans of one view in `points` (in the order of time) measured, what was expected, and what changed."""
    compared = comparison(past, limits)
    judged = list(points)
    if compared is not None and len(judged) < limits.min_scans:
        judged = [*past.recent, *judged][-limits.min_scans :]
    planes = sorted({plane for point in points for plane in point.planes})
    return [_row(scanner_id, view, plane, points, judged, compared, limits) for plane in planes]


def _row(
    scanner_id: str,
    view: str,
    plane: str,
    points: Sequence[Point],
    judged: Sequence[Point],
    compared: Comparison | None,
    limits: HistoryLimits,
) -> dict[str, Any]:
    now = {name: spread_of(judged, plane, name) for name in (*_LEVELS, *_FIGURES, "is_blank")}
    row: dict[str, Any] = dict.fromkeys(HISTORY_NUMBERS)
    row |= {
        "row_id": f"{scanner_id} {view} {plane} {points[0].at:%Y-%m-%dT%H:%M:%S}",
        "scanner_id": scanner_id,
        "view": view,
        "plane": plane,
        "since": points[0].at.isoformat(),
        "until": points[-1].at.isoformat(),
        "compared_with": compared.name if compared else "nothing yet",
        "scans": len(points),
        "history": len(compared.points) if compared else 0,
        "has_history": compared is not None,
    }
    for name in (*_LEVELS, *_FIGURES):
        before = spread_of(compared.points, plane, name) if compared else None
        found = now[name]
        row[name], row[f"expected_{name}"] = found.middle if found else None, before.middle if before else None
    if compared is None or len(judged) < limits.min_scans:
        return row
    row |= _changes(now, plane, compared, limits)
    blanks = [point.planes[plane]["is_blank"] for point in judged if plane in point.planes]
    row["blank_share"] = round(sum(value or 0.0 for value in blanks) / len(blanks), 4) if blanks else None
    return row


def _changes(now: Mapping[str, Spread | None], plane: str, compared: Comparison, limits: HistoryLimits) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for suffix, points in (("", compared.points), ("_since_calibration", compared.reference)):
        if len(points) < min(limits.min_history, REFERENCE):
            continue
        before = {name: spread_of(points, plane, name) for name in (*_LEVELS, *_FIGURES)}
        changes[f"gain_change{suffix}"] = _relative(now["air_level"], before["air_level"], compared.weight, limits.sigmas)
        changes[f"noise_change{suffix}"] = _relative(now["air_noise"], before["air_noise"], compared.weight, limits.sigmas)
        for name, figure, weight in (
            ("new_dead_columns", "dead_columns", 1.0),
            ("new_dead_rows", "dead_rows", 1.0),
            ("more_saturated", "saturated_share", compared.weight),
            ("more_dark", "dark_share", compared.weight),
        ):
            found = [changes.get(name), _absolute(now[figure], before[figure], weight, limits.sigmas)]
            changes[name] = max((value for value in found if value is not None), default=None)
        if not suffix:
            changes["air_shift"] = _absolute(now["air_level"], before["air_level"], compared.weight, limits.sigmas)
            changes["sigmas"] = _sigmas(now["air_level"], before["air_level"])
    return changes


def _relative(now: Spread | None, before: Spread | None, weight: float, sigmas: float) -> float | None:
    if now is None or before is None or before.middle <= 0:
        return None
    change = now.middle - before.middle
    return round(weight * change / before.middle, 5) if abs(change) > sigmas * before.group_sigma else 0.0


def _absolute(now: Spread | None, before: Spread | None, weight: float, sigmas: float) -> float | None:
    if now is None or before is None:
        return None
    change = now.middle - before.middle
    return round(weight * change, 5) if abs(change) > sigmas * before.group_sigma else 0.0


def _sigmas(now: Spread | None, before: Spread | None) -> float | None:
    """The change in standard deviations of medians of a few scans; None if those do not spread."""
    return round((now.middle - before.middle) / before.group_sigma, 1) if now and before and before.group_sigma > 0 else None


def gain_change_of(point: Point, past: Past, limits: HistoryLimits) -> float | None:
    """The largest relative change of the level of air in a single scan, signed; None if there is nothing to compare with."""
    compared = comparison(past, limits)
    if compared is None:
        return None
    found = []
    for plane, figures in point.planes.items():
        level, before = figures["air_level"], spread_of(compared.points, plane, "air_level")
        if level is not None and before is not None:
            of_one = replace(before, group_sigma=before.sigma)
            found.append(_relative(Spread(level, 0.0, 0.0, 1), of_one, compared.weight, limits.scan_sigmas) or 0.0)
    return max(found, key=abs, default=None)


def cut(points: Sequence[Any]) -> list[Sequence[Any]]:
    """Points in the order of time as parts of at most JUDGED_TOGETHER, as even as can be, so that none is left with a few."""
    parts = math.ceil(len(points) / JUDGED_TOGETHER)
    bounds = [round(number * len(points) / parts) for number in range(parts + 1)] if parts else [0]
    return [points[start:end] for start, end in pairwise(bounds)]
