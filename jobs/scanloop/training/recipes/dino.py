"""DINO: a transformer that gives out a set of boxes, without anchors and without suppressing overlaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanloop.errors import WrongArguments
from scanloop.training.options import TrainingOptions
from scanloop.training.recipes.schedule import resnet, schedule

if TYPE_CHECKING:
    from mmengine.config import Config

DIMENSIONS = 256
LEVEL_STRIDES_PX = (8, 16, 32, 64)
QUERIES = 300
"""Boxes that are asked for. COCO takes 900; a bag holds a few threats, not a crowd."""
BACKBONE_RATE = 0.1
"""The learning rate of a pretrained backbone, as a share."""


def dino_r50(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """DINO with ResNet-50, four scales and six layers each way, 47 M parameters. Source: arXiv:2203.03605, table 1."""
    return _dino(options, categories, depth=50, layers=6, feedforward=2048)


def dino_r18(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """The same with ResNet-18 and two layers each way: a step on a CPU takes seconds, not a minute."""
    return _dino(options, categories, depth=18, layers=2, feedforward=1024)


def queries_of(options: TrainingOptions) -> int:
    """How many boxes are asked for; by itself no more than a window has places."""
    return options.queries or min(QUERIES, places_of(options))


def places_of(options: TrainingOptions) -> int:
    """Places of the feature maps of the smallest input that the network sees: each can start one box."""
    side = min(options.size_px, options.crop_px or options.size_px)
    return sum((-(-side // stride)) ** 2 for stride in LEVEL_STRIDES_PX)


def check_queries(options: TrainingOptions) -> None:
    """Raises WrongArguments if more boxes are asked for than there are places."""
    if options.queries > places_of(options):
        raise WrongArguments(
            f"Training option queries: an input of this size has {places_of(options)} places, fewer than the {options.queries} asked for."
        )


def _dino(options: TrainingOptions, categories: tuple[str, ...], *, depth: int, layers: int, feedforward: int) -> Config:
    from mmengine.config import Config

    from scanloop.training.postprocess import PostprocessRules

    queries, levels = queries_of(options), len(LEVEL_STRIDES_PX)
    backbone, channels = resnet(depth, options, (1, 2, 3))
    attention = {"embed_dims": DIMENSIONS, "dropout": 0.0}
    forward = {"embed_dims": DIMENSIONS, "feedforward_channels": feedforward, "ffn_drop": 0.0}
    model: dict[str, Any] = {
        "type": "DINO", "num_queries": queries, "num_feature_levels": levels, "with_box_refine": True, "as_two_stage": True,
        "data_preprocessor": None,
        "backbone": backbone,
        "neck": {
            "type": "ChannelMapper", "in_channels": channels, "kernel_size": 1, "out_channels": DIMENSIONS, "act_cfg": None,
            "norm_cfg": {"type": "GN", "num_groups": 32}, "num_outs": levels,
        },
        "encoder": {"num_layers": layers, "layer_cfg": {"self_attn_cfg": {**attention, "num_levels": levels}, "ffn_cfg": forward}},
        "decoder": {
            "num_layers": layers, "return_intermediate": True, "post_norm_cfg": None,
            "layer_cfg": {
                "self_attn_cfg": {**attention, "num_heads": 8}, "cross_attn_cfg": {**attention, "num_levels": levels}, "ffn_cfg": forward,
            },
        },
        "positional_encoding": {"num_feats": DIMENSIONS // 2, "normalize": True, "offset": 0.0, "temperature": 20},
        "bbox_head": {
            "type": "LookedForDINOHead", "num_classes": len(categories), "sync_cls_avg_factor": True,
            "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 5.0},
            "loss_iou": {"type": "GIoULoss", "loss_weight": 2.0},
        },
        "dn_cfg": {
            "label_noise_scale": 0.5, "box_noise_scale": 1.0,
            "group_cfg": {"dynamic": True, "num_groups": None, "num_dn_queries": min(100, queries)},
        },
        "train_cfg": {
            "assigner": {
                "type": "HungarianAssigner",
                "match_costs": [
                    {"type": "FocalLossCost", "weight": 2.0},
                    {"type": "BBoxL1Cost", "weight": 5.0, "box_format": "xywh"},
                    {"type": "IoUCost", "iou_mode": "giou", "weight": 2.0},
                ],
            },
        },
        "test_cfg": {"max_per_img": min(PostprocessRules().max_detections, queries)},
    }  # fmt: skip
    return Config({"model": model, **schedule(options, BACKBONE_RATE if options.pretrained else 1.0)})
