"""Figures about a plane that tell a good measurement from a broken one. Computed once, at intake, kept with the scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from scanloop.scans.material import AIR_BAND
from scanloop.scans.planes import FULL_SCALE

_DARK = 0.002
"""Transmission below this counts as no signal; a little above dark noise."""
_BLANK_SPREAD = 0.02
"""A picture whose values all lie this close together shows nothing."""
_LINE_SPREAD = 1e-4
"""A detector line that varies less than this over a whole scan, and is not saturated, does not measure."""
_PEAK_WIDTH = 128
"""Values counted together where the peak of air is looked for, 0.2 % of full scale: narrower than the noise of a line scanner."""
_PEAK_SHARE = 0.4
"""The brightest place that holds so much of what the densest place near it holds is the peak of air; thin plastic everywhere may be denser."""
_CLIMB = 10 * _PEAK_WIDTH
"""How far below that place the peak itself may lie: the flank of air with a noise of 1.5 %."""
_ONE_SIGMA = 0.6065
"""Density of a normal distribution at one standard deviation, of that at its middle."""
_VALUES = np.arange(FULL_SCALE + 1, dtype=np.int64)
_SQUARES = _VALUES**2


@dataclass(frozen=True)
class PlaneStatistics:
    """Figures of one plane. Shares are of all pixels, levels are of full scale; both in [0, 1]."""

    mean: float
    """Mean transmission."""
    std: float
    """Standard deviation of transmission."""
    minimum: float
    """Darkest pixel."""
    maximum: float
    """Brightest pixel."""
    air_mean: float
    """Mean transmission where there is only air; a fall over weeks is a tired source or a lost calibration."""
    air_share: float
    """Share of pixels that are air."""
    air_peak: float
    """Where the values of air are densest: does not depend on how much thin material lies in the picture."""
    air_noise: float
    """Standard deviation of air: quantum noise, electronics and fluctuation of the tube together. At most up to full scale."""
    saturated_share: float
    """Share of pixels at full scale."""
    dark_share: float
    """Share of pixels without signal: no penetration, or no beam."""
    dead_rows: int
    """Rows that do not measure."""
    dead_columns: int
    """Columns that do not measure."""
    is_blank: bool
    """Whether nothing is to be seen."""

    def as_dict(self) -> dict[str, float | int | bool]:
        """Plain values for the catalog."""
        return asdict(self)


def _dead_lines(pixels: np.ndarray, axis: int) -> int:
    top, bottom = pixels.max(axis=axis), pixels.min(axis=axis)
    is_stuck = (top - bottom <= _LINE_SPREAD * FULL_SCALE) & (top < FULL_SCALE)
    return int(np.count_nonzero(is_stuck | (top < _DARK * FULL_SCALE)))


def histogram(pixels: np.ndarray) -> np.ndarray:
    """How often each of the 65,536 values occurs in uint16 pixels of any shape: (65536,) int64."""
    import cv2

    counts = np.zeros(FULL_SCALE + 1, np.int64)
    rows = np.ascontiguousarray(pixels).reshape(-1, pixels.shape[-1])
    # OpenCV counts in float32, which is exact up to 2**24.
    step = max(1, (1 << 24) // rows.shape[1])
    for start in range(0, len(rows), step):
        counts += cv2.calcHist([rows[start : start + step]], [0], None, [FULL_SCALE + 1], [0, FULL_SCALE + 1])[:, 0].astype(np.int64)
    return counts


def _moments(counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what a histogram (65536,) int64 counts.

    In whole numbers, which hold the sums of squares of 2**31 pixels: the same on every machine, and without the threads of a linear algebra library.
    """
    total = int(counts.sum())
    first, second = (int((counts * powers).sum()) for powers in (_VALUES, _SQUARES))
    return first / total, (second * total - first**2) ** 0.5 / total


