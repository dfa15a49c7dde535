"""The value type of detections: what it refuses, and how it is ordered."""

from __future__ import annotations

import numpy as np
import pytest

from scanloop.errors import DataWrong
from scanloop.training.detections import Detections

BOX = [1.0, 2.0, 5.0, 8.0]


def test_of_sorts_best_first():
    found = Detections.of([BOX, [0, 0, 1, 1]], [0.2, 0.9], [1, 0])
    assert found.scores.tolist() == [np.float32(0.9), np.float32(0.2)]
    assert found.category_ids.tolist() == [0, 1]
    assert len(found) == 2


def test_above_keeps_the_threshold_itself():
    found = Detections.of([BOX, BOX, BOX], [0.5, 0.25, 0.75], [0, 1, 2])
    assert found.above(0.5).category_ids.tolist() == [2, 0]
    assert len(found.above(0.9)) == 0


def test_none_is_empty():
    assert Detections.none().boxes_xyxy.shape == (0, 4)


def test_arrays_cannot_be_changed_afterwards():
    found = Detections.of([BOX], [0.5], [0])
    with pytest.raises(ValueError, match="read-only"):
        found.scores[0] = 1


def test_records_are_plain():
    assert Detections.of([BOX], [0.5], [1]).to_records(("handgun", "knife")) == [
        {"category": "knife", "score": 0.5, "bbox_xywh": [1.0, 2.0, 4.0, 6.0]}
    ]


@pytest.mark.parametrize(
    ("boxes", "scores", "categories"),
    [
        pytest.param([BOX], [0.5, 0.4], [0], id="lengths"),
        pytest.param([[5, 2, 1, 8]], [0.5], [0], id="right before left"),
        pytest.param([[1, 8, 5, 2]], [0.5], [0], id="bottom above top"),
        pytest.param([[1, 2, np.nan, 8]], [0.5], [0], id="nan box"),
        pytest.param([BOX], [np.inf], [0], id="infinite score"),
        pytest.param([BOX], [1.01], [0], id="score above 1"),
        pytest.param([BOX], [-0.01], [0], id="score below 0"),
        pytest.param([BOX], [0.5], [-1], id="category below 0"),
    ],
)
def test_what_is_no_detection_is_refused(boxes, scores, categories):
    with pytest.raises(DataWrong):
        Detections.of(boxes, scores, categories)


def test_rising_scores_and_other_types_are_refused():
    two = np.array([BOX, BOX], dtype=np.float32)
    with pytest.raises(DataWrong, match="rise"):
        Detections(two, np.array([0.1, 0.2], dtype=np.float32), np.zeros(2, dtype=np.int64))
    with pytest.raises(DataWrong, match="float64"):
        Detections(two, np.array([0.2, 0.1]), np.zeros(2, dtype=np.int64))
