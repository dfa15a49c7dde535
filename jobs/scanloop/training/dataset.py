"""Scans of a snapshot as mmdet trains on them: prepared once, kept in memory, mirrored by a seeded draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.training.options import TrainingOptions
from scanloop.training.preprocess import Letterbox, prepare_input
from scanloop.training.sampling import Draw

if TYPE_CHECKING:
    from scanloop.snapshots.manifest import SnapshotRecord
    from scanloop.store import Store

CACHE_BYTES = 2 << 30
"""Prepared inputs kept in memory at most; what does not fit is read again each time."""
MIN_VISIBLE = 0.5
"""A box of which less than this share is inside the window is dropped."""
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


class ScanDataset:
    """A map from `Draw` to what mmdet calls a sample; samples come from `load(index)` and stay in memory up to `CACHE_BYTES`."""

    def __init__(self, load: Callable[[int], Sample], length: int, categories: Sequence[str], options: TrainingOptions) -> None:
        self._load = load
        self._length = length
        self._options = options
        self._kept: dict[int, Sample] = {}
        self._kept_bytes = 0
        self.metainfo = {"classes": tuple(categories)}

    def __len__(self) -> int:
        return self._length

    def warm_up(self, threads: int) -> None:
        """Prepare what fits into memory, on several threads: reading and decoding release the interpreter."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, self._length, 64):
                if self._kept_bytes >= CACHE_BYTES:
                    return
                batch = range(start, min(start + 64, self._length))
                for index, sample in zip(batch, pool.map(self._load, batch), strict=True):
                    self._keep(index, sample)

    def _keep(self, index: int, sample: Sample) -> None:
        if self._kept_bytes + sample.pixels.nbytes <= CACHE_BYTES:
            self._kept[index] = sample
            self._kept_bytes += sample.pixels.nbytes

    def sample(self, index: int) -> Sample:
        """The prepared scan, unmirrored."""
        found = self._kept.get(index)
        if found is None:
            found = self._load(index)
            self._keep(index, found)
        return found

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        options, chance = self._options, np.random.default_rng((self._options.seed, 2, draw.position))
        window = cropped(self.sample(draw.index), options.crop_px, options.crop_focus, chance)
        horizontally, vertically = (bool(value < options.flip_probability) for value in chance.random(2))
        return packed(mirrored(window, horizontally, vertically))


def packed(sample: Sample) -> dict[str, Any]:
    """As mmdet's `PackDetInputs` would: `inputs` and a `DetDataSample` with ground truth."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    shape = tuple(sample.pixels.shape[1:])
    truth = InstanceData(bboxes=torch.from_numpy(sample.boxes_xyxy), labels=torch.from_numpy(sample.category_ids))
    meta = {"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape, "looked_for": sample.looked_for}
    return {"inputs": torch.from_numpy(sample.pixels), "data_samples": DetDataSample(metainfo=meta, gt_instances=truth)}


def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack inputs, channels last (a tenth faster on a CPU), and list the samples."""
    import torch

    inputs = torch.stack([item["inputs"] for item in batch]).contiguous(memory_format=torch.channels_last)
    return {"inputs": inputs, "data_samples": [item["data_samples"] for item in batch]}


def snapshot_loader(
    store: Store, records: Sequence[SnapshotRecord], *, categories: Sequence[str], size_px: int, planes_spec: Sequence[str]
) -> Callable[[int], Sample]:
    """A function from index to sample that reads curated planes from the store. It may run on several threads."""
    from scanloop.scans.planes import read_planes

    def load(index: int) -> Sample:
        record = records[index]
        boxes = [(box.category, box.bbox_xywh) for box in record.boxes]
        planes = read_planes(store.get(record.planes_key))
        return make_sample(planes, boxes, record.looked_for, categories=categories, size_px=size_px, planes_spec=planes_spec)

    return load
