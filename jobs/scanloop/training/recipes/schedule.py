"""What recipes share: the optimizer, its schedule, the running average of the weights, and the backbones."""

from __future__ import annotations

from typing import Any

from scanloop.training.options import TrainingOptions

WRAPPERS = {
    "float32": {"type": "OptimWrapper"},
    "bfloat16": {"type": "BFloat16OptimWrapper"},
    "float16": {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"},
}
"""By precision: what runs a step. bfloat16 has the range of float32, so its gradients need no scale, on a CPU neither."""


def schedule(options: TrainingOptions, backbone_rate: float = 1.0) -> dict[str, Any]:
    """AdamW, linear warm-up, cosine decay and a running average of the weights. `backbone_rate`: the backbone's share of the learning rate."""
    warmup = round(options.iterations * options.warmup_share)
    schedulers: list[dict[str, Any]] = []
    if warmup:
        schedulers.append({"type": "LinearLR", "start_factor": 1 / warmup, "by_epoch": False, "begin": 0, "end": warmup})
    if options.iterations > warmup:
        decay = {"type": "CosineAnnealingLR", "eta_min_ratio": options.final_learning_rate_share, "by_epoch": False}
        schedulers.append({**decay, "begin": warmup, "end": options.iterations, "T_max": options.iterations - warmup})
    paramwise: dict[str, Any] = {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "bypass_duplicate": True}
    if backbone_rate != 1:
        paramwise["custom_keys"] = {"backbone": {"lr_mult": backbone_rate}}
    return {
        "default_scope": "mmdet",
        "optim_wrapper": {
            **WRAPPERS[options.precision],
            "optimizer": {"type": "AdamW", "lr": options.learning_rate, "weight_decay": options.weight_decay},
            "paramwise_cfg": paramwise,
            "clip_grad": {"max_norm": options.clip_norm},
        },
        "param_scheduler": schedulers,
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": options.iterations},
        "train_dataloader": {"batch_size": options.batch_size, "num_workers": options.workers},
        "ema": _average(options.ema_momentum),
        "randomness": {"seed": options.seed, "deterministic": options.deterministic},
        "augmentation": options.model_dump(include={"flip_probability", "overlay_probability", "crop_px", "crop_focus"}),
    }


def _average(momentum: float) -> dict[str, Any]:
    if momentum == 1:
        return {"type": "NewestWeights", "update_buffers": True}
    return {"type": "ExponentialMovingAverage", "momentum": momentum, "update_buffers": True}


def resnet(depth: int, options: TrainingOptions, out_indices: tuple[int, ...]) -> tuple[dict[str, Any], list[int]]:
    """A ResNet of `depth` 18 or 50, and the channels of the stages that it gives out.

    Nothing is downloaded. From scratch its norms learn; under pretrained weights they stay as they are, because a handful of scans a step
    would spoil statistics of a million pictures.
    """
    expansion = 1 if depth == 18 else 4
    backbone = {
        "type": "ResNet", "depth": depth, "in_channels": len(options.planes), "num_stages": 4, "out_indices": list(out_indices), "frozen_stages": -1,
        "norm_cfg": {"type": "BN", "requires_grad": True}, "norm_eval": bool(options.pretrained), "style": "pytorch",
    }  # fmt: skip
    return backbone, [64 * expansion * 2**index for index in out_indices]