def _air_peak(counts: np.ndarray, up_to: np.ndarray, air_from: int) -> tuple[float, float]:
    """Peak and scatter of air, in values, from a histogram, its sums and where air begins.

    The scatter is how far above the peak air is as dense as a normal distribution is at one standard deviation: what is darker is also thin material,
    and what is much brighter is cut off at full scale.
    """
    # Up to and without full scale, where what is too bright is heaped up; at least one place is left.
    starts = np.arange(min(air_from, FULL_SCALE - _PEAK_WIDTH), FULL_SCALE - _PEAK_WIDTH + 1)
    held = up_to[starts + _PEAK_WIDTH - 1] - np.where(starts > 0, up_to[starts - 1], 0)
    first = int(np.flatnonzero(held >= _PEAK_SHARE * held.max())[-1])
    lowest = max(0, first - _CLIMB)
    densest = lowest + int(held[lowest : first + 1].argmax())
    inside = slice(int(starts[densest]), int(starts[densest]) + _PEAK_WIDTH)
    total = int(counts[inside].sum())
    peak = int((counts[inside] * _VALUES[inside]).sum()) / total if total else float(FULL_SCALE)
    thinner = np.flatnonzero(held[densest:] < _ONE_SIGMA * held[densest])
    return peak, float(thinner[0]) if thinner.size else FULL_SCALE - peak


def plane_statistics(pixels: np.ndarray) -> PlaneStatistics:
    """Measure a plane (H, W) uint16 at full scale 65535.

    All but the dead lines follows from one histogram, so every pixel is read once for it, which is what intake can afford for each scan.
    """
    counts = histogram(pixels)
    total = pixels.size
    up_to = counts.cumsum()
    low, bright = (int(np.searchsorted(up_to, share * total)) for share in (0.001, 0.99))
    occurring = np.flatnonzero(counts)
    minimum, maximum = int(occurring[0]), int(occurring[-1])
    mean, std = _moments(counts)
    air_from = int(np.ceil(bright * (1 - AIR_BAND)))
    air = int(counts[air_from:].sum())
    air_peak, air_noise = _air_peak(counts, up_to, air_from)
    is_blank = bool(bright - low < _BLANK_SPREAD * FULL_SCALE)
    return PlaneStatistics(
        mean=round(mean / FULL_SCALE, 6),
        std=round(std / FULL_SCALE, 6),
        minimum=round(minimum / FULL_SCALE, 6),
        maximum=round(maximum / FULL_SCALE, 6),
        air_mean=round(int((counts[air_from:] * _VALUES[air_from:]).sum()) / air / FULL_SCALE, 6),
        air_share=round(air / total, 6),
        air_peak=round(air_peak / FULL_SCALE, 6),
        air_noise=round(air_noise / FULL_SCALE, 6),
        saturated_share=round(int(counts[FULL_SCALE]) / total, 6),
        dark_share=round(int(counts[: int(np.ceil(_DARK * FULL_SCALE))].sum()) / total, 6),
        dead_rows=0 if is_blank else _dead_lines(pixels, axis=1),
        dead_columns=0 if is_blank else _dead_lines(pixels, axis=0),
        is_blank=is_blank,
    )


def volume_statistics(volume: np.ndarray, bits: int) -> PlaneStatistics:
    """Measure a CT volume (D, H, W) uint16 of `bits` significant bits, at no more memory than one slice needs.

    Levels are of its full scale. Air is the dark end of a volume: what lies within AIR_BAND of the range of its values above the darkest percentile.
    No signal is 0. Voxels are computed from all detector elements, so no line of them is dead.
    """
    counts = np.zeros(FULL_SCALE + 1, np.int64)
    for pixels in volume:
        counts += histogram(pixels)
    full = (1 << bits) - 1
    up_to = counts.cumsum()
    low, bright = (int(np.searchsorted(up_to, share * volume.size)) for share in (0.01, 0.99))
    occurring = np.flatnonzero(counts)
    minimum, maximum = int(occurring[0]), int(occurring[-1])
    mean, std = _moments(counts)
    air = slice(0, int(low + AIR_BAND * (bright - low)) + 1)
    only_air = np.where(air.stop > _VALUES, counts, 0)
    air_mean, air_noise = _moments(only_air)
    return PlaneStatistics(
        mean=round(mean / full, 6),
        std=round(std / full, 6),
        minimum=round(minimum / full, 6),
        maximum=round(maximum / full, 6),
        air_mean=round(air_mean / full, 6),
        air_share=round(int(counts[air].sum()) / volume.size, 6),
        air_peak=round(air_mean / full, 6),
        air_noise=round(air_noise / full, 6),
        saturated_share=round(int(counts[full]) / volume.size, 6),
        dark_share=round(int(counts[0]) / volume.size, 6),
        dead_rows=0,
        dead_columns=0,
        is_blank=minimum == maximum,
    )
