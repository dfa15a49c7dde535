"""The scans of a batch as stretches of machines: what is judged as one, what it is compared with, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from scanloop.catalog import Catalog
from scanloop.validation.baselines import Wanted, pasts
from scanloop.validation.history import Past, Point, cut, gain_change_of, history_rows, point_of
from scanloop.validation.suites import ScannerSuite

Scan = Mapping[str, Any]


@dataclass
class Stretch:
    """Scans of one machine, made one after the other, that are judged as one: all its views, of one suite and one calibration."""

    scanner_id: str
    """The machine."""
    suite: ScannerSuite
    """What is expected of it."""
    scans: list[Scan]
    """Its scans, in the order of time."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row of the history table for each view and plane."""
    views: dict[str, tuple[Past, list[Point]]] = field(default_factory=dict)
    """View to what it was compared with and what was judged."""
    failed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Row to the names of the checks it failed."""

    @property
    def has_history(self) -> bool:
        """Whether at least one view could be compared."""
        return any(row["has_history"] for row in self.rows)

    @property
    def blocking(self) -> tuple[str, ...]:
        """Names of the failed checks because of which its scans are held, in the suite's order."""
        return self.suite.history.blocking(tuple({name for names in self.failed.values() for name in names}))

    def reason(self) -> str:
        """What failed, what was expected, and what was measured where, for people."""
        parts = []
        for name in self.blocking:
            check = next(check for check in self.suite.history.checks if check.name == name)
            where = [self._measured(row, check.arguments["column"]) for row in self.rows if name in self.failed.get(row["row_id"], ())]
            parts.append(f"{name} (expected: {check.says}; found: {', '.join(where)})")
        return "; ".join(parts)

    def _measured(self, row: Mapping[str, Any], column: str) -> str:
        place = f"{row['view']} {row['plane']}"
        if column in _MEASURES:
            figure, unit = _MEASURES[column]
            return f"{place} {_text(row[figure], unit)} instead of {_text(row[f'expected_{figure}'], unit)}"
        if column.endswith("_change_since_calibration"):
            return f"{place} {row[column]:+.1%} since calibration"
        return f"{place} {row[column]:.1%}"


_MEASURES = {
    "gain_change": ("air_level", "level"),
    "air_shift": ("air_level", "level"),
    "noise_change": ("air_noise", "level"),
    "new_dead_columns": ("dead_columns", "count"),
    "new_dead_rows": ("dead_rows", "count"),
    "more_saturated": ("saturated_share", "share"),
    "more_dark": ("dark_share", "share"),
}
"""Column of a change to the figure that changed, and how that is written."""


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4f}" if unit == "level" else f"{value:g} lines" if unit == "count" else f"{value:.1%}"


def stretches_of(scans: Sequence[Scan], suites: Mapping[str, ScannerSuite], let_out: Collection[str]) -> list[Stretch]:
    """Stretches from scans. `suites` gives each scan's suite by its id. Test scans, scans without a time and those that a person let out of
    quarantine although their machine had drifted are in none.
    """
    judged = [
        scan
        for scan in scans
        if scan["acquired_at"]
        and scan["scan_type"] == "operational"
        and scan["scan_id"] not in let_out
        and suites[scan["scan_id"]].history.checks
    ]

    def machine(scan: Scan) -> tuple[str, ...]:
        said = scan["attributes"].get("calibrated_on")
        return (scan["scanner_id"], suites[scan["scan_id"]].name, scan["modality"], str(said or ""))

    found: list[Stretch] = []
    for key, members in groupby(sorted(judged, key=lambda scan: (machine(scan), scan["acquired_at"], scan["scan_id"])), machine):
        found += [Stretch(key[0], suites[part[0]["scan_id"]], list(part)) for part in cut(list(members))]
    return found


def compare_machines(catalog: Catalog, stretches: Sequence[Stretch]) -> dict[str, float | None]:
    """Fill in rows and views of every stretch from the catalog's history. Returns each scan's change of gain against that."""
    changes: dict[str, float | None] = {}
    places = list(_places(stretches))
    for (stretch, view, points), (_, past) in zip(places, pasts(catalog, [_wanted(*place) for place in places]), strict=True):
        limits = stretch.suite.limits
        stretch.views[view] = (past, points)
        stretch.rows += history_rows(stretch.scanner_id, view, points, past, limits)
        changes |= {point.scan_id: gain_change_of(point, past, limits) for point in points}
    return changes


def _places(stretches: Sequence[Stretch]) -> Iterator[tuple[Stretch, str, list[Point]]]:
    for stretch in stretches:
        for view in sorted({scan["view_name"] for scan in stretch.scans}):
            members = [scan for scan in stretch.scans if scan["view_name"] == view]
            yield stretch, view, [point_of(scan["scan_id"], scan["acquired_at"], scan["statistics"]) for scan in members]


def _wanted(stretch: Stretch, view: str, points: Sequence[Point]) -> Wanted:
    first, middle = stretch.scans[0], points[len(points) // 2]
    return Wanted(stretch.scanner_id, view, first["modality"], middle.at, first["attributes"].get("calibrated_on"))
