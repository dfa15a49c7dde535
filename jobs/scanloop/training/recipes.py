"""Named recipes: each returns the whole configuration of one training, and is chosen by name only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scanloop.errors import WrongArguments
from scanloop.training.options import TrainingOptions
from scanloop.training.postprocess import STRIDES_PX, PostprocessRules

if TYPE_CHECKING:
    from mmengine.config import Config

Recipe = Callable[[TrainingOptions, tuple[str, ...]], "Config"]


def rtmdet_tiny(options: TrainingOptions, categories: tuple[str, ...]) -> Config:
    """RTMDet-tiny from scratch, 4.9 M parameters: for the edge, and for small data on a CPU.

    Differs from the COCO recipe in what small data needs: plain batch norm, a running average short enough for about a hundred steps,
    windows instead of mosaics, scans laid over scans instead of mixed. Source: RTMDet, arXiv:2212.07784, table 4 and section 4.1.
    """
    from mmengine.config import Config

    norm, activation = {"type": "BN"}, {"type": "SiLU", "inplace": True}
    depth, width = 0.167, 0.375
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
            "type": "CSPNeXtPAFPN", "in_channels": channels, "out_channels": channels[0], "num_csp_blocks": 1, "expand_ratio": 0.5,
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


def schedule(options: TrainingOptions) -> dict[str, Any]:
    """AdamW, linear warm-up, cosine decay and a running average of the weights: what recipes share."""
    warmup = round(options.iterations * options.warmup_share)
    schedulers: list[dict[str, Any]] = []
    if warmup:
        schedulers.append({"type": "LinearLR", "start_factor": 1 / warmup, "by_epoch": False, "begin": 0, "end": warmup})
    if options.iterations > warmup:
        decay = {"type": "CosineAnnealingLR", "eta_min_ratio": options.final_learning_rate_share, "by_epoch": False}
        schedulers.append({**decay, "begin": warmup, "end": options.iterations, "T_max": options.iterations - warmup})
    return {
        "default_scope": "mmdet",
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": options.learning_rate, "weight_decay": options.weight_decay},
            "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "bypass_duplicate": True},
            "clip_grad": {"max_norm": options.clip_norm},
        },
        "param_scheduler": schedulers,
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": options.iterations},
        "train_dataloader": {"batch_size": options.batch_size, "num_workers": 0},
        "ema": {"type": "ExponentialMovingAverage", "momentum": options.ema_momentum, "update_buffers": True},
        "randomness": {"seed": options.seed, "deterministic": False},
        "augmentation": options.model_dump(include={"flip_probability", "overlay_probability", "crop_px", "crop_focus"}),
    }


RECIPES: dict[str, Recipe] = {"rtmdet_tiny": rtmdet_tiny}
"""Every recipe that can be asked for."""


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises WrongArguments if there is none."""
    if name not in RECIPES:
        raise WrongArguments(f"Unknown recipe {name!r}. Known: {', '.join(RECIPES)}.")
    return RECIPES[name]
