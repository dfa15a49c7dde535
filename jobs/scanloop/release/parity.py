"""Does the exported network answer as the trained one? Compared on real scans: raw outputs, and the detections made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.edge.detector import OUTPUT_NAMES, Detector, select_alarms
from scanloop.edge.selfcheck import unmatched
from scanloop.errors import DataWrong
from scanloop.training.detections import Detections
from scanloop.training.postprocess import STRIDES_PX, postprocess
from scanloop.training.preprocess import prepare_input

if TYPE_CHECKING:
    import torch

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a class logit: moves a score by at most 0.00025."""
DISTANCE_TOLERANCE_PX = 1e-2
"""Largest difference of a box edge, in input pixels."""
CANDIDATE_SCORE = 0.05
"""Weaker candidates are not compared one by one."""


@dataclass(frozen=True)
class Parity:
    """How far the exported network is from the trained one."""

    scans: int
    """Scans compared."""
    worst_logit: float
    """Largest difference of a class logit."""
    worst_distance_px: float
    """Largest difference of a box edge, in input pixels."""
    detections: int
    """Detections that both found."""
    unmatched: int
    """Detections of one without an equal of the other."""

    @property
    def holds(self) -> bool:
        """Whether the two are the same detector."""
        return (
            self.scans > 0
            and self.worst_logit <= LOGIT_TOLERANCE
            and self.worst_distance_px <= DISTANCE_TOLERANCE_PX
            and self.unmatched == 0
        )

    def to_json(self) -> dict[str, Any]:
        """With the limits, as plain values."""
        return {
            "holds": self.holds,
            "scans": self.scans,
            "worst_logit": self.worst_logit,
            "logit_tolerance": LOGIT_TOLERANCE,
            "worst_distance_px": self.worst_distance_px,
            "distance_tolerance_px": DISTANCE_TOLERANCE_PX,
            "detections": self.detections,
            "unmatched": self.unmatched,
        }


def torch_outputs(model: torch.nn.Module, canvas: np.ndarray) -> list[np.ndarray]:
    """Raw outputs of the trained network for one (C, H, W) input, in the order of `OUTPUT_NAMES`, without the batch axis."""
    import torch

    with torch.no_grad():
        logits, distances = model(torch.from_numpy(canvas[np.newaxis].copy()), mode="tensor")
    return [output[0].numpy() for output in (*logits, *distances)]


def compare(model: torch.nn.Module, detector: Detector, scans: Sequence[Mapping[str, np.ndarray]]) -> tuple[Parity, list[Detections]]:
    """Compare on scans given as planes. Returns the measure, and the exported network's alarms on each scan.

    Raises:
        DataWrong: there is nothing to compare on, or an output is not finite.
    """
    if not scans:
        raise DataWrong("There is no scan to compare the exported network on.")
    rules, levels = detector.rules, len(STRIDES_PX)
    worst = {"class_logits": 0.0, "distances": 0.0}
    matched = missing = 0
    alarms = []
    for planes in scans:
        canvas, letterbox = prepare_input(planes, rules.size_px, rules.planes)
        trained, exported = torch_outputs(model, canvas), detector.raw(canvas)
        for name, one, other in zip(OUTPUT_NAMES, trained, exported, strict=True):
            difference = float(np.abs(one - other).max())
            if not np.isfinite(difference):
                raise DataWrong(f"The output {name} is not finite.")
            kind = name.rpartition("_")[0]
            worst[kind] = max(worst[kind], difference)
        found = [
            postprocess(outputs[:levels], outputs[levels:], rules.size_px, letterbox, rules.postprocess) for outputs in (trained, exported)
        ]
        before, after = (detections.above(CANDIDATE_SCORE).to_records(rules.categories) for detections in found)
        missing += len(unmatched(before, after, dict.fromkeys(rules.categories, CANDIDATE_SCORE)))
        matched += len(after)
        alarms.append(select_alarms(found[1], rules.thresholds))
    return Parity(len(scans), worst["class_logits"], worst["distances"], matched, missing), alarms
