"""The NumPy post-processing gives what mmdet's own gives."""

from __future__ import annotations

import numpy as np
import pytest

from scanloop.errors import DataWrong
from scanloop.training.config import make_config
from scanloop.training.network import build_model
from scanloop.training.options import TrainingOptions
from scanloop.training.postprocess import STRIDES_PX, PostprocessRules, decode_boxes, postprocess, sigmoid, suppress
from scanloop.training.preprocess import Letterbox

CATEGORIES = ("handgun", "knife", "grenade")
SIZE_PX = 128


def raw_outputs(seed: int, mean_logit: float = -3.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs as a head might give them: many overlapping boxes, some reaching outside."""
    random = np.random.default_rng(seed)
    logits, distances = [], []
    for stride in STRIDES_PX:
        cells = SIZE_PX // stride
        logits.append(random.normal(mean_logit, 2, (len(CATEGORIES), cells, cells)).astype(np.float32))
        distances.append(random.uniform(-2, 40, (4, cells, cells)).astype(np.float32))
    return logits, distances


@pytest.fixture(scope="module")
def network():
    return build_model(make_config("rtmdet_tiny", TrainingOptions(size_px=SIZE_PX), CATEGORIES))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [pytest.param((400, 300), id="tall"), pytest.param((128, 128), id="square")])
def test_it_does_what_mmdet_does(network, seed, shape):
    import torch

    from scanloop.training.libraries import quietly

    letterbox = Letterbox.fit(*shape, SIZE_PX)
    logits, distances = raw_outputs(seed)
    tensors = [[torch.from_numpy(level)[None] for level in levels] for levels in (logits, distances)]
    meta = {"img_shape": (letterbox.input_height_px, letterbox.input_width_px)}
    with quietly():
        theirs = network.bbox_head.predict_by_feat(*tensors, batch_img_metas=[meta])[0]
    ours = postprocess(logits, distances, SIZE_PX, letterbox, PostprocessRules())
    assert 20 < len(ours) == len(theirs.scores)
    assert np.allclose(ours.scores, theirs.scores.numpy(), atol=1e-6)
    assert np.array_equal(ours.category_ids, theirs.labels.numpy())
    assert np.allclose(letterbox.to_input(ours.boxes_xyxy), theirs.bboxes.numpy(), atol=1e-3)


def test_nothing_above_the_threshold_is_nothing():
    logits, distances = raw_outputs(0, mean_logit=-40)
    assert len(postprocess(logits, distances, SIZE_PX, Letterbox.fit(64, 64, SIZE_PX), PostprocessRules())) == 0


def test_at_most_so_many_are_kept_and_they_are_the_best():
    logits, distances = raw_outputs(1)
    letterbox = Letterbox.fit(64, 64, SIZE_PX)
    many = postprocess(logits, distances, SIZE_PX, letterbox, PostprocessRules(max_detections=50))
    few = postprocess(logits, distances, SIZE_PX, letterbox, PostprocessRules(max_detections=5))
    assert np.array_equal(few.boxes_xyxy, many.boxes_xyxy[:5])


def test_suppression_is_within_a_category():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]], dtype=np.float32)
    kept = suppress(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1]), 0.5, 10)
    assert kept.tolist() == [0, 2]


def test_priors_have_no_offset():
    distances = np.zeros((4, 2, 3), dtype=np.float32)
    distances[2:] = 1
    assert decode_boxes(distances, 16).tolist()[:2] == [[0, 0, 1, 1], [16, 0, 17, 1]]
    assert decode_boxes(distances, 16).tolist()[3] == [0, 16, 1, 17]


def test_sigmoid_survives_extremes():
    assert sigmoid(np.array([-1e4, 0, 1e4], dtype=np.float32)).tolist() == [0.0, 0.5, 1.0]


def test_outputs_of_another_size_are_refused():
    logits, distances = raw_outputs(0)
    letterbox = Letterbox.fit(64, 64, 160)
    with pytest.raises(DataWrong, match="20 × 20 cells at stride 8"):
        postprocess(logits, distances, 160, letterbox, PostprocessRules())
    with pytest.raises(DataWrong, match="3 levels"):
        postprocess(logits[:2], distances[:2], SIZE_PX, letterbox, PostprocessRules())
