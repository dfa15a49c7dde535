"""Faster R-CNN: proposals first, then a second look at each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanloop.training.options import TrainingOptions
from scanloop.training.recipes.schedule import resnet, schedule

if TYPE_CHECKING:
    from mmengine.config import Config

CHANNELS = 256
ANCHOR_SCALE = 4
"""Side of an anchor, in strides: 16 to 256 px over five levels, half of what photographs take, because a threat fills less of a scan."""


def faster_rcnn_r50(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """Faster R-CNN with ResNet-50 and a feature pyramid, 41 M parameters. Source: arXiv:1506.01497, arXiv:1612.03144."""
    return _faster_rcnn(options, categories, depth=50)


def faster_rcnn_r18(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """The same with ResNet-18, 28 M parameters: trains on a CPU."""
    return _faster_rcnn(options, categories, depth=18)


def _faster_rcnn(options: TrainingOptions, categories: tuple[str, ...], *, depth: int) -> Config:
    from mmengine.config import Config

    from scanloop.training.postprocess import PostprocessRules

    rules = PostprocessRules()
    backbone, channels = resnet(depth, options, (0, 1, 2, 3))
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4}
    pieces = {"allowed_border": -1, "pos_weight": -1, "debug": False}
    model: dict[str, Any] = {
        "type": "FasterRCNN",
        "data_preprocessor": None,
        "backbone": backbone,
        "neck": {"type": "FPN", "in_channels": channels, "out_channels": CHANNELS, "num_outs": 5},
        "rpn_head": {
            "type": "LookedForRPNHead", "in_channels": CHANNELS, "feat_channels": CHANNELS,
            "anchor_generator": {
                "type": "AnchorGenerator", "scales": [ANCHOR_SCALE], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": {**coder, "target_stds": [1.0] * 4},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        "roi_head": {
            "type": "LookedForRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor", "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2},
                "out_channels": CHANNELS, "featmap_strides": [4, 8, 16, 32],
            },
            "bbox_head": {
                "type": "LookedForBBoxHead", "in_channels": CHANNELS, "fc_out_channels": 1024, "roi_feat_size": 7,
                "num_classes": len(categories), "reg_class_agnostic": True, "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
                "loss_cls": {"type": "PerCategoryLoss", "loss_weight": 1.0},
                "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
            },
        },
        "train_cfg": {
            "rpn": {
                **pieces, "assigner": _assigner(0.7, 0.3, match_low_quality=True),
                "sampler": {"type": "RandomSampler", "num": 256, "pos_fraction": 0.5, "neg_pos_ub": -1, "add_gt_as_proposals": False},
            },
            "rpn_proposal": {"nms_pre": 1000, "max_per_img": 500, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0},
            "rcnn": {
                **pieces, "assigner": _assigner(0.5, 0.5, match_low_quality=False),
                "sampler": {"type": "RandomSampler", "num": 256, "pos_fraction": 0.25, "neg_pos_ub": -1, "add_gt_as_proposals": True},
            },
        },
        "test_cfg": {
            "rpn": {"nms_pre": 1000, "max_per_img": 500, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0},
            "rcnn": {
                "score_thr": rules.score_threshold, "nms": {"type": "nms", "iou_threshold": rules.iou_threshold},
                "max_per_img": rules.max_detections,
            },
        },
    }  # fmt: skip
    return Config({"model": model, **schedule(options)})


def _assigner(positive: float, negative: float, *, match_low_quality: bool) -> dict[str, Any]:
    thresholds = {"pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": negative}
    return {"type": "MaxIoUAssigner", **thresholds, "match_low_quality": match_low_quality, "ignore_iof_thr": -1}
