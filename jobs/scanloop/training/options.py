"""What may be chosen about a training: one flat, checked set of values.

Three levels fill it, the later one wins: the recipe's defaults, the product line's `training` section, `--set` on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scanloop.errors import WrongArguments


class TrainingOptions(BaseModel):
    """Every value that a recipe reads. Nothing else can be changed from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    planes: tuple[Literal["high", "low", "material"], ...] = Field(default=("high", "low", "material"), min_length=1, max_length=3)
    """Input channels, in order."""
    size_px: int = Field(default=320, ge=64, le=2048, multiple_of=32)
    """Side of the square the detector sees."""
    iterations: int = Field(default=120, ge=1, le=1_000_000)
    """Optimizer steps."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Scans a step."""
    learning_rate: float = Field(default=0.002, gt=0, le=1)
    """Peak learning rate."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, order and augmentation."""
    warmup_share: float = Field(default=0.1, ge=0, le=0.5)
    """Part of the iterations in which the learning rate rises."""
    final_learning_rate_share: float = Field(default=0.02, ge=0, le=1)
    """Learning rate of the last step, as a share of the peak."""
    weight_decay: float = Field(default=0.05, ge=0, le=1)
    """Decay of weights; norms and biases have none."""
    clip_norm: float = Field(default=10.0, gt=0)
    """Gradients longer than this are shortened."""
    ema_momentum: float = Field(default=0.05, gt=0, le=1)
    """Part of the newest weights in the running average; the average is what is kept. 1: no averaging."""
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance of mirroring, for each axis, and of exchanging the axes."""
    overlay_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance of laying another scan over a scan, as if both were in the beam."""
    crop_px: int = Field(default=192, ge=0, le=2048, multiple_of=32)
    """Side of the window that a training step sees of each input; 0, or at least `size_px`: all of it."""
    crop_focus: float = Field(default=0.8, ge=0, le=1)
    """Chance that the window is laid around one of the threats, where there is one."""
    warm_start: bool = True
    """Begin with the champion's weights, where there is one of the same recipe and channels."""
    state_interval: int = Field(default=25, ge=1)
    """Iterations between two saved training states."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads; 0: one a core."""


def resolve_options(section: Mapping[str, Any], overrides: Sequence[str]) -> TrainingOptions:
    """Fill the options from a product line's `training` section, then from `key=value` overrides.

    Raises:
        WrongArguments: an override has no `=`, names no option, or its value does not fit.
    """
    values: dict[str, Any] = {name: value for name, value in section.items() if name in TrainingOptions.model_fields}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or name not in TrainingOptions.model_fields:
            known = ", ".join(TrainingOptions.model_fields)
            raise WrongArguments(f"--set expects key=value with a key of {known}; found {override!r}.")
        values[name] = tuple(value.split(",")) if name == "planes" else value
    try:
        return TrainingOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise WrongArguments(f"Training option {name}: {first['msg']}, found {first['input']!r}.") from None
