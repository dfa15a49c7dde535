"""Find threats on a scan with an installed release: NumPy, OpenCV and onnxruntime, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.errors import DataWrong
from scanloop.training.detections import Detections
from scanloop.training.postprocess import STRIDES_PX, PostprocessRules, postprocess
from scanloop.training.preprocess import PREPROCESS_VERSION, prepare_input

if TYPE_CHECKING:
    import onnxruntime

OUTPUT_NAMES = tuple([f"class_logits_{stride}" for stride in STRIDES_PX] + [f"distances_{stride}" for stride in STRIDES_PX])
"""Outputs of an exported network, in order: per stride the logits (N, C, H, W), then per stride the distances (N, 4, H, W) in input pixels."""
INPUT_NAME = "planes"


@dataclass(frozen=True)
class BundleRules:
    """What the JSON files of a bundle say about the network in it."""

    categories: tuple[str, ...]
    """Category of each class index."""
    thresholds: tuple[float, ...]
    """Score of each category from which a detection is an alarm: the operating point that the evidence was measured at."""
    size_px: int
    """Side of the square input."""
    planes: tuple[str, ...]
    """Channels of the input."""
    postprocess: PostprocessRules
    """How raw outputs become detections."""


def read_rules(folder: Path) -> BundleRules:
    """Read labels, thresholds and preprocessing of a bundle.

    Raises:
        DataWrong: a file does not hold what it should, or asks for a preprocessing that this version does not know.
    """
    try:
        labels, thresholds, preprocessing = (_json(folder / name) for name in ("labels.json", "thresholds.json", "preprocessing.json"))
        if preprocessing["version"] != PREPROCESS_VERSION:
            raise DataWrong(
                f"The bundle needs preprocessing version {preprocessing['version']}, this software does {PREPROCESS_VERSION}. "
                "Update the device's software."
            )
        return BundleRules(
            categories=tuple(str(category) for category in labels["categories"]),
            thresholds=tuple(float(thresholds["alarm"][str(category)]) for category in labels["categories"]),
            size_px=int(preprocessing["size_px"]),
            planes=tuple(str(plane) for plane in preprocessing["planes"]),
            postprocess=PostprocessRules(**thresholds["postprocess"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataWrong(f"The bundle in {folder} is not usable: {type(error).__name__} {error}.") from None


class Detector:
    """A release, loaded and ready.

    Raises:
        DataWrong: the network does not load, or has other inputs and outputs than its rules say.
    """

    def __init__(self, folder: Path, *, threads: int = 2) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        self.rules = read_rules(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        unloadable = (
            errors.Fail,
            errors.InvalidProtobuf,
            errors.InvalidGraph,
            errors.InvalidArgument,
            errors.NoSuchFile,
            errors.NotImplemented,
        )
        try:
            self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        except (*unloadable, errors.RuntimeException) as error:
            raise DataWrong(f"{folder / 'model.onnx'} cannot be loaded: {str(error).splitlines()[0]}.") from None
        _check_shape(self._session, self.rules, folder)

    def raw(self, canvas: np.ndarray) -> list[np.ndarray]:
        """Run the network on one (C, H, W) input. Returns the outputs in the order of `OUTPUT_NAMES`, each without the batch axis."""
        outputs = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: canvas[np.newaxis]})
        return [np.asarray(output)[0] for output in outputs]

    def detect(self, planes: Mapping[str, np.ndarray]) -> Detections:
        """Find everything on one scan, alarms and weaker candidates.

        `planes`: name to (H, W) uint16 transmission. Boxes are in pixels of the scan.
        """
        canvas, letterbox = prepare_input(planes, self.rules.size_px, self.rules.planes)
        outputs = self.raw(canvas)
        levels = len(STRIDES_PX)
        return postprocess(outputs[:levels], outputs[levels:], self.rules.size_px, letterbox, self.rules.postprocess)

    def alarms(self, planes: Mapping[str, np.ndarray]) -> Detections:
        """Find what is reported as a threat on one scan."""
        return select_alarms(self.detect(planes), self.rules.thresholds)


def select_alarms(detections: Detections, thresholds: Sequence[float]) -> Detections:
    """Those whose score reaches the threshold of their category."""
    alarming = detections.scores >= np.array(thresholds, dtype=np.float64)[detections.category_ids]
    return Detections.of(detections.boxes_xyxy[alarming], detections.scores[alarming], detections.category_ids[alarming])


def _check_shape(session: onnxruntime.InferenceSession, rules: BundleRules, folder: Path) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [output.name for output in outputs]
    if [each.name for each in inputs] != [INPUT_NAME] or set(names) != set(OUTPUT_NAMES):
        raise DataWrong(f"{folder / 'model.onnx'} has inputs and outputs that this software does not know: {', '.join(names[:8])}.")
    if list(inputs[0].shape[1:]) != [len(rules.planes), rules.size_px, rules.size_px]:
        made = f"{len(rules.planes)} × {rules.size_px} × {rules.size_px}"
        raise DataWrong(f"{folder / 'model.onnx'} takes {inputs[0].shape}, its preprocessing makes {made}.")
    classes = {output.shape[1] for output in outputs if output.name.startswith("class_logits")}
    if classes != {len(rules.categories)}:
        raise DataWrong(f"{folder / 'model.onnx'} knows {classes} categories, its labels name {len(rules.categories)}.")


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} must hold one object")
    return content
