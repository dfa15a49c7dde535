"""A 64-bit fingerprint of what a picture looks like, to find the same bag scanned or exported twice.

Source: the DCT hash of Zauner, Implementation and benchmarking of perceptual image hash functions (2010), section 3.2.1, on attenuation
instead of grey values, so that the empty belt adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scanloop.scans.material import attenuation

_SIDE = 32
_KEPT = 8
_GRID = np.arange(_SIDE)
_DCT = np.cos(np.pi * (2 * _GRID[None, :] + 1) * np.arange(1, _KEPT + 1)[:, None] / (2 * _SIDE))


def _area_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Means over `side` x `side` cells that cover the picture (H, W); a picture smaller than the grid is repeated first."""
    for axis in (0, 1):
        if pixels.shape[axis] < side:
            pixels = np.repeat(pixels, -(-side // pixels.shape[axis]), axis=axis)
    rows, columns = (np.arange(side) * extent // side for extent in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.float64), columns, axis=1)
    counts = np.outer(np.diff(np.append(rows, pixels.shape[0])), np.diff(np.append(columns, pixels.shape[1])))
    return sums / counts


def perceptual_hash(pixels: np.ndarray) -> str:
    """Hash a plane (H, W) uint16 at full scale 65535 to 16 hex digits: one bit for each of 8 x 8 low frequencies, set when above their median.

    Frequencies along an axis that vanish (index 0) are left out, so a constant gain or offset in attenuation changes no bit.
    """
    frequencies = _DCT @ _area_means(attenuation(pixels), _SIDE) @ _DCT.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return np.packbits(bits).tobytes().hex()


def hamming(one: str, other: str) -> int:
    """How many of the 64 bits of two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def distances(one: str, others: Sequence[str]) -> np.ndarray:
    """How many bits of `one` differ from each of `others`, (N,) int."""
    words = np.frombuffer(bytes.fromhex("".join(others)), dtype=np.uint64) if others else np.zeros(0, np.uint64)
    return np.bitwise_count(words ^ np.frombuffer(bytes.fromhex(one), dtype=np.uint64)).astype(int)
