"""The page of one machine: its level of air, noise and lines that do not measure over time, against what it must keep to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Any

from scanloop.validation.charts import Bounds, Series, chart
from scanloop.validation.docs import page
from scanloop.validation.history import Comparison, Point, comparison, spread_of
from scanloop.validation.machines import Stretch
from scanloop.validation.suites import ScannerSuite

_MOST_POINTS = 240
_CHARTS = (
    ("air_level", "Level of air", "level", "gain_change"),
    ("air_noise", "Noise in air", "level", "noise_change"),
    ("dead_rows", "Rows that do not measure", "count", "new_dead_rows"),
    ("dead_columns", "Columns that do not measure", "count", "new_dead_columns"),
)
"""Figure, its title, how it is written, and the column of the change that is limited."""
STATES = {"steady": "steady", "drifted": "has drifted: its scans are held", "new": "too little history to be judged"}


def machine_page(scanner_id: str, stretches: Sequence[Stretch], docs_href: str) -> bytes:
    """The page of one machine from its stretches of one batch, the last of which says how it is now. `docs_href` leads to the result in Data Docs."""
    last = stretches[-1]
    state = "drifted" if last.blocking else "steady" if last.has_history else "new"
    views = sorted({view for stretch in stretches for view in stretch.views})
    made = max(scan["acquired_at"] for stretch in stretches for scan in stretch.scans)
    facts = [
        ("state", f'<b class="{state}">{STATES[state]}</b>'),
        ("model", escape(f"{last.scans[0]['manufacturer']} {last.scans[0]['model']}, serial {last.scans[0]['serial']}")),
        ("suite", f"{escape(last.suite.name)}, version {last.suite.history.version}"),
        ("scans judged", f"{sum(len(stretch.scans) for stretch in stretches)}, the last of {made:%Y-%m-%d %H:%M} UTC"),
        ("last calibration", escape(str(last.scans[0]["attributes"].get("calibrated_on") or "not said"))),
        ("compared with", escape(", ".join(sorted({row["compared_with"] for row in last.rows})))),
        ("result", f'<a href="{escape(docs_href)}">Data Docs of the run</a>'),
    ]
    body = ["<table>", *(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in facts), "</table>"]
    if last.blocking:
        body.append(f'<p class="reason">{escape(last.reason())}</p>')
    body.append(
        '<p class="legend"><i class="reference"></i>first scans after calibration <i class="past"></i>last scans before '
        '<i class="passed"></i>passed <i class="held"></i>held <i class="new"></i>not judged; the green band is what passes</p>'
    )
    for view in views:
        body.append(f"<h2>{escape(view)}</h2>")
        body += _charts(view, [stretch for stretch in stretches if view in stretch.views])
    return page(scanner_id, "".join(body))


def _charts(view: str, stretches: Sequence[Stretch]) -> Iterator[str]:
    planes = sorted({plane for stretch in stretches for point in stretch.views[view][1] for plane in point.planes})
    past, _ = stretches[-1].views[view]
    compared = comparison(past, stretches[-1].suite.limits)
    for plane in planes:
        yield f"<h3>{escape(plane)}</h3><div class='charts'>"
        for figure, title, unit, column in _CHARTS:
            before = [*past.earlier, *past.recent]
            series = [
                Series("past", _values(before, plane, figure)),
                Series("reference", _values(past.reference, plane, figure)),
                *(
                    Series("held" if one.blocking else "passed" if one.has_history else "new", _values(one.views[view][1], plane, figure))
                    for one in stretches
                ),
            ]
            if figure == "dead_columns" and not any(value for one in series for _, value in one.points):
                continue
            bounds = _bounds(stretches[-1].suite, compared, plane, figure, column)
            yield f"<figure><figcaption>{title}</figcaption>{chart(series, bounds, unit)}</figure>"
        yield "</div>"


def _values(points: Sequence[Point], plane: str, figure: str) -> list[tuple[datetime, float]]:
    found = [(point.at, value) for point in points if (value := point.planes.get(plane, {}).get(figure)) is not None]
    return found[:: max(1, -(-len(found) // _MOST_POINTS))]


def _bounds(suite: ScannerSuite, compared: Comparison | None, plane: str, figure: str, column: str) -> Bounds:
    """What the suite lets a figure be, from what the machine did before. Its own spread widens that as it does in the comparison."""
    before = spread_of(compared.points, plane, figure) if compared else None
    limits: dict[str, Any] = next((dict(check.arguments) for check in suite.history.checks if check.arguments["column"] == column), {})
    if compared is None or before is None or not limits:
        return Bounds()
    widest = suite.limits.sigmas * before.group_sigma
    base = before.middle if unit_is_relative(column) else 1.0
    weight = 1.0 if column.startswith("new_dead") else compared.weight
    least, most = (
        None if (value := limits.get(name)) is None else before.middle + sign * max(abs(value) * base / weight, widest)
        for name, sign in (("min_value", -1), ("max_value", 1))
    )
    return Bounds(before.middle, least, most)


def unit_is_relative(column: str) -> bool:
    """Whether a change is a part of what was before, not a difference."""
    return column.startswith(("gain_", "noise_"))
