"""From attenuation to what a scanner delivers: photons, blur, noise, elements that misbehave, gain; and the truth beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanloop.simulator.bags import Bag
from scanloop.simulator.projection import VISIBLE_ATTENUATION, attenuation, box_of
from scanloop.simulator.scanners import ScannerModel

PLANES = ("high", "low")
_NOT_SEEN_PX = 4


@dataclass(frozen=True)
class TrueBox:
    """One threat in one view."""

    category: str
    """Threat category."""
    bbox_xywh: tuple[int, int, int, int]
    """Tight box of the threat's own shadow, whole pixels."""
    occlusion: float
    """Share, 0 to 1, of the attenuation on the threat's pixels that other things cause."""


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """One view of a bag as a scanner delivers it."""

    view_name: str
    """top or side."""
    planes: dict[str, np.ndarray]
    """`high` and `low`, (H, W) uint16, bright where there is air."""
    bits: int
    """Significant bits of a pixel."""
    boxes: tuple[TrueBox, ...]
    """Ground truth."""


def simulate_scan(
    bag: Bag, scanner: ScannerModel, view_number: int, seed: np.random.SeedSequence | int, elements_seed: int = 0
) -> SimulatedScan:
    """Scan one view (0 top, 1 side) of a bag. `elements_seed` fixes which detector elements of this very machine are weak or dead."""
    view = scanner.views[view_number]
    harmless = attenuation((part for thing in bag.things if thing.category is None for part in thing.parts), view, scanner.energies_kev)
    threats = [(str(thing.category), attenuation(thing.parts, view, scanner.energies_kev)) for thing in bag.threats]
    total = harmless + sum((planes for _, planes in threats), np.zeros_like(harmless))
    pixels = detect(total, scanner, np.random.default_rng(seed), np.random.default_rng([elements_seed, view_number]))
    boxes = [box for category, planes in threats if (box := true_box(category, planes[0], total[0])) is not None]
    return SimulatedScan(view.name, dict(zip(PLANES, pixels, strict=True)), scanner.bits, tuple(boxes))


def true_box(category: str, of_threat: np.ndarray, total: np.ndarray) -> TrueBox | None:
    """The box and the occlusion of one threat from high-energy attenuations (H, W); None if the view does not show it."""
    shown = of_threat > VISIBLE_ATTENUATION
    bbox = box_of(shown)
    if bbox is None or min(bbox[2:]) < _NOT_SEEN_PX:
        return None
    return TrueBox(category, bbox, round(1 - float(of_threat[shown].sum() / total[shown].sum()), 4))


def detect(attenuations: np.ndarray, scanner: ScannerModel, rng: np.random.Generator, elements: np.random.Generator) -> np.ndarray:
    """Pixels (E, H, W) uint16 from attenuations (E, H, W).

    In this order: transmission exp(-A) (Beer-Lambert), scatter, the point spread of source and detector, noise of the photons (Poisson, drawn as
    normal, as they are many) and of the electronics, tube fluctuation from line to line, the errors of single elements, gain, rounding, saturation.
    """
    from scipy.ndimage import gaussian_filter

    weak, dead = _elements(scanner, attenuations.shape[1], elements)
    delivered = np.empty(attenuations.shape, np.uint16)
    fluctuation = np.asarray(rng.normal(1.0, scanner.banding, attenuations.shape[2]), np.float32)
    for plane, (a, photons, air) in enumerate(zip(attenuations, scanner.photons, scanner.air_level, strict=True)):
        signal: np.ndarray = np.exp(-a)
        signal += np.float32(scanner.scatter)
        signal = gaussian_filter(signal, scanner.blur_px, mode="nearest")
        noise = rng.standard_normal(signal.shape, np.float32)
        variance = signal * np.float32(1 / photons)
        variance += np.float32(scanner.dark_noise**2)
        noise *= np.sqrt(variance)
        noise *= np.where(weak, np.float32(3.5), np.float32(1.0))[:, None]
        signal += noise
        signal *= fluctuation
        signal *= np.asarray(1 + weak * elements.normal(0, 0.012, len(weak)), np.float32)[:, None]
        signal[dead] = 0.0
        delivered[plane] = np.clip(np.rint(signal * np.float32(air * scanner.full_scale)), 0, scanner.full_scale).astype(np.uint16)
    return delivered


def _elements(scanner: ScannerModel, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which detector elements (rows) are weak, (H,) bool, and which are dead, their indices. Never two dead neighbours."""
    weak_share, dead_share = scanner.weak_elements
    weak = rng.random(count) < weak_share
    dead = np.flatnonzero(rng.random(count) < dead_share)
    return weak, dead[np.diff(dead, prepend=-2) > 1]
