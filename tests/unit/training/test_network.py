"""Weights leave as safetensors and come back the same; a warm start takes what fits; a category not looked for teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanloop.errors import DataWrong
from scanloop.training.config import make_config
from scanloop.training.detector import Detector
from scanloop.training.network import build_model, load_weights, model_id_of, read_weights, warm_started, weights_bytes
from scanloop.training.options import TrainingOptions

CATEGORIES = ("handgun", "knife")
CLASS_LAYERS = ("bbox_head.rtm_cls.",)


def config(categories=CATEGORIES, **options):
    return make_config("rtmdet_tiny", TrainingOptions(size_px=64, **options), categories)


@pytest.fixture(scope="module")
def network():
    return build_model(config())


def test_the_same_seed_gives_the_same_bytes(network):
    content = weights_bytes(network.state_dict())
    assert weights_bytes(build_model(config()).state_dict()) == content
    assert model_id_of(weights_bytes(build_model(config(seed=1)).state_dict())) != model_id_of(content)


def test_weights_survive_the_file(network, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_bytes(network.state_dict()))
    other = build_model(config(seed=5), path)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
    assert set(read_weights(path)) == set(network.state_dict())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x04K\x01.", id="pickle"),
        pytest.param((2**40).to_bytes(8, "little") + b"{}", id="absurd header"),
    ],
)
def test_what_is_no_safetensors_is_refused(network, tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataWrong, match="not a safetensors file"):
        load_weights(network, path)


def test_weights_of_another_network_are_refused(network, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_bytes(build_model(config(("handgun", "knife", "grenade"))).state_dict()))
    with pytest.raises(DataWrong, match="do not fit"):
        load_weights(network, path)


def test_a_warm_start_moves_rows_by_category(network):
    parent = {name: torch.rand_like(value) if value.is_floating_point() else value + 7 for name, value in network.state_dict().items()}
    fresh = build_model(config(("grenade", "knife", "handgun"), seed=3)).state_dict()
    started = warm_started(fresh, parent, ("grenade", "knife", "handgun"), CATEGORIES, CLASS_LAYERS)
    for name, value in started.items():
        if name.startswith(CLASS_LAYERS):
            assert torch.equal(value[0], fresh[name][0])
            assert torch.equal(value[1], parent[name][1])
            assert torch.equal(value[2], parent[name][0])
        else:
            assert torch.equal(value, parent[name])


def test_a_parent_with_other_channels_is_refused(network):
    two = build_model(config(planes=("high", "low")))
    with pytest.raises(DataWrong, match=r"backbone\.stem\.0\.conv\.weight"):
        warm_started(two.state_dict(), network.state_dict(), CATEGORIES, CATEGORIES, CLASS_LAYERS)


@pytest.mark.parametrize("planes", [("high",), ("high", "low"), ("low", "material", "high")])
def test_a_detector_takes_as_many_channels_as_it_was_made_for(planes):
    made = config(planes=planes)
    detector = Detector(build_model(made), made)
    random = np.random.default_rng(0)
    scans = [{name: random.integers(0, 65536, (50, 40), dtype=np.uint16) for name in ("high", "low")} for _ in range(3)]
    together = list(detector.detect_many(scans, batch_scans=2))
    assert len(together) == 3
    assert all(
        np.allclose(alone.scores, found.scores, atol=1e-5) for alone, found in zip(map(detector.detect, scans), together, strict=True)
    )


def loss_of(network, looked_for):
    """Losses on one scan with a knife, and the gradient that reaches the class layers."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    from scanloop.training.libraries import quietly

    truth = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))
    meta = {"img_shape": (64, 64), "pad_shape": (64, 64), "batch_input_shape": (64, 64), "looked_for": looked_for}
    network.train()
    network.zero_grad()
    with quietly():
        losses = network.loss(
            torch.rand(2, 3, 64, 64, generator=torch.manual_seed(0)), [DetDataSample(metainfo=meta, gt_instances=truth)] * 2
        )
        sum(sum(part) if isinstance(part, list) else part for part in losses.values()).backward()
    return [network.bbox_head.rtm_cls[level].bias.grad.clone() for level in range(3)]


def test_a_category_nobody_looked_for_teaches_nothing():
    network = build_model(config())
    all_looked_for, knife_only = loss_of(network, (True, True)), loss_of(network, (False, True))
    assert all(gradient[0].abs() > 1e-6 for gradient in all_looked_for)
    assert all(gradient[0] == 0 for gradient in knife_only)
    assert all(gradient[1].abs() > 1e-6 for gradient in knife_only)
