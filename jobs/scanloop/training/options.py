"""What may be chosen about a training: one flat, checked set of values.

Three levels fill it, the later one wins: the recipe's defaults, the product line's `training` section, `--set` on the command line
(`recipes.resolve_options`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from scanloop.errors import WrongArguments

PRETRAINED = re.compile(r"^(?:(?P<uri>[^#?\s]+\.safetensors)#sha256=(?P<sha256>[0-9a-f]{64}))?$")
"""Name of pretrained weights: where they are, and what they must be. Nothing that is unpickled can be named."""


class TrainingOptions(BaseModel):
    """Every value that a recipe reads. Nothing else can be changed from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    planes: tuple[Literal["high", "low", "material", "red", "green", "blue"], ...] = Field(
        default=("high", "low", "material"), min_length=1, max_length=3
    )
    """Input channels, in order."""
    size_px: int = Field(default=320, ge=64, le=2048, multiple_of=32)
    """Side of the square the detector sees."""
    iterations: int = Field(default=120, ge=1, le=1_000_000)
    """Optimizer steps."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Scans a step, over all processes together."""
    learning_rate: float = Field(default=0.002, gt=0, le=1)
    """Peak learning rate."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, order and augmentation."""
    warmup_share: float = Field(default=0.1, ge=0, le=0.5)
    """Part of the iterations in which the learning rate rises."""
    final_learning_rate_share: float = Field(default=0.02, ge=0, le=1)
    """Learning rate that the steps come down to, as a share of the peak."""
    weight_decay: float = Field(default=0.05, ge=0, le=1)
    """Decay of weights; norms and biases have none."""
    clip_norm: float = Field(default=10.0, gt=0, le=1_000_000)
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
    state_interval: int = Field(default=0, ge=0, le=1_000_000)
    """Iterations between two saved training states; 0: 25, or as many times 25 as keep the saving below a twentieth of the time."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads of each process; 0: the cores, shared among its processes."""
    workers: int = Field(default=0, ge=0, le=64)
    """Processes that prepare scans for each training process; 0: it does so itself. What is shown does not depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto: on a GPU where there is one."""
    deterministic: bool = False
    """Take the algorithms of a GPU that give the same bits each time, and are slower. On a CPU it changes nothing."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the network computes in; weights stay float32. float16 needs a GPU."""
    pretrained: str = Field(default="", pattern=PRETRAINED.pattern, max_length=1000)
    """Weights to begin with where no champion is: `KEY#sha256=DIGEST` of a safetensors file in the store, or its whole address there."""
    validate_interval: int = Field(default=0, ge=0, le=1_000_000)
    """Iterations between two looks at the val split; 0: none before the end."""
    patience: int = Field(default=0, ge=0, le=1_000_000)
    """Stop after so many looks without a better AP50 and keep the best weights; 0: train to the end and keep the last."""
    queries: int = Field(default=0, ge=0, le=2000)
    """DINO only: boxes that are asked for; 0: 300, or as many as the window has places."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("expected a number")
        return value

    @field_validator("planes")
    @classmethod
    def _once(cls, planes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(planes)) != len(planes):
            raise ValueError("a plane is named twice")
        return planes

    @model_validator(mode="after")
    def _belongs_together(self) -> TrainingOptions:
        if self.patience and not self.validate_interval:
            raise ValueError("patience needs a validate_interval")
        return self


def options_from(values: Mapping[str, Any], overrides: Sequence[str]) -> TrainingOptions:
    """Options from values, then from `key=value` overrides.

    Raises:
        WrongArguments: an override has no `=`, names no option, or its value does not fit.
    """
    filled = {name: value for name, value in values.items() if name in TrainingOptions.model_fields}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or name not in TrainingOptions.model_fields:
            known = ", ".join(TrainingOptions.model_fields)
            raise WrongArguments(f"--set expects key=value with a key of {known}; found {override!r}.")
        filled[name] = tuple(value.split(",")) if name == "planes" else value
    try:
        return TrainingOptions.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise WrongArguments(f"Training options: {first['msg'].removeprefix('Value error, ')}.") from None
        name = ".".join(str(part) for part in first["loc"])
        raise WrongArguments(f"Training option {name}: {first['msg']}, found {first['input']!r}.") from None


def check_window(options: TrainingOptions, share: int) -> None:
    """Raises WrongArguments if one process's scans of a step leave a batch norm a single value: the deepest features have a stride of 32 px."""
    if share == 1 and options.crop_px == 32:
        raise WrongArguments(
            "Training option crop_px: a window of 32 px needs two scans a step in each process; raise crop_px or batch_size."
        )
