"""From a picture back to the scan it was made of, exactly.

Coordinates are continuous: pixel i covers [i, i + 1), so a box's edges are where its first pixel begins and its last one ends. All arithmetic is in
rationals (floats are rationals too), so that there and back is the same number and not nearly the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scanloop.errors import DataWrong

AXES = ("z", "y", "x")
"""Axes of a volume (D, H, W) in the order of its indices; a plane (H, W) has the last two."""
Number = Fraction | int | float
Box = tuple[Fraction, Fraction, Fraction, Fraction]
"""x0, y0, x1, y1 in a picture, x0 < x1 and y0 < y1."""
Region = Mapping[str, tuple[Fraction, Fraction]]
"""Axis of the scan to where a region begins and ends along it."""


@dataclass(frozen=True)
class AxisTransform:
    """What one direction of a picture is in the scan: scan coordinate = origin + step * picture coordinate."""

    axis: str
    """z, y or x."""
    origin: Fraction = Fraction(0)
    """Scan coordinate of the picture's edge."""
    step: Fraction = Fraction(1)
    """Scan pixels a picture pixel covers; negative where the picture is turned round."""

    def __post_init__(self) -> None:
        if self.axis not in AXES or not self.step:
            raise DataWrong(
                f"No transform of an axis: expected one of {', '.join(AXES)} and a step that is not 0, found {self.axis!r}, {self.step}."
            )

    def to_scan(self, at: Number) -> Fraction:
        """Scan coordinate of a picture coordinate."""
        return self.origin + self.step * Fraction(at)

    def to_view(self, at: Number) -> Fraction:
        """Picture coordinate of a scan coordinate."""
        return (Fraction(at) - self.origin) / self.step

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"axis": self.axis, "origin": str(self.origin), "step": str(self.step)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AxisTransform:
        """The inverse of `as_dict`. Raises as conversions do, and DataWrong."""
        return cls(str(values["axis"]), Fraction(values["origin"]), Fraction(values["step"]))


@dataclass(frozen=True)
class ViewTransform:
    """How a picture (rows, columns) lies in its scan."""

    rows: AxisTransform
    """What is down in the picture."""
    columns: AxisTransform
    """What is right in the picture."""
    axis: str = ""
    """Axis of a volume that was projected away; empty for a picture of a plane."""
    first: int = 0
    """First index along `axis` that the picture shows."""
    end: int = 0
    """Index after the last one that it shows."""

    def __post_init__(self) -> None:
        used = {self.rows.axis, self.columns.axis, *([self.axis] if self.axis else [])}
        if len(used) != 2 + bool(self.axis) or (self.axis and not (self.axis in AXES and 0 <= self.first < self.end)):
            raise DataWrong(
                f"No transform of a view: the axes are {self.rows.axis}, {self.columns.axis}, {self.axis}, {self.first} to {self.end}."
            )

    def point_to_scan(self, x: Number, y: Number) -> dict[str, Fraction]:
        """Scan coordinates of a point of the picture, by axis; the projected axis is not known and not in it."""
        return {self.rows.axis: self.rows.to_scan(y), self.columns.axis: self.columns.to_scan(x)}

    def point_to_view(self, point: Mapping[str, Number]) -> tuple[Fraction, Fraction]:
        """X and y in the picture of a point of the scan."""
        return self.columns.to_view(point[self.columns.axis]), self.rows.to_view(point[self.rows.axis])

    def box_to_scan(self, box: tuple[Number, Number, Number, Number]) -> dict[str, tuple[Fraction, Fraction]]:
        """The region of the scan that a box of the picture shows; along the projected axis all that the picture shows."""
        x0, y0, x1, y1 = box
        region = {
            self.rows.axis: _ordered(self.rows.to_scan(y0), self.rows.to_scan(y1)),
            self.columns.axis: _ordered(self.columns.to_scan(x0), self.columns.to_scan(x1)),
        }
        if self.axis:
            region[self.axis] = (Fraction(self.first), Fraction(self.end))
        return region

    def box_to_view(self, region: Region) -> Box:
        """Where a region of the scan is in the picture."""
        left, right = _ordered(*(self.columns.to_view(edge) for edge in region[self.columns.axis]))
        top, bottom = _ordered(*(self.rows.to_view(edge) for edge in region[self.rows.axis]))
        return left, top, right, bottom

    def shows(self, region: Region) -> bool:
        """Whether any of a region lies in the slab that the picture shows."""
        if not self.axis:
            return True
        begin, end = region[self.axis]
        return begin < self.end and end > self.first

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; rationals as text."""
        parts: dict[str, Any] = {"rows": self.rows.as_dict(), "columns": self.columns.as_dict()}
        return parts | ({"axis": self.axis, "first": self.first, "end": self.end} if self.axis else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ViewTransform:
        """The inverse of `as_dict`. Raises DataWrong."""
        try:
            rows, columns = (AxisTransform.from_dict(values[name]) for name in ("rows", "columns"))
            return cls(rows, columns, str(values.get("axis", "")), int(values.get("first", 0)), int(values.get("end", 0)))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DataWrong(f"Not the transform of a view: {error}.") from None


IDENTITY = ViewTransform(AxisTransform("y"), AxisTransform("x"))
"""A picture of a plane as it is."""


def _ordered(one: Fraction, other: Fraction) -> tuple[Fraction, Fraction]:
    return (one, other) if one <= other else (other, one)


def fuse(views: Mapping[str, tuple[ViewTransform, tuple[Number, Number, Number, Number]]]) -> dict[str, tuple[Fraction, Fraction]] | None:
    """The box in the volume that boxes in several projections agree on: what every one of them contains. None if they contradict each other.

    `views` names each box with the transform of its picture. An axis that no picture shows is bounded by their slabs.
    """
    region: dict[str, tuple[Fraction, Fraction]] = {}
    for transform, box in views.values():
        for axis, (begin, end) in transform.box_to_scan(box).items():
            known = region.get(axis, (begin, end))
            region[axis] = max(known[0], begin), min(known[1], end)
            if region[axis][0] >= region[axis][1]:
                return None
    return region
