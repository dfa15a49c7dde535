"""How a scan is shown differently each time: windows, the eight ways to turn it, and another scan laid over it.

All pure: what happens follows from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scanloop.training.preprocess import ATTENUATION_UNIT, MIN_TRANSMISSION, channel_of
from scanloop.training.sample import Sample

MIN_VISIBLE = 0.5
"""A box of which less than this share is inside the window is dropped."""
MAX_ATTENUATION = np.float32(-np.log(MIN_TRANSMISSION))
"""Where `prepare_input` ends."""


def transposed(sample: Sample) -> Sample:
    """Exchange rows and columns; with mirroring, all eight ways to turn a square."""
    pixels = np.ascontiguousarray(sample.pixels.transpose(0, 2, 1))
    return replace(sample, pixels=pixels, boxes_xyxy=sample.boxes_xyxy[:, [1, 0, 3, 2]])


def mirrored(sample: Sample, horizontally: bool, vertically: bool) -> Sample:
    """Mirror pixels and boxes inside the whole square. A scan lies in the top left corner; mirrored, it may lie in another."""
    pixels, boxes, size = sample.pixels, sample.boxes_xyxy.copy(), sample.pixels.shape[-1]
    for axis, is_wanted in ((0, horizontally), (1, vertically)):
        if is_wanted:
            pixels = np.flip(pixels, axis=2 - axis)
            boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]
    return replace(sample, pixels=np.ascontiguousarray(pixels), boxes_xyxy=boxes)


def cropped(sample: Sample, crop_px: int, focus: float, chance: np.random.Generator) -> Sample:
    """Cut a square window out of a sample: with chance `focus` around one of its boxes, else anywhere on the scan.

    Boxes are cut at the window; those of which less than `MIN_VISIBLE` is left are dropped. A step on windows costs a fraction of one on whole
    inputs, and shows more of what matters: on small data and a CPU that is worth more than seeing everything.
    """
    size = sample.pixels.shape[-1]
    if not 0 < crop_px < size:
        return sample
    if len(sample.boxes_xyxy) and chance.random() < focus:
        x1, y1, x2, y2 = sample.boxes_xyxy[chance.integers(len(sample.boxes_xyxy))]
        lowest = np.maximum(np.array([x2, y2]) - crop_px, 0)
        highest = np.minimum(np.array([x1, y1]), size - crop_px)
    else:
        lowest = np.zeros(2)
        highest = np.array([sample.letterbox.input_width_px, sample.letterbox.input_height_px]) - crop_px
    left, top = (int(value) for value in np.clip(lowest + chance.random(2) * (highest - lowest), 0, size - crop_px))
    corner = np.array([left, top, left, top], dtype=np.float32)
    boxes = np.clip(sample.boxes_xyxy - corner, 0, crop_px)
    is_kept = _areas(boxes) >= MIN_VISIBLE * _areas(sample.boxes_xyxy)
    pixels = sample.pixels[:, top : top + crop_px, left : left + crop_px]
    return replace(sample, pixels=np.ascontiguousarray(pixels), boxes_xyxy=boxes[is_kept], category_ids=sample.category_ids[is_kept])


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    return areas


def overlaid(sample: Sample, other: Sample, planes_spec: Sequence[str]) -> Sample:
    """Lay one scan over another, as if both were in the beam: attenuations add, boxes of both count. Both must have the same size.

    A category was looked for only if it was in both. Channels that cannot be computed from what is there leave `sample` as it is.
    Source: the Beer-Lambert law; materials add in attenuation.
    """
    channels = {name: channel for channel, name in enumerate(planes_spec) if name != "material"}
    if "material" in planes_spec and not {"high", "low"} <= channels.keys():
        return sample
    sums = {name: (sample.pixels[channel] + other.pixels[channel]) * np.float32(ATTENUATION_UNIT) for name, channel in channels.items()}
    attenuations = {name: np.minimum(total, MAX_ATTENUATION) for name, total in sums.items()}
    looked_for = tuple(one and two for one, two in zip(sample.looked_for, other.looked_for, strict=True))
    return replace(
        sample,
        pixels=np.stack([channel_of(name, attenuations) for name in planes_spec]),
        boxes_xyxy=np.concatenate([sample.boxes_xyxy, other.boxes_xyxy]),
        category_ids=np.concatenate([sample.category_ids, other.category_ids]),
        looked_for=looked_for,
    )
