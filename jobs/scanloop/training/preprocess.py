"""From the planes of a scan to the array a detector sees. Training, evaluation, export and devices all use this one function.

Needs NumPy and OpenCV only. The order of operations is part of what a model is: resample transmission (a coarser detector would have
counted the same), then attenuation, then the material channel, then paste on air.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from scanloop.errors import DataWrong

PREPROCESS_VERSION = 1
"""Grows whenever the same planes give another input; a device refuses a bundle with a version it does not know."""
FULL_SCALE = 65535.0
"""Value of unattenuated beam (air) in a 16-bit plane."""
MIN_TRANSMISSION = 1e-3
"""Less than this counts as no penetration: about the dark noise of a 16-bit line scanner; attenuation ends at 6.9."""
ATTENUATION_UNIT = 2.0
"""Attenuation of a typical cluttered place; inputs are in this unit, so that most are below 1."""
MATERIAL_SOFTNESS = 0.15
"""High-energy attenuation at which the material channel is trusted by half; below it, noise rules."""
MATERIAL_MIDDLE = 1.35
"""Ratio of low to high attenuation between organic matter (about 1.2) and steel (about 1.7 and more)."""
MATERIAL_SCALE = 3.0
"""Makes the spread of the material channel like that of the others."""
KNOWN_PLANES = ("high", "low", "material", "red", "green", "blue")
"""What a channel may be: energies, what follows from two of them, or the colours of a picture that has no energies."""


@dataclass(frozen=True)
class Letterbox:
    """How a scan lies in the square input: scaled, in the top left corner."""

    height_px: int
    """Height of the scan."""
    width_px: int
    """Width of the scan."""
    input_height_px: int
    """Height of the scan inside the input."""
    input_width_px: int
    """Width of the scan inside the input."""

    @classmethod
    def fit(cls, height_px: int, width_px: int, size_px: int) -> Letterbox:
        """Fit a scan into a square of `size_px`, keeping its shape."""
        scale = size_px / max(height_px, width_px)
        return cls(height_px, width_px, max(1, round(height_px * scale)), max(1, round(width_px * scale)))

    @property
    def _factors(self) -> np.ndarray:
        x, y = self.input_width_px / self.width_px, self.input_height_px / self.height_px
        return np.array([x, y, x, y])

    def to_input(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(N, 4) boxes from scan to input pixels, float32."""
        return (np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4) * self._factors).astype(np.float32)

    def to_scan(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(N, 4) boxes from input to scan pixels, float32, cut at the edges of the scan."""
        boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4) / self._factors
        limits = np.array([self.width_px, self.height_px, self.width_px, self.height_px], dtype=np.float64)
        return np.clip(boxes, 0, limits).astype(np.float32)


def prepare_input(planes: Mapping[str, np.ndarray], size_px: int, planes_spec: Sequence[str]) -> tuple[np.ndarray, Letterbox]:
    """Turn planes into the detector's input.

    `planes`: name to (H, W) uint16 transmission, bright is air; left unchanged. `planes_spec`: channel order, from `high`, `low` and
    `material` (computed from the two). Returns (len(planes_spec), size_px, size_px) float32, contiguous, 0 in air, and the letterbox.

    Raises:
        DataWrong: a plane is missing, has another type, another shape than the first, or no pixels; a channel is unknown.
    """
    needed = _needed_planes(planes_spec)
    shape = _checked_shape(planes, needed)
    box = Letterbox.fit(*shape, size_px)
    attenuations = {name: _attenuation(planes[name], box) for name in needed}
    canvas = np.zeros((len(planes_spec), size_px, size_px), dtype=np.float32)
    for channel, name in enumerate(planes_spec):
        canvas[channel, : box.input_height_px, : box.input_width_px] = channel_of(name, attenuations)
    return canvas, box


def channel_of(name: str, attenuations: Mapping[str, np.ndarray]) -> np.ndarray:
    """One input channel from attenuations, each (H, W) float32 by plane name; `material` needs `high` and `low`."""
    return _material(attenuations) if name == "material" else attenuations[name] / np.float32(ATTENUATION_UNIT)


def preprocess_config(size_px: int, planes_spec: Sequence[str]) -> dict[str, Any]:
    """Everything a device needs to do the same, as JSON for a bundle."""
    _needed_planes(planes_spec)
    return {"version": PREPROCESS_VERSION, "size_px": size_px, "planes": list(planes_spec)}


def _needed_planes(planes_spec: Sequence[str]) -> list[str]:
    unknown = [name for name in planes_spec if name not in KNOWN_PLANES]
    if unknown or not planes_spec:
        raise DataWrong(f"Input channels must be some of {', '.join(KNOWN_PLANES)}; found {', '.join(planes_spec) or 'none'}.")
    wanted = {"high", "low"} if "material" in planes_spec else set()
    return sorted(wanted | {name for name in planes_spec if name != "material"})


def _checked_shape(planes: Mapping[str, np.ndarray], needed: Sequence[str]) -> tuple[int, int]:
    missing = [name for name in needed if name not in planes]
    if missing:
        raise DataWrong(f"The detector needs the planes {', '.join(needed)}; the scan has {', '.join(planes) or 'none'}.")
    shape = planes[needed[0]].shape
    for name in needed:
        plane = planes[name]
        if plane.dtype != np.uint16 or plane.ndim != 2 or plane.shape != shape or 0 in shape:
            raise DataWrong(f"Plane {name!r} must be (H, W) uint16 with the shape of the others, found {plane.shape} {plane.dtype}.")
    return int(shape[0]), int(shape[1])


def _attenuation(plane: np.ndarray, box: Letterbox) -> np.ndarray:
    """A = -ln T of the resampled plane. Source: the Beer-Lambert law."""
    transmission: np.ndarray = plane.astype(np.float32) / np.float32(FULL_SCALE)
    if transmission.shape != (box.input_height_px, box.input_width_px):
        shrinks = box.input_height_px < box.height_px or box.input_width_px < box.width_px
        transmission = cv2.resize(
            transmission, (box.input_width_px, box.input_height_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return -np.log(np.clip(transmission, np.float32(MIN_TRANSMISSION), np.float32(1)))


def _material(attenuations: Mapping[str, np.ndarray]) -> np.ndarray:
    """How metallic (positive) or organic (negative) a place is, fading to 0 where there is little to see."""
    high, low = attenuations["high"], attenuations["low"]
    trust = high / (high + np.float32(MATERIAL_SOFTNESS))
    ratio = low / np.maximum(high, np.float32(MIN_TRANSMISSION))
    return trust * np.clip((ratio - np.float32(MATERIAL_MIDDLE)) * np.float32(MATERIAL_SCALE), -2, 2)
