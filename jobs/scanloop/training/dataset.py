"""Scans of a snapshot as mmdet trains on them: prepared once, kept in memory, mirrored by a seeded draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.training.preprocess import Letterbox, prepare_input
from scanloop.training.sampling import Draw

if TYPE_CHECKING:
    from scanloop.snapshots.manifest import SnapshotRecord
    from scanloop.store import Store

CACHE_BYTES = 2 << 30
"""Prepared inputs kept in memory at most; what does not fit is read again each time."""
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
    """The way back to the scan."""


def mirrored(sample: Sample, horizontally: bool, vertically: bool) -> Sample:
    """Mirror pixels and boxes inside the whole square. A scan lies in the top left corner; mirrored, it may lie in another."""
    pixels, boxes, size = sample.pixels, sample.boxes_xyxy.copy(), sample.pixels.shape[-1]
    for axis, is_wanted in ((0, horizontally), (1, vertically)):
        if is_wanted:
            pixels = np.flip(pixels, axis=2 - axis)
            boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]
    return Sample(np.ascontiguousarray(pixels), boxes, sample.category_ids, sample.looked_for, sample.letterbox)


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

    def __init__(
        self, load: Callable[[int], Sample], length: int, categories: Sequence[str], *, seed: int, flip_probability: float
    ) -> None:
        self._load = load
        self._length = length
        self._seed = seed
        self._flip_probability = flip_probability
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
        chance = np.random.default_rng((self._seed, 2, draw.position)).random(2)
        horizontally, vertically = (bool(value < self._flip_probability) for value in chance)
        return packed(mirrored(self.sample(draw.index), horizontally, vertically))


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
