"""What counts as the same answer on another machine."""

from __future__ import annotations

import numpy as np
import pytest

from scanloop.edge.selfcheck import sample_outputs, unmatched, worst_difference
from scanloop.errors import DataWrong

THRESHOLDS = {"knife": 0.3, "gun": 0.5}


def record(category: str = "knife", score: float = 0.8, box: tuple[float, ...] = (10, 10, 20, 20)) -> dict[str, object]:
    return {"category": category, "score": score, "bbox_xywh": list(box)}


@pytest.mark.parametrize(
    ("expected", "found", "number"),
    [
        ([record()], [record()], 0),
        ([record()], [record(score=0.805, box=(10.2, 10, 20, 20))], 0),
        ([record(), record(box=(50, 50, 20, 20))], [record(box=(50, 50, 20, 20)), record()], 0),
        ([record()], [], 1),
        ([], [record()], 1),
        ([record()], [record("gun")], 2),
        ([record()], [record(score=0.7)], 2),
        ([record()], [record(box=(15, 10, 20, 20))], 2),
        ([record(), record()], [record()], 1),
        ([record(score=0.305)], [], 0),
        ([record("gun", score=0.505)], [], 0),
        ([record("gun", score=0.52)], [], 1),
    ],
    ids=[
        "equal", "rounded", "another order", "missed", "invented", "another category", "another score", "another place", "once for two",
        "at the threshold", "at its category's threshold", "above its category's threshold",
    ],
)  # fmt: skip
def test_detections_are_compared_as_a_set(expected, found, number):
    assert len(unmatched(expected, found, THRESHOLDS)) == number


def test_outputs_are_compared_by_samples():
    output = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(np.float32)
    samples = sample_outputs(["a"], [output])
    assert len(samples["a"]["indices"]) == 64
    assert worst_difference(samples, ["a"], [output]) == 0
    assert worst_difference(samples, ["a"], [output + np.float32(0.25)]) == pytest.approx(0.25)
    assert worst_difference(samples, ["a"], [output * np.nan]) == float("inf")
    with pytest.raises(DataWrong, match="shape"):
        worst_difference(samples, ["a"], [output[:1]])


def test_small_outputs_are_compared_whole():
    output = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    assert sample_outputs(["a"], [output])["a"]["values"] == output.ravel().tolist()
