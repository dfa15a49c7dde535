"""A 64-bit fingerprint of what a picture looks like, to find the same bag scanned or exported twice.

Source: the DCT hash of Zauner, Implementation and benchmarking of perceptual image hash functions (2010), section 3.2.1, on attenuation
instead of grey values, so that the empty belt adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scanloop.scans.material import attenuation

_SIDE = 32
_COARSE = 4 * _SIDE
_KEPT = 8
_AIR, _DENSEST = 65535, 0.9
"""A projection of a volume is hashed as a picture of transmission: what its air reads, and the share that its densest place takes away."""
_GRID = np.arange(_SIDE)
_DCT = np.cos(np.pi * (2 * _GRID[None, :] + 1) * np.arange(1, _KEPT + 1)[:, None] / (2 * _SIDE))


def perceptual_hash(pixels: np.ndarray) -> str:
    """Hash a plane (H, W) uint16 at full scale 65535 to 16 hex digits: one bit for each of 8 x 8 low frequencies, set when above their median.

    Frequencies along an axis that vanish (index 0) are left out, so a constant gain or offset in attenuation changes no bit.
    """
    import cv2

    height_px, width_px = pixels.shape
    # Counts are averaged first, as a coarser detector would: what is left costs little to take the logarithm of.
    coarse = cv2.resize(pixels, (min(width_px, _COARSE), min(height_px, _COARSE)), interpolation=cv2.INTER_AREA)
    means = cv2.resize(attenuation(coarse), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    frequencies = _DCT @ means @ _DCT.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return np.packbits(bits).tobytes().hex()


def volume_hash(volume: np.ndarray) -> str:
    """Hash a CT volume (D, H, W) uint16: that of its mean along the rows, as from above, stretched over full scale with dark matter in bright air."""
    means = np.stack([pixels.mean(axis=0, dtype=np.float64) for pixels in volume])
    darkest, brightest = float(means.min()), float(means.max())
    share = (means - darkest) / ((brightest - darkest) or 1.0)
    return perceptual_hash(np.rint(_AIR * (1 - _DENSEST * share)).astype(np.uint16))


def hamming(one: str, other: str) -> int:
    """How many of the 64 bits of two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def distances(one: str, others: Sequence[str]) -> np.ndarray:
    """How many bits of `one` differ from each of `others`, (N,) int."""
    words = np.frombuffer(bytes.fromhex("".join(others)), dtype=np.uint64) if others else np.zeros(0, np.uint64)
    return np.bitwise_count(words ^ np.frombuffer(bytes.fromhex(one), dtype=np.uint64)).astype(int)
