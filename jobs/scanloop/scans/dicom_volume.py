"""How the frames of a CT file make volumes: which energy each belongs to, in which order they lie, how far apart, and on which scale.

What a frame says is looked for in its own functional groups, then in the shared ones, then at the top of the dataset, because toolkits put it in
any of the three.

Source: DICOM PS3.3 C.7.6.2.1.1 (position and orientation), C.7.6.16.2 (functional groups), C.11.1 (rescale); NEMA IIC 1 (DICOS CT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanloop.scans.content import MAX_SPACING_MM, PlaneScale
from scanloop.scans.dicom_elements import FRAME_TAGS, Elements, Value
from scanloop.scans.errors import ScanRefused

_SAME_MM = 1e-3
"""Positions this close together are one."""
_UNEVEN = 0.05
"""Slices whose distances differ by more than this share are unevenly spaced."""


@dataclass(frozen=True)
class FrameFacts:
    """What the file says about each frame; None or empty where it says nothing."""

    types: tuple[tuple[str, ...], ...]
    """Frame type (0008,9007), or ImageType."""
    positions_mm: np.ndarray | None
    """(N, 3): where the first pixel of each frame is."""
    orientation: tuple[float, ...] | None
    """Directions of rows and columns, 6 numbers, if all frames have the same."""
    spacing_mm: tuple[float, float] | None
    """Distances of rows and of columns, if all frames have the same."""
    step_mm: float | None
    """Distance of slices as the file says it (not from positions)."""
    scales: tuple[tuple[float, float, str], ...]
    """Slope, intercept and unit."""


def frame_facts(elements: Elements, count: int) -> FrameFacts:
    """Collect what is said about `count` frames. Raises ScanRefused if frames and their functional groups do not match."""
    shared, *own = elements.frame_values()
    if own and len(own) != count:
        raise ScanRefused("malformed", f"{count} frames have {len(own)} per-frame functional groups.")
    top = {keyword: elements.raw(keyword) for keyword in FRAME_TAGS.values() if elements.has(keyword)}
    if "FrameType" not in top:
        top["FrameType"] = elements.raw("ImageType")
    merged = [top | shared | item for item in own] or [top | shared] * count
    positions = [_vector(elements, item, "ImagePositionPatient", 3) for item in merged]
    return FrameFacts(
        types=tuple(tuple(elements.values_of(item["FrameType"])) for item in merged),
        positions_mm=np.array(positions) if all(positions) else None,
        orientation=_same([_vector(elements, item, "ImageOrientationPatient", 6) for item in merged]),
        spacing_mm=_distances(_same([_vector(elements, item, "PixelSpacing", 2) for item in merged])),  # type: ignore[arg-type]
        step_mm=_step(elements, merged[0]),
        scales=tuple(_scale(elements, item) for item in merged),
    )


def _vector(elements: Elements, item: Mapping[str, Value], keyword: str, length: int) -> tuple[float, ...] | None:
    numbers = elements.numbers_of(item[keyword]) if keyword in item else None
    return tuple(numbers) if numbers and len(numbers) == length else None


def _same(vectors: Sequence[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    return vectors[0] if len(set(vectors)) == 1 else None


def _distances(found: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return found if found and all(0 < distance < MAX_SPACING_MM for distance in found) else None


def _step(elements: Elements, item: Mapping[str, Value]) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = _vector(elements, item, keyword, 1)
        if found and 0 < abs(found[0]) < MAX_SPACING_MM:
            return abs(found[0])
    return None


def _scale(elements: Elements, item: Mapping[str, Value]) -> tuple[float, float, str]:
    slope, intercept = (_vector(elements, item, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept"))
    unit = elements.unit_of(item["RescaleType"]) if "RescaleType" in item else ""
    return (slope or (1.0,))[0], (intercept or (0.0,))[0], unit


@dataclass(frozen=True)
class Stack:
    """Frames of one volume in the order they are kept, and where they lie."""

    frames: tuple[int, ...]
    """Indices of frames in the file."""
    step_mm: float | None
    """Distance of slices."""
    notes: Mapping[str, str | int | float]
    """What a reader of the volume should know."""

    @property
    def is_as_stored(self) -> bool:
        """Whether the frames follow each other as in the file."""
        return self.frames == tuple(range(self.frames[0], self.frames[0] + len(self.frames)))


def stack_frames(facts: FrameFacts, frames: Sequence[int]) -> Stack:
    """Order the frames of one volume by position.

    Frames that lie one after the other along their normal, in whichever direction, stay as they are stored; others are put into rising order. Without
    positions, or where two share one, the stored order is all there is.
    """
    stored = tuple(frames)
    if facts.positions_mm is None:
        return Stack(stored, facts.step_mm, {})
    places = facts.positions_mm[list(stored)]
    notes: dict[str, str | int | float] = {}
    if facts.orientation:
        normal = np.cross(facts.orientation[:3], facts.orientation[3:])
        notes["orientation"] = "\\".join(f"{part:g}" for part in facts.orientation)
    else:
        normal = np.array((0.0, 0.0, 1.0))
    along = places @ normal
    steps = np.diff(along)
    if len(stored) > 1 and np.unique(np.round(along / _SAME_MM)).size < len(stored):
        notes["slices"] = "share positions"
        order = np.arange(len(stored))
        step: float | None = facts.step_mm
    else:
        order = np.arange(len(stored)) if (steps > 0).all() or (steps < 0).all() else np.argsort(along, kind="stable")
        gaps = np.abs(np.diff(along[order]))
        step = float(np.median(gaps)) if gaps.size else facts.step_mm
        if gaps.size and step and float(np.ptp(gaps)) > _UNEVEN * step:
            notes["slices"] = "unevenly spaced"
        notes["slice_direction"] = -1 if len(stored) > 1 and along[order[-1]] < along[order[0]] else 1
    notes["position_mm"] = "\\".join(f"{part:g}" for part in places[order[0]])
    return Stack(tuple(stored[index] for index in order), step if step and 0 < step < MAX_SPACING_MM else None, notes)


def stack_scale(facts: FrameFacts, frames: Sequence[int], *, is_signed: bool) -> PlaneScale:
    """The scale of a volume; where its frames differ, no physical value is claimed."""
    found = {facts.scales[frame] for frame in frames}
    slope, intercept, unit = found.pop() if len(found) == 1 else (1.0, 0.0, "")
    return PlaneScale(slope, intercept, unit, is_signed=is_signed)
