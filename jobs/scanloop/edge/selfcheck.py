"""Does this release work on this machine? Run its own test scan and compare with what was measured where it was made.

    selftest.tiff   planes of one scan
    selftest.json   {"samples": {output: {"shape": […], "indices": […], "values": […]}}, "alarms": [{category, score, bbox_xywh}], "tolerance": …}

Runs in a child process with limits: a network that crashes the runtime, or never ends, must not take the updater with it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scanloop.errors import DataWrong, ScanloopError

TIMEOUT_S = 120
MEMORY_BYTES = 8 << 30
SAMPLES_PER_OUTPUT = 64
OUTPUT_TOLERANCE = 0.02
"""Largest difference of a raw output (logits, input pixels): runtimes on other processors round differently; a wrong network is far off."""
SCORE_TOLERANCE = 0.01
BOX_IOU = 0.9


def sample_outputs(names: Sequence[str], outputs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Evenly spaced values of each raw output, to be compared on another machine."""
    samples = {}
    for name, output in zip(names, outputs, strict=True):
        indices = np.unique(np.linspace(0, output.size - 1, SAMPLES_PER_OUTPUT).astype(np.int64))
        samples[name] = {"shape": list(output.shape), "indices": indices.tolist(), "values": output.ravel()[indices].astype(float).tolist()}
    return samples


def worst_difference(samples: Mapping[str, Any], names: Sequence[str], outputs: Sequence[np.ndarray]) -> float:
    """Largest difference between `outputs` and the samples taken elsewhere. Raises DataWrong if a shape differs."""
    worst = 0.0
    for name, output in zip(names, outputs, strict=True):
        sample = samples[name]
        if list(output.shape) != sample["shape"]:
            raise DataWrong(f"The self-check's output {name} has shape {list(output.shape)}, expected {sample['shape']}.")
        difference = np.abs(output.ravel()[sample["indices"]].astype(float) - np.array(sample["values"])).max()
        worst = max(worst, float("inf") if np.isnan(difference) else float(difference))
    return worst


def unmatched(
    expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]
) -> list[Mapping[str, Any]]:
    """Records of either side without an equal on the other: same category, boxes nearly one, scores nearly equal.

    A record so close to the threshold of its category that rounding may drop it on the other side is not missed.
    """
    left = list(found)
    missing = []
    for record in expected:
        match = next((other for other in left if _is_same(record, other)), None)
        if match is not None:
            left.remove(match)
        else:
            missing.append(record)
    return [record for record in (*missing, *left) if record["score"] > thresholds[record["category"]] + SCORE_TOLERANCE]


def check(folder: Path) -> dict[str, Any]:
    """Run the self-check of the bundle in `folder`, in this process.

    Raises:
        DataWrong: the network does not load, or answers differently here.
    """
    from scanloop.edge.detector import OUTPUT_NAMES, Detector
    from scanloop.scans.planes import read_planes
    from scanloop.training.preprocess import prepare_input

    started = time.perf_counter()
    detector = Detector(folder)
    expected = json.loads((folder / "selftest.json").read_bytes())
    planes = read_planes(folder / "selftest.tiff")
    canvas, _ = prepare_input(planes, detector.rules.size_px, detector.rules.planes)
    worst = worst_difference(expected["samples"], OUTPUT_NAMES, detector.raw(canvas))
    if not worst <= OUTPUT_TOLERANCE:
        raise DataWrong(f"The self-check's outputs are {worst:.3g} away from what was measured; at most {OUTPUT_TOLERANCE} is allowed.")
    rules = detector.rules
    alarms = detector.alarms(planes).to_records(rules.categories)
    wrong = unmatched(expected["alarms"], alarms, dict(zip(rules.categories, rules.thresholds, strict=True)))
    if wrong:
        raise DataWrong(
            f"The self-check found {len(alarms)} threats where {len(expected['alarms'])} were measured; {len(wrong)} have no equal."
        )
    return {"worst_difference": worst, "alarms": len(alarms), "seconds": round(time.perf_counter() - started, 3)}


def check_in_child(folder: Path) -> dict[str, Any]:
    """Run `check` in a child process with limits. Raises DataWrong if it fails, crashes, or takes too long."""
    command = [sys.executable, "-m", "scanloop.edge.selfcheck", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DataWrong(f"The self-check did not end within {TIMEOUT_S} s.") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else "it said nothing"
        raise DataWrong(
            reason if done.returncode == DataWrong.exit_code else f"The self-check broke (exit {done.returncode}): {reason[:300]}."
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(arguments: Sequence[str]) -> int:
    """Entry of the child process."""
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.stdout.write(json.dumps(check(Path(arguments[0]))))
    except ScanloopError as error:
        sys.stderr.write(error.message + "\n")
        return error.exit_code
    return 0


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        one["category"] == other["category"]
        and abs(one["score"] - other["score"]) <= SCORE_TOLERANCE
        and _iou(one["bbox_xywh"], other["bbox_xywh"]) >= BOX_IOU
    )


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    union = one[2] * one[3] + other[2] * other[3] - overlap
    return overlap / union if union > 0 else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
