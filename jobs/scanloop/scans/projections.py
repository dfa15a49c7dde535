"""Pictures of a CT volume: maximum and mean along each of its axes, whole and in slabs, with the way back.

All of them are made in one pass over the slices, so that a volume is read once and nothing as large as it is allocated. Voxels are seldom cubes;
a picture has square pixels, as fine as the finer of its two directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from scanloop.errors import WrongArguments
from scanloop.scans.transforms import AXES, AxisTransform, ViewTransform

KINDS = ("max", "mean")
SLABS = 4
"""Slabs along each axis, beside the whole."""
_SHOWN = {"z": ("y", "x"), "y": ("z", "x"), "x": ("z", "y")}
"""Projected axis to what is down and what is right in its picture: from above, from the front, from the side."""
_WINDOW = (50.0, 99.8)
"""Percentiles of a picture that become black and white for people: most of a volume is air."""


@dataclass(frozen=True)
class Projection:
    """One picture to be made of a volume."""

    axis: str
    """z, y or x: what is projected away."""
    kind: str
    """max or mean."""
    first: int
    """First index along the axis."""
    end: int
    """Index after the last one."""
    transform: ViewTransform
    """From the picture back to the volume."""

    @property
    def name(self) -> str:
        """Its name among the views of a scan, such as `z_max` or `y_mean_0120_0180`."""
        return f"{self.axis}_{self.kind}" if self.is_whole else f"{self.axis}_{self.kind}_{self.first:04d}_{self.end:04d}"

    is_whole: bool = True
    """Whether it shows all of the volume."""


def plan_projections(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None = None, slabs: int = SLABS
) -> list[Projection]:
    """What to make of a volume (D, H, W): each axis, each kind, the whole and `slabs` slabs of (nearly) equal thickness.

    Raises:
        WrongArguments: `slabs` is negative.
    """
    if slabs < 0:
        raise WrongArguments(f"Expected 0 slabs or more, found {slabs}.")
    extent, found = dict(zip(AXES, shape, strict=True)), []
    spacing = {axis: Fraction(str(distance)) for axis, distance in zip(AXES, spacing_mm or (1.0, 1.0, 1.0), strict=True)}
    for axis, (down, right) in _SHOWN.items():
        finest = min(spacing[down], spacing[right])
        rows, columns = (AxisTransform(one, step=finest / spacing[one]) for one in (down, right))
        count = min(slabs, extent[axis])
        edges = [extent[axis] * number // count for number in range(count + 1)] if count > 1 else []
        for first, end in [(0, extent[axis]), *pairwise(edges)]:
            for kind in KINDS:
                is_whole = (first, end) == (0, extent[axis])
                found.append(Projection(axis, kind, first, end, ViewTransform(rows, columns, axis, first, end), is_whole))
    return found


def project(volume: np.ndarray, projections: Sequence[Projection]) -> Iterator[tuple[Projection, np.ndarray]]:
    """Make pictures of a volume (D, H, W) uint16, each (rows, columns) uint16 in the order asked for. Means are rounded to the nearest number.

    One pass over the slices; memory is that of the pictures.
    """
    totals = [_empty(volume.shape, one) for one in projections]
    for index, pixels in enumerate(volume):
        for one, total in zip(projections, totals, strict=True):
            _take(one, total, index, pixels)
    for one, total in zip(projections, totals, strict=True):
        yield one, _as_picture(one, total, volume.shape)


def _empty(shape: tuple[int, int, int], one: Projection) -> np.ndarray:
    extent = dict(zip(AXES, shape, strict=True))
    down, right = _SHOWN[one.axis]
    return np.zeros((extent[down], extent[right]), np.uint16 if one.kind == "max" else np.uint64)


def _take(one: Projection, total: np.ndarray, index: int, pixels: np.ndarray) -> None:
    """Add slice number `index` (H, W) to what is known of a picture."""
    if one.axis == "z":
        if one.first <= index < one.end:
            if one.kind == "max":
                np.maximum(total, pixels, out=total)
            else:
                total += pixels
        return
    shown, axis = (pixels[one.first : one.end], 0) if one.axis == "y" else (pixels[:, one.first : one.end], 1)
    total[index] = shown.max(axis=axis) if one.kind == "max" else shown.sum(axis=axis, dtype=np.uint64)


def _as_picture(one: Projection, total: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Mean where it is one, and square pixels."""
    if one.kind == "mean":
        count = np.uint64(one.end - one.first)
        total = ((total + count // np.uint64(2)) // count).astype(np.uint16)
    rows, columns = (
        _indices(direction, extent) for direction, extent in zip((one.transform.rows, one.transform.columns), total.shape, strict=True)
    )
    return np.ascontiguousarray(total[rows][:, columns])


def _indices(direction: AxisTransform, extent: int) -> np.ndarray:
    """Which of `extent` pixels each pixel of a picture shows along one direction: that under its centre."""
    count = max(1, round(Fraction(extent) / direction.step))
    step, half = direction.step, Fraction(1, 2)
    return np.array([min(extent - 1, int(direction.to_scan(number + half))) for number in range(count)]) if step != 1 else np.arange(extent)


def for_people(picture: np.ndarray) -> np.ndarray:
    """A projection (H, W) uint16 as (H, W) uint8: dense is bright, air is black; a blank picture stays black."""
    low, high = np.percentile(picture, _WINDOW)
    if high <= low:
        low, high = float(picture.min()), float(max(picture.max(), picture.min() + 1))
    # The square root keeps clothes and plastics visible beside metal.
    return np.rint(np.sqrt(np.clip((picture.astype(np.float32) - low) / (high - low), 0, 1)) * 255).astype(np.uint8)
