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
    spread = np.ptp(pixels, axis=axis)
    top = pixels.max(axis=axis)
    is_stuck = (spread <= _LINE_SPREAD * FULL_SCALE) & (top < FULL_SCALE)
    return int(np.count_nonzero(is_stuck | (top < _DARK * FULL_SCALE)))


def plane_statistics(pixels: np.ndarray) -> PlaneStatistics:
    """Measure a plane (H, W) uint16 at full scale 65535."""
    low, bright = np.percentile(pixels, (0.1, 99))
    air = pixels >= bright * (1 - AIR_BAND)
    is_blank = bool(bright - low < _BLANK_SPREAD * FULL_SCALE)
    return PlaneStatistics(
        mean=round(float(pixels.mean()) / FULL_SCALE, 6),
        std=round(float(pixels.std()) / FULL_SCALE, 6),
        minimum=round(int(pixels.min()) / FULL_SCALE, 6),
        maximum=round(int(pixels.max()) / FULL_SCALE, 6),
        air_mean=round(float(pixels[air].mean()) / FULL_SCALE, 6),
        air_share=round(float(air.mean()), 6),
        saturated_share=round(float((pixels == FULL_SCALE).mean()), 6),
        dark_share=round(float((pixels < _DARK * FULL_SCALE).mean()), 6),
        dead_rows=0 if is_blank else _dead_lines(pixels, axis=1),
        dead_columns=0 if is_blank else _dead_lines(pixels, axis=0),
        is_blank=is_blank,
    )
