"""What a dual-energy pair says about material, apart from thickness.

Attenuation A = -ln T of one material is its thickness times its attenuation coefficient, so the ratio of the low-energy to the high-energy
attenuation, R = A_low / A_high, does not depend on thickness; it grows with the effective atomic number, because photoelectric absorption, which
dominates at low energy, grows with about its third to fourth power. R is about 1.2 for organic matter and above 1.7 for steel.

Source: Alvarez and Macovski, Energy-selective reconstructions in X-ray computerised tomography, Phys. Med. Biol. 21 (1976) 733, equations 1 to 4;
Rebuffel and Dinten, Dual-energy X-ray imaging: benefits and limits, Insight 49 (2007) 589.
"""

from __future__ import annotations

import numpy as np

from scanloop.scans.planes import FULL_SCALE

MIN_TRANSMISSION = 1e-3
"""Less counts as no penetration: about the dark noise of a 16-bit line scanner."""
SOFTNESS = 0.05
"""Added to the high-energy attenuation, so that noise in nearly empty places reads as air instead of as any material at all."""
AIR_BAND = 0.08
"""Pixels this close (relative) to the brightest percentile count as air."""
MAX_EXCESS = 1.5
"""R - 1 that becomes full scale: lead and tungsten are beyond, steel is near the middle."""


def air_level(pixels: np.ndarray) -> float:
    """What unattenuated beam reads in a plane (H, W) uint16: the median of what is within AIR_BAND of its brightest percentile.

    Scanners leave headroom of a few percent, each its own. It is never below three quarters of full scale: a picture without any air must not be
    taken for one with.
    """
    bright = pixels[pixels >= (1 - AIR_BAND) * np.percentile(pixels, 99)]
    return float(max(np.median(bright), 0.75 * FULL_SCALE))


def transmission(pixels: np.ndarray, air: float = FULL_SCALE) -> np.ndarray:
    """Transmission of a plane (H, W) uint16 where `air` is unattenuated: float32 in [MIN_TRANSMISSION, 1]."""
    return np.clip(pixels.astype(np.float32) / np.float32(air), MIN_TRANSMISSION, 1.0)


def attenuation(pixels: np.ndarray, air: float = FULL_SCALE) -> np.ndarray:
    """Attenuation -ln T of a plane (H, W) uint16: float32 in [0, 6.91], 0 in air."""
    return -np.log(transmission(pixels, air))


def ratio_excess(a_high: np.ndarray, a_low: np.ndarray) -> np.ndarray:
    """R - 1 from two attenuations (H, W) float32, softened where there is little to measure: never negative."""
    return np.maximum(a_low - a_high, 0.0) / (a_high + SOFTNESS)


def material(high: np.ndarray, low: np.ndarray, *, air: tuple[float, float] | None = None) -> np.ndarray:
    """The material plane (H, W) uint16 from two planes of the same shape: 0 is air, larger is a larger effective atomic number.

    `air` is what the two planes read without an object (default: measured in them). For one high-energy value the result never falls when the
    low-energy value falls. Where even the high energy does not penetrate it says nothing reliable.
    """
    air_high, air_low = air or (air_level(high), air_level(low))
    excess = ratio_excess(attenuation(high, air_high), attenuation(low, air_low))
    return np.rint(np.minimum(excess / MAX_EXCESS, 1.0) * FULL_SCALE).astype(np.uint16)
