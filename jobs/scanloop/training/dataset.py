"""Scans of a snapshot as mmdet trains on them: prepared once, kept in memory, shown differently by a seeded draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.training.augment import cropped, mirrored, overlaid, transposed
from scanloop.training.options import TrainingOptions
from scanloop.training.sample import Sample, make_sample
from scanloop.training.sampling import Draw

if TYPE_CHECKING:
    from scanloop.snapshots.manifest import SnapshotRecord
    from scanloop.store import Store

CACHE_BYTES = 2 << 30
"""Prepared inputs kept in memory at most; what does not fit is read again each time."""


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

    def begin_worker(self) -> None:
        """Make what is read from outside this process's own."""
        if isinstance(self._load, SnapshotLoader):
            self._load.reopen()

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
        shown = self._turned_window(draw.index, chance)
        if chance.random() < options.overlay_probability:
            shown = overlaid(shown, self._turned_window(int(chance.integers(self._length)), chance), options.planes)
        return packed(shown)

    def _turned_window(self, index: int, chance: np.random.Generator) -> Sample:
        options = self._options
        window = cropped(self.sample(index), options.crop_px, options.crop_focus, chance)
        horizontally, vertically, diagonally = (bool(value < options.flip_probability) for value in chance.random(3))
        window = mirrored(window, horizontally, vertically)
        return transposed(window) if diagonally else window


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


class SnapshotLoader:
    """From an index to the sample of that record: reads curated planes from the store. It may run on several threads."""

    def __init__(
        self, store: Store, records: Sequence[SnapshotRecord], *, categories: Sequence[str], size_px: int, planes_spec: Sequence[str]
    ) -> None:
        self._store = store
        self._records = records
        self._categories = categories
        self._size_px = size_px
        self._planes_spec = planes_spec

    def __call__(self, index: int) -> Sample:
        from scanloop.scans.planes import read_planes

        record = self._records[index]
        boxes = [(box.category, box.bbox_xywh) for box in record.boxes]
        planes = read_planes(self._store.get(record.planes_key))
        return make_sample(
            planes, boxes, record.looked_for, categories=self._categories, size_px=self._size_px, planes_spec=self._planes_spec
        )

    def reopen(self) -> None:
        """Open the store anew: a forked process must not speak over its parent's connections."""
        self._store = self._store.reopened()


def begin_worker(worker: int) -> None:
    """What a process that prepares scans does first."""
    from torch.utils.data import get_worker_info

    dataset: Any = get_worker_info().dataset  # type: ignore[union-attr]
    dataset.begin_worker()
