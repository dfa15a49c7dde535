"""A small deterministic description of what a bag looks like, so that different bags can be told apart without a model.

A scan's description is a 16 × 16 thumbnail of the attenuation of each plane and a histogram of it, brought down to 32 numbers by a fixed
random projection (distances survive it: Johnson and Lindenstrauss 1984). It is kept with every selection item, so that each scan is decoded
once, however often it is considered.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scanloop.scans.material import attenuation

VERSION = "attenuation-thumbnail/1"
PLANES = ("high", "low")
DIMENSIONS = 32
THUMBNAIL = 16
HISTOGRAM = 16
MAX_ATTENUATION = 7.0
"""Top of the histogram: where attenuation is cut because nothing penetrates."""
_DECIMALS = 4


def describe(planes: Mapping[str, NDArray[np.uint16]]) -> tuple[float, ...]:
    """Describe a scan by DIMENSIONS numbers. Planes are (H, W) at full scale 65535; one that the scan lacks counts as air."""
    parts = []
    for name in PLANES:
        thickness = attenuation(planes[name]).astype(np.float64) if name in planes else np.zeros((THUMBNAIL, THUMBNAIL))
        histogram, _ = np.histogram(thickness, bins=HISTOGRAM, range=(0.0, MAX_ATTENUATION))
        parts += [thumbnail(thickness).ravel(), histogram * (THUMBNAIL * 4.0 / thickness.size)]
    vector = np.concatenate(parts)
    return tuple(np.round(vector @ _projection(vector.size), _DECIMALS).tolist())


def thumbnail(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a THUMBNAIL × THUMBNAIL grid of (H, W); a side shorter than the grid repeats its pixels."""
    for axis in (0, 1):
        size = values.shape[axis]
        if size < THUMBNAIL:
            values = np.repeat(values, -(-THUMBNAIL // size), axis=axis)
            size = values.shape[axis]
        edges = np.linspace(0, size, THUMBNAIL + 1).astype(int)
        sums = np.add.reduceat(values, edges[:-1], axis=axis)
        shape = [1, 1]
        shape[axis] = THUMBNAIL
        values = sums / np.diff(edges).reshape(shape)
    return values


def _projection(size: int) -> NDArray[np.float64]:
    """A fixed Gaussian matrix (size, DIMENSIONS) that keeps expected lengths."""
    return np.random.default_rng(np.random.PCG64(20240917)).standard_normal((size, DIMENSIONS)) / np.sqrt(DIMENSIONS)
