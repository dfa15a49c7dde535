"""Small charts as SVG that stand in a page: points over time between limits. Nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

_Scale = Callable[[float], float]
_WIDTH, _HEIGHT = 520, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 14, 28
STYLE = """
svg { font: 13px system-ui, sans-serif; width: 100%; height: auto; display: block }
svg text { fill: #56627a } svg .grid { stroke: #e4e8ef } svg .axis { stroke: #aab3c2 }
svg .band { fill: #1a7f4b; opacity: .10 } svg .limit { stroke: #1a7f4b; stroke-dasharray: 4 3; opacity: .8 }
svg .expected { stroke: #1a7f4b; opacity: .6 }
svg .past { fill: #9aa6b8 } svg .reference { fill: #5b7aa8 } svg .held { fill: #b3261e } svg .passed { fill: #1a7f4b } svg .new { fill: #8a5a00 }
"""


@dataclass(frozen=True)
class Series:
    """Points of one meaning."""

    kind: str
    """past, reference, passed, held or new: how they are drawn."""
    points: Sequence[tuple[datetime, float]]
    """When and what."""


@dataclass(frozen=True)
class Bounds:
    """What is expected."""

    expected: float | None = None
    """The value that is expected."""
    least: float | None = None
    """What is below this fails."""
    most: float | None = None
    """What is above this fails."""


def chart(series: Sequence[Series], bounds: Bounds, unit: str) -> str:
    """An SVG of points over time. `unit` is level (four digits), count or share."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return "<p>Nothing was measured.</p>"
    times = [at.timestamp() for one in drawn for at, _ in one.points]
    values = [value for one in drawn for _, value in one.points]
    values += [value for value in (bounds.expected, bounds.least, bounds.most) if value is not None]
    low, high = _range(values, unit)
    first, last = min(times), max(times)
    x_of = _scale(first, last, _LEFT + 6, _WIDTH - _RIGHT - 6)
    y_of = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for step in range(5):
        value = low + (high - low) * step / 4
        y = y_of(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(value, unit)}</text>')
    parts += _bounds(bounds, y_of, low, high)
    for one in drawn:
        radius = 3.2 if one.kind in ("passed", "held", "new") else 2.2
        parts += [
            f'<circle class="{one.kind}" cx="{x_of(at.timestamp()):.1f}" cy="{y_of(value):.1f}" r="{radius}"/>' for at, value in one.points
        ]
    for at, place, anchor in ((first, _LEFT, "start"), (last, _WIDTH - _RIGHT, "end")):
        moment = next(moment for one in drawn for moment, _ in one.points if moment.timestamp() == at)
        parts.append(f'<text x="{place}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{escape(f"{moment:%Y-%m-%d %H:%M}")}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/></svg>')
    return "".join(parts)


def _range(values: Sequence[float], unit: str) -> tuple[float, float]:
    low, high = min(values), max(values)
    if unit == "count":
        return 0.0, float(max(4, -(-int(high + 1) // 4) * 4))
    margin = max((high - low) * 0.12, 1e-4)
    return max(0.0, low - margin), high + margin


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def _bounds(bounds: Bounds, y_of: _Scale, low: float, high: float) -> list[str]:
    least = low if bounds.least is None else max(bounds.least, low)
    most = high if bounds.most is None else min(bounds.most, high)
    wide = f'x="{_LEFT}" width="{_WIDTH - _LEFT - _RIGHT}"'
    parts = []
    if bounds.least is not None or bounds.most is not None:
        parts.append(f'<rect class="band" {wide} y="{y_of(most):.1f}" height="{max(0.0, y_of(least) - y_of(most)):.1f}"/>')
    for value, kind in ((bounds.least, "limit"), (bounds.most, "limit"), (bounds.expected, "expected")):
        if value is not None and low <= value <= high:
            parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}"/>')
    return parts


def _text(value: float, unit: str) -> str:
    return f"{value:g}" if unit == "count" else f"{value:.4f}" if unit == "level" else f"{value:.1%}"
