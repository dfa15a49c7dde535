"""Named recipes: each is a function that returns the whole configuration of one training, and is chosen by name only.

Nothing heavy is imported here: the table of recipes is read where torch is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scanloop.errors import WrongArguments
from scanloop.training.options import TrainingOptions, options_from
from scanloop.training.recipes.dino import check_queries, dino_r18, dino_r50
from scanloop.training.recipes.rtmdet import rtmdet_m, rtmdet_s, rtmdet_tiny
from scanloop.training.recipes.two_stage import faster_rcnn_r18, faster_rcnn_r50

if TYPE_CHECKING:
    from mmengine.config import Config

OF_SOME_RECIPES = ("queries",)
"""Options that only some recipes read."""


def _anything(options: TrainingOptions) -> None:
    return None


@dataclass(frozen=True)
class Recipe:
    """One way to train, and what is to be known about it."""

    configure: Callable[[TrainingOptions, tuple[str, ...]], Config]
    """Returns the whole configuration."""
    parameters_m: float
    """Millions of parameters, with three input planes and two categories."""
    purpose: str
    """When to take it."""
    class_layers: tuple[str, ...]
    """Beginnings of the names of the layers whose rows are the categories."""
    is_exportable: bool = False
    """Whether the network can leave the house as ONNX."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Where its defaults differ from those of `TrainingOptions`."""
    reads: frozenset[str] = frozenset()
    """Which of `OF_SOME_RECIPES` it reads."""
    check: Callable[[TrainingOptions], None] = _anything
    """Raises WrongArguments for values that it cannot train with."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.configure.__name__

    def __call__(self, options: TrainingOptions, categories: tuple[str, ...]) -> Config:
        """The whole configuration. Raises WrongArguments if a value means nothing to this recipe or cannot be trained with."""
        for name in OF_SOME_RECIPES:
            if name not in self.reads and getattr(options, name) != TrainingOptions.model_fields[name].default:
                readers = ", ".join(other.name for other in RECIPES.values() if name in other.reads)
                raise WrongArguments(f"Training option {name} means nothing to the recipe {self.name}; it is read by {readers}.")
        self.check(options)
        return self.configure(options, categories)


_RTMDET = {"class_layers": ("bbox_head.rtm_cls.",), "is_exportable": True}
_TWO_STAGE = {"class_layers": ("roi_head.bbox_head.fc_cls.",), "defaults": {"learning_rate": 0.0005, "clip_norm": 5.0}}
_DINO = {
    "class_layers": ("bbox_head.cls_branches.", "dn_query_generator.label_embedding."),
    "defaults": {"learning_rate": 0.0002, "weight_decay": 0.0001, "clip_norm": 0.5},
    "reads": frozenset({"queries"}),
    "check": check_queries,
}
_ALL = (
    Recipe(rtmdet_tiny, 4.9, "the smallest device; small data; a CPU", **_RTMDET),  # type: ignore[arg-type]
    Recipe(rtmdet_s, 8.9, "devices with an accelerator; some thousands of labelled scans", **_RTMDET),  # type: ignore[arg-type]
    Recipe(rtmdet_m, 24.7, "the best that can be released; ten thousand labelled scans and more", **_RTMDET),  # type: ignore[arg-type]
    Recipe(faster_rcnn_r18, 28.3, "a second opinion of another kind, without a GPU", **_TWO_STAGE),  # type: ignore[arg-type]
    Recipe(faster_rcnn_r50, 41.4, "few and small threats in large scans; comparison with published work", **_TWO_STAGE),  # type: ignore[arg-type]
    Recipe(dino_r18, 17.0, "trying the transformer without a GPU", **_DINO),  # type: ignore[arg-type]
    Recipe(dino_r50, 47.5, "the strictest judge of labels and data; needs a GPU, pretrained weights and patience", **_DINO),  # type: ignore[arg-type]
)
RECIPES: dict[str, Recipe] = {known.name: known for known in _ALL}
"""Every recipe that can be asked for."""


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises WrongArguments if there is none."""
    if name not in RECIPES:
        raise WrongArguments(f"Unknown recipe {name!r}. Known: {', '.join(RECIPES)}.")
    return RECIPES[name]


def resolve_options(recipe_name: str, section: Mapping[str, Any], overrides: Sequence[str]) -> TrainingOptions:
    """Fill the options: the recipe's defaults, then a product line's `training` section, then `key=value` overrides.

    `section` names a recipe too. Its learning rate was chosen for that one, and is left out for another.

    Raises:
        WrongArguments: unknown recipe; an override has no `=`, names no option, or its value does not fit.
    """
    chosen = recipe(recipe_name)
    values = {name: value for name, value in section.items() if value is not None}
    if values.pop("recipe", recipe_name) != recipe_name:
        values.pop("learning_rate", None)
    return options_from({**chosen.defaults, **values}, overrides)
