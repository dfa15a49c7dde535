"""Every recipe builds what it says, refuses what means nothing to it, and takes a scan as a negative only for what was looked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanloop.errors import DataWrong, WrongArguments
from scanloop.release.export import check_exportable
from scanloop.training.config import make_config
from scanloop.training.detector import Detector
from scanloop.training.network import build_model, warm_started
from scanloop.training.options import TrainingOptions
from scanloop.training.recipes import RECIPES, recipe, resolve_options
from scanloop.training.recipes.dino import places_of, queries_of

CATEGORIES = ("handgun", "knife")
SMALL = {"size_px": 64}


def config(name, categories=CATEGORIES, **options):
    return make_config(name, TrainingOptions(**SMALL, **options), categories)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_parameters_that_it_states(name):
    network = build_model(config(name))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(RECIPES[name].parameters_m, abs=0.06)


@pytest.mark.parametrize("name", ["rtmdet_tiny", "faster_rcnn_r18", "dino_r18"])
def test_a_detector_of_every_family_answers_in_pixels_of_the_scan(name):
    made = config(name, planes=("low", "high"))
    random = np.random.default_rng(0)
    scans = [{plane: random.integers(0, 65536, (50, 40), dtype=np.uint16) for plane in ("high", "low")} for _ in range(3)]
    detector = Detector(build_model(made), made)
    together = list(detector.detect_many(scans, batch_scans=2))
    assert [len(found) > 0 for found in together] == [True] * 3
    for alone, found in zip(map(detector.detect, scans), together, strict=True):
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [40, 50, 40, 50]).all()
        assert set(found.category_ids) <= {0, 1}
        assert np.allclose(alone.scores[:5], found.scores[:5], atol=1e-4)


@pytest.mark.parametrize("name", ["rtmdet_tiny", "faster_rcnn_r18", "dino_r18"])
def test_only_class_layers_follow_the_categories(name):
    two, three = build_model(config(name)).state_dict(), build_model(config(name, (*CATEGORIES, "grenade"))).state_dict()
    assert set(two) == set(three)
    assert all(layer.startswith(RECIPES[name].class_layers) for layer in two if two[layer].shape != three[layer].shape)
    started = warm_started(three, two, ("grenade", "knife", "handgun"), CATEGORIES, RECIPES[name].class_layers)
    for layer in two:
        if layer.startswith(RECIPES[name].class_layers):
            assert torch.equal(started[layer][2], two[layer][0])
            assert torch.equal(started[layer][0], three[layer][0])


@pytest.mark.parametrize("name", RECIPES)
def test_what_means_nothing_to_a_recipe_is_refused(name):
    if "queries" in RECIPES[name].reads:
        assert config(name, queries=20).options.queries == 20
        return
    with pytest.raises(WrongArguments, match=f"queries means nothing to the recipe {name}; it is read by dino_r18, dino_r50"):
        config(name, queries=20)


def test_more_queries_than_places_are_refused():
    assert places_of(TrainingOptions(**SMALL)) == 64 + 16 + 4 + 1
    assert queries_of(TrainingOptions(**SMALL)) == 85
    assert queries_of(TrainingOptions(size_px=320, crop_px=192)) == 300
    with pytest.raises(WrongArguments, match="85 places, fewer than the 86"):
        config("dino_r50", queries=86)


def test_values_of_a_recipe_win_over_general_ones_and_lose_to_the_product_line():
    section = {"recipe": "dino_r50", "learning_rate": None, "iterations": 7}
    options = resolve_options("dino_r50", section, ())
    assert (options.learning_rate, options.weight_decay, options.iterations) == (0.0002, 0.0001, 7)
    assert resolve_options("dino_r50", section | {"learning_rate": 0.1}, ()).learning_rate == 0.1
    assert resolve_options("dino_r50", section | {"learning_rate": 0.1}, ("learning_rate=0.3",)).learning_rate == 0.3


def test_a_learning_rate_chosen_for_one_recipe_is_not_another_ones():
    section = {"recipe": "rtmdet_tiny", "learning_rate": 0.01}
    assert resolve_options("dino_r50", section, ()).learning_rate == 0.0002
    assert resolve_options("rtmdet_s", {"recipe": "rtmdet_tiny", "learning_rate": None}, ()).learning_rate == 0.002


def test_a_pretrained_backbone_learns_slowly_and_keeps_its_statistics():
    named = "weights/r50.safetensors#sha256=" + "0" * 64
    fresh, pretrained = (recipe("dino_r50")(TrainingOptions(**SMALL, pretrained=given), CATEGORIES) for given in ("", named))
    assert (fresh.model.backbone.norm_eval, pretrained.model.backbone.norm_eval) == (False, True)
    assert pretrained.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    assert "custom_keys" not in fresh.optim_wrapper.paramwise_cfg


@pytest.mark.parametrize("name", [name for name, known in RECIPES.items() if known.is_exportable])
def test_what_can_be_exported(name):
    check_exportable(name, "f" * 64)


@pytest.mark.parametrize("name", [name for name, known in RECIPES.items() if not known.is_exportable])
def test_what_cannot_be_exported_is_refused(name):
    with pytest.raises(
        DataWrong, match=f"recipe {name}, which cannot be exported to ONNX; those that can are rtmdet_tiny, rtmdet_s, rtmdet_m"
    ):
        check_exportable(name, "f" * 64)


def gradients(name, looked_for):
    """What one step on two scans, each with a knife, teaches the rows of the class layers: (layers, C), summed without signs."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    from scanloop.training.libraries import quietly

    network = build_model(config(name)).train()
    truth = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))
    meta = {"img_shape": (64, 64), "pad_shape": (64, 64), "batch_input_shape": (64, 64), "looked_for": looked_for}
    torch.manual_seed(0)
    with quietly():
        losses = network.loss(torch.rand(2, 3, 64, 64), [DetDataSample(metainfo=meta, gt_instances=truth)] * 2)
        sum(sum(part) if isinstance(part, list) else part for part in losses.values()).backward()
    found = {
        layer: parameter.grad.reshape(len(CATEGORIES), -1).abs().sum(1)
        for layer, parameter in network.named_parameters()
        if layer.startswith(RECIPES[name].class_layers) and parameter.grad is not None and "embedding" not in layer
    }
    return torch.stack(list(found.values())), network


