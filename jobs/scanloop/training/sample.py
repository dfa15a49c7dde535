"""One scan as the network learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanloop.training.preprocess import Letterbox, prepare_input

MIN_SIDE_PX = 1.0
"""Boxes thinner than this in the input cannot be learned from and are left out."""


@dataclass(frozen=True)
class Sample:
    """One scan, ready for the network."""

    pixels: np.ndarray
    """(channels, size, size) float32."""
    boxes_xyxy: np.ndarray
    """(G, 4) float32 in input pixels."""
    category_ids: np.ndarray
    """(G,) int64 index into the categories."""
    looked_for: tuple[bool, ...]
    """Per category, whether somebody looked for it."""
    letterbox: Letterbox
    """The way back to the scan, from the whole input."""


def make_sample(
    planes: dict[str, np.ndarray],
    boxes: Sequence[tuple[str, Sequence[float]]],
    looked_for: Sequence[str],
    *,
    categories: Sequence[str],
    size_px: int,
    planes_spec: Sequence[str],
) -> Sample:
    """Prepare one scan. `boxes` are (category, bbox_xywh in pixels of the scan); categories that the model does not know are left out."""
    pixels, letterbox = prepare_input(planes, size_px, planes_spec)
    known = [(categories.index(category), bbox) for category, bbox in boxes if category in categories]
    xywh = np.array([bbox for _, bbox in known], dtype=np.float32).reshape(-1, 4)
    inside = letterbox.to_input(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    is_visible = ((inside[:, 2:] - inside[:, :2]) >= MIN_SIDE_PX).all(axis=1)
    ids = np.array([index for index, _ in known], dtype=np.int64)
    return Sample(pixels, inside[is_visible], ids[is_visible], tuple(category in looked_for for category in categories), letterbox)
