"""RTMDet in three sizes: fully convolutional, no part that an edge device could not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanloop.training.options import TrainingOptions
from scanloop.training.recipes.schedule import schedule

if TYPE_CHECKING:
    from mmengine.config import Config


def rtmdet_tiny(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """RTMDet-tiny from scratch, 4.9 M parameters: for the edge, and for small data on a CPU."""
    return _rtmdet(options, categories, depth=0.167, width=0.375, neck_blocks=1)


def rtmdet_s(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """RTMDet-s, 8.9 M parameters."""
    return _rtmdet(options, categories, depth=0.33, width=0.5, neck_blocks=1)


def rtmdet_m(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """RTMDet-m, 24.7 M parameters."""
    return _rtmdet(options, categories, depth=0.67, width=0.75, neck_blocks=2)


def _rtmdet(options: TrainingOptions, categories: tuple[str, ...], *, depth: float, width: float, neck_blocks: int) -> Config:
    """An RTMDet by the multipliers of its depth and width.

    Differs from the COCO recipes in what small data needs: plain batch norm, a running average short enough for about a hundred steps,
    windows instead of mosaics, scans laid over scans instead of mixed. Source: RTMDet, arXiv:2212.07784, table 4 and section 4.1.
    """
    from mmengine.config import Config

    from scanloop.training.postprocess import STRIDES_PX, PostprocessRules

    norm, activation = {"type": "BN"}, {"type": "SiLU", "inplace": True}
    channels = [int(base * width) for base in (256, 512, 1024)]
    rules = PostprocessRules()
    model: dict[str, Any] = {
        "type": "RTMDet",
        "data_preprocessor": None,
        "backbone": {
            "type": "CSPNeXt", "arch": "P5", "expand_ratio": 0.5, "deepen_factor": depth, "widen_factor": width, "channel_attention": True,
            "norm_cfg": norm, "act_cfg": activation,
        },
        "neck": {
            "type": "CSPNeXtPAFPN", "in_channels": channels, "out_channels": channels[0], "num_csp_blocks": neck_blocks, "expand_ratio": 0.5,
            "norm_cfg": norm, "act_cfg": activation,
        },
        "bbox_head": {
            "type": "LookedForRTMDetHead", "num_classes": len(categories), "in_channels": channels[0], "feat_channels": channels[0],
            "stacked_convs": 2, "share_conv": True, "pred_kernel_size": 1, "exp_on_reg": True, "with_objectness": False,
            "anchor_generator": {"type": "MlvlPointGenerator", "offset": 0, "strides": list(STRIDES_PX)},
            "bbox_coder": {"type": "DistancePointBBoxCoder"},
            "loss_cls": {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
            "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
            "norm_cfg": norm, "act_cfg": activation,
        },
        "train_cfg": {"assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13}, "allowed_border": -1, "pos_weight": -1, "debug": False},
        "test_cfg": {
            "nms_pre": rules.candidates_per_level, "min_bbox_size": 0, "score_thr": rules.score_threshold,
            "nms": {"type": "nms", "iou_threshold": rules.iou_threshold}, "max_per_img": rules.max_detections,
        },
    }  # fmt: skip
    return Config({"model": model, **schedule(options)})