@pytest.mark.parametrize("name", ["faster_rcnn_r18", "dino_r18"])
def test_a_category_nobody_looked_for_teaches_nothing(name):
    all_looked_for, _ = gradients(name, (True, True))
    knife_only, _ = gradients(name, (False, True))
    assert (all_looked_for > 0).all()
    assert (knife_only[:, 0] == 0).all()
    assert (knife_only[:, 1] > 0).all()


@pytest.mark.parametrize("name", ["faster_rcnn_r18", "dino_r18"])
def test_a_mark_teaches_even_where_its_category_was_not_looked_for(name):
    """As after two scans were laid over each other, of which only one was searched for knives."""
    handgun_only, _ = gradients(name, (True, False))
    assert (handgun_only[:, 1] > 0).any()


def test_where_not_all_was_looked_for_no_place_is_known_to_be_empty():
    """The first stage of two asks for any threat: without marks, a scan that was half looked at says nothing."""
    from mmengine.structures import InstanceData

    head = build_model(config("faster_rcnn_r18")).rpn_head
    anchors = head.prior_generator.grid_priors([(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)], device="cpu")
    flat, nothing = torch.cat(anchors), InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    for looked_for, taught in (((True, True), 256), ((False, True), 0)):
        meta = {"img_shape": (64, 64), "looked_for": looked_for}
        weights = head._get_targets_single(flat, torch.ones(len(flat), dtype=torch.bool), nothing, meta)[1]
        assert int((weights > 0).sum()) == taught
