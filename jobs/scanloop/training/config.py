"""What is kept beside the weights: enough to build the same network and feed it the same way, and nothing that is executed.

mmengine imports whatever a `type` in a configuration names, so a stored configuration is never given to it. What is read back is the
recipe's name, its checked options and the categories; the recipe in the code builds the rest. `resolved` is for people.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scanloop.errors import DataWrong, WrongArguments
from scanloop.training.options import TrainingOptions
from scanloop.training.postprocess import PostprocessRules
from scanloop.training.preprocess import PREPROCESS_VERSION, preprocess_config

FORMAT = "scanloop.model/1"


class ModelConfig(BaseModel):
    """The configuration of one trained model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(default=FORMAT, pattern=f"^{FORMAT}$")
    """Version of this schema."""
    recipe: str
    """Name of the recipe."""
    options: TrainingOptions
    """Every value that the recipe was given."""
    categories: tuple[str, ...] = Field(min_length=1)
    """Categories in label order: a detection's `category_ids` index this."""
    preprocess: dict[str, Any]
    """How planes become the input."""
    postprocess: dict[str, Any]
    """What is kept of the raw outputs."""
    resolved: dict[str, Any] = Field(default_factory=dict)
    """The whole configuration that the recipe returned, for people to read."""

    @property
    def rules(self) -> PostprocessRules:
        """The post-processing as a value."""
        return PostprocessRules(**self.postprocess)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode()


def make_config(recipe_name: str, options: TrainingOptions, categories: tuple[str, ...]) -> ModelConfig:
    """Resolve a recipe. Raises WrongArguments if there is no recipe of that name."""
    from scanloop.training.recipes import recipe

    resolved = recipe(recipe_name)(options, categories).to_dict()
    return ModelConfig(
        recipe=recipe_name,
        options=options,
        categories=categories,
        preprocess=preprocess_config(options.size_px, options.planes),
        postprocess=PostprocessRules().to_config(),
        resolved=resolved,
    )


def config_from_bytes(content: bytes) -> ModelConfig:
    """Read what `ModelConfig.to_bytes` wrote.

    Raises:
        DataWrong: it is no such configuration, or names a recipe or a preprocessing that this version does not know.
    """
    from scanloop.training.recipes import recipe

    try:
        config = ModelConfig.model_validate_json(content)
        recipe(config.recipe)
        _ = config.rules
    except (ValidationError, WrongArguments, TypeError) as error:
        raise DataWrong(f"Not a model configuration of this version: {str(error).splitlines()[0]}") from None
    if config.preprocess != preprocess_config(config.options.size_px, config.options.planes):
        raise DataWrong(f"The model was made with preprocessing {config.preprocess}; this version does {PREPROCESS_VERSION}.")
    return config
