"""How simulated annotators err: at set rates, the same way every time for the same annotator, scan and round."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanloop.labelling.boxes import Box

_DECIMALS = 2
_SPURIOUS_SIDE = (0.04, 0.2)
"""Range of the side of a spurious box, as a share of the picture's shorter side."""


@dataclass(frozen=True)
class ErrorRates:
    """What goes wrong, and how often."""

    miss: float = 0.05
    """Probability that a threat is not marked."""
    spurious: float = 0.02
    """Probability that a scan gets one box where nothing is."""
    swap: float = 0.02
    """Probability that a marked threat gets another of the looked-for categories."""
    jitter_px: float = 2.0
    """Standard deviation of each edge of a box, px."""

    def __post_init__(self) -> None:
        for name in ("miss", "spurious", "swap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, found {getattr(self, name)}")
        if not 0 <= self.jitter_px <= 1000:
            raise ValueError(f"jitter_px must be between 0 and 1000, found {self.jitter_px}")


@dataclass(frozen=True)
class Answer:
    """What an annotator hands in for one scan."""

    boxes: tuple[Box, ...]
    """Boxes, in the order drawn."""
    time_spent_s: float
    """Seconds it took."""


def answer(
    truth: Sequence[Box],
    looked_for: Sequence[str],
    size_px: tuple[int, int],
    rates: ErrorRates,
    *,
    seed: int,
    annotator: str,
    scan_id: str,
    round_number: int,
) -> Answer:
    """Mark the threats of the looked-for categories as one annotator would.

    `size_px` is (height, width); boxes stay inside the picture and are at least 1 px wide and high.
    """
    height_px, width_px = size_px
    text = f"annotator\x00{seed}\x00{annotator}\x00{scan_id}\x00{round_number}"
    random = np.random.default_rng(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")))
    marked: list[Box] = []
    for box in truth:
        # Every draw is made for every box, so that what happens to one does not shift the draws of the next.
        misses, swaps, other, edges = random.random(), random.random(), random.random(), random.normal(0.0, 1.0, 4)
        if box.category not in looked_for or misses < rates.miss:
            continue
        others = [category for category in looked_for if category != box.category]
        category = others[int(other * len(others))] if others and swaps < rates.swap else box.category
        left, top, right, bottom = np.asarray(box.xyxy) + rates.jitter_px * edges
        marked.append(_inside(category, (left, top, right, bottom), size_px))
    if looked_for and random.random() < rates.spurious:
        width, height = random.uniform(*_SPURIOUS_SIDE, 2) * min(height_px, width_px)
        left, top = random.random() * (width_px - width), random.random() * (height_px - height)
        category = looked_for[int(random.random() * len(looked_for))]
        marked.append(_inside(category, (left, top, left + width, top + height), size_px))
    time_spent_s = float(np.round(np.exp(random.normal(2.5, 0.4)) + 6.0 * len(marked), 1))
    return Answer(tuple(marked), time_spent_s)


def _inside(category: str, xyxy: tuple[float, float, float, float], size_px: tuple[int, int]) -> Box:
    """Order the edges, clip to the picture, keep at least 1 px, round."""
    (left, top, right, bottom), (height_px, width_px) = xyxy, size_px
    (left, right), (top, bottom) = sorted((left, right)), sorted((top, bottom))
    left, top = float(np.clip(left, 0, width_px - 1)), float(np.clip(top, 0, height_px - 1))
    width = float(np.clip(right - left, 1, width_px - left))
    height = float(np.clip(bottom - top, 1, height_px - top))
    x, y, w, h = (round(value, _DECIMALS) for value in (left, top, width, height))
    return Box(category, (x, y, min(w, round(width_px - x, _DECIMALS)), min(h, round(height_px - y, _DECIMALS))))
