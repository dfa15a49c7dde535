"""A trained model, ready to look at scans."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.training.config import ModelConfig, config_from_bytes
from scanloop.training.detections import Detections
from scanloop.training.postprocess import postprocess
from scanloop.training.preprocess import Letterbox, prepare_input
from scanloop.training.recipes import recipe

if TYPE_CHECKING:
    import torch

    from scanloop.store import Store

BATCH_SCANS = 8
"""Scans that go through the network together, unless asked otherwise."""


@dataclass(frozen=True)
class Detector:
    """A network with the way into and out of it. Prepared inputs go in, boxes in scan pixels come out."""

    model: torch.nn.Module
    """The network in evaluation mode."""
    config: ModelConfig
    """What it was made by."""
    model_id: str = ""
    """SHA-256 of its weights; empty for one that was not kept."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories in label order: `Detections.category_ids` index this."""
        return self.config.categories

    def prepare(self, planes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, Letterbox]:
        """The input for one scan, as training made it. Raises DataWrong as `prepare_input` does."""
        return prepare_input(planes, self.config.options.size_px, self.config.options.planes)

    def raw(self, inputs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run an RTMDet. `inputs` (N, channels, size, size) float32; returns class logits and distances, per level (N, C or 4, H, W)."""
        import torch

        with torch.inference_mode():
            logits, distances = self.model(self._tensor(inputs), mode="tensor")
        return [level.cpu().numpy() for level in logits], [level.cpu().numpy() for level in distances]

    def _tensor(self, inputs: np.ndarray) -> torch.Tensor:
        import torch

        device = next(self.model.parameters()).device
        return torch.from_numpy(inputs).to(device).contiguous(memory_format=torch.channels_last)

    def detect_prepared(self, inputs: np.ndarray, letterboxes: Sequence[Letterbox]) -> list[Detections]:
        """Detect on prepared inputs (N, channels, size, size).

        What can leave the house is decoded here as a device decodes it; any other network by mmdet.
        """
        if not recipe(self.config.recipe).is_exportable:
            return self._predicted(inputs, letterboxes)
        logits, distances = self.raw(inputs)
        size, rules = self.config.options.size_px, self.config.rules
        return [
            postprocess([level[place] for level in logits], [level[place] for level in distances], size, letterbox, rules)
            for place, letterbox in enumerate(letterboxes)
        ]

    def _predicted(self, inputs: np.ndarray, letterboxes: Sequence[Letterbox]) -> list[Detections]:
        import torch
        from mmdet.structures import DetDataSample

        shape = inputs.shape[2:]
        meta = {"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
        from scanloop.training.libraries import quietly

        with torch.inference_mode(), quietly():
            asked = [DetDataSample(metainfo=meta) for _ in letterboxes]
            answers = self.model.predict(self._tensor(inputs), asked, rescale=False)  # type: ignore[operator]
        found = [answer.pred_instances.cpu().numpy() for answer in answers]
        return [in_scan(part.bboxes, part.scores, part.labels, letterbox) for part, letterbox in zip(found, letterboxes, strict=True)]

    def detect(self, planes: Mapping[str, np.ndarray]) -> Detections:
        """Detect on one scan's planes, name to (H, W) uint16. Boxes are in pixels of the scan."""
        pixels, letterbox = self.prepare(planes)
        return self.detect_prepared(pixels[None], [letterbox])[0]

    def detect_many(self, scans: Iterable[Mapping[str, np.ndarray]], batch_scans: int = BATCH_SCANS) -> Iterator[Detections]:
        """Detect on many scans, in their order, a batch at a time."""
        pending = iter(scans)
        while batch := [self.prepare(planes) for planes in islice(pending, batch_scans)]:
            yield from self.detect_prepared(np.stack([pixels for pixels, _ in batch]), [letterbox for _, letterbox in batch])


def in_scan(boxes_xyxy: np.ndarray, scores: np.ndarray, labels: np.ndarray, letterbox: Letterbox) -> Detections:
    """Detections in pixels of the scan, from boxes (N, 4) in input pixels; boxes that lie beside the scan are dropped."""
    inside = np.array([letterbox.input_width_px, letterbox.input_height_px] * 2, dtype=np.float32)
    boxes = np.clip(boxes_xyxy.astype(np.float32), 0, inside)
    is_solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Detections.of(letterbox.to_scan(boxes[is_solid]), np.clip(scores[is_solid], 0, 1), labels[is_solid])


def load_detector(store: Store, model_row: Mapping[str, Any], *, threads: int = 0) -> Detector:
    """Open the model that a row of `models` names (`model_id`, `config_key`, `weights_key`).

    `threads`: CPU threads to compute on; 0 leaves torch's choice. It looks on a GPU where there is one.

    Raises:
        ObjectNotFound: the store has no such configuration or weights.
        ObjectCorrupt: the weights are not those that the model id names.
        DataWrong: the configuration is not one of this version, or the weights do not fit it.
    """
    import torch

    from scanloop.training.devices import choose_device
    from scanloop.training.network import build_model, download_model

    if threads:
        torch.set_num_threads(threads)
    config = config_from_bytes(store.get(model_row["config_key"]))
    with tempfile.TemporaryDirectory(prefix="scanloop-weights-") as folder:
        path = download_model(store, model_row["weights_key"], model_row["model_id"], Path(folder) / "model.safetensors")
        return Detector(build_model(config, path).to(choose_device()), config, model_row["model_id"])
