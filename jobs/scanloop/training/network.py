"""The detector network: built from a checked configuration, its weights kept as safetensors.

Nothing is downloaded, nothing is unpickled, and no name from outside reaches mmdet's registries: see `config`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.errors import DataWrong, ObjectCorrupt
from scanloop.training.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from scanloop.store import Store


def build_model(config: ModelConfig, weights_path: Path | None = None) -> torch.nn.Module:
    """Build the network in evaluation mode; with weights if given, else initialized from the seed.

    Input: (N, channels, size_px, size_px) float32. Of an RTMDet, `model.forward(inputs, mode="tensor")` gives class logits and distances per level.

    Raises:
        DataWrong: the weights do not fit the configuration.
    """
    import torch

    from scanloop.training.libraries import import_mmdet, quietly
    from scanloop.training.recipes import recipe

    import_mmdet()
    from mmdet.registry import MODELS
    from mmengine.runner.utils import set_random_seed

    resolved = recipe(config.recipe)(config.options, config.categories)
    with quietly():
        set_random_seed(config.options.seed)
        model = MODELS.build(resolved.model)
        _fit_channels(model, len(config.options.planes))
        model.init_weights()
    if weights_path is not None:
        load_weights(model, weights_path)
    model.eval()
    return model.to(memory_format=torch.channels_last)


def _fit_channels(model: Any, channels: int) -> None:
    """Give an RTMDet that takes fewer channels another first convolution: its backbone in mmdet always takes three."""
    if channels == 3 or not isinstance(getattr(model.backbone, "stem", None), Iterable):
        return
    import torch

    old = model.backbone.stem[0].conv
    model.backbone.stem[0].conv = torch.nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None
    )


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """Encode a state dict as safetensors; the same values give the same bytes. Tensors that several names share are kept once a name."""
    import torch
    from safetensors.torch import save

    return save({name: value.detach().to("cpu", memory_format=torch.contiguous_format).clone() for name, value in state.items()})


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Raises DataWrong if it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataWrong(f"{path.name} is not a safetensors file: {error}.") from None


def download_model(store: Store, key: str, model_id: str, path: Path) -> Path:
    """Fetch the weights of a model.

    Raises:
        ObjectNotFound: the store has none under `key`.
        ObjectCorrupt: they are not those that the id names.
    """
    store.download(key, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model_id:
        raise ObjectCorrupt(f"{store.uri(key)} has the digest {found[:12]}; {model_id[:12]} was expected.")
    return path


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Put weights into the network, every one of them. Raises DataWrong if a name or a shape differs."""
    try:
        model.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise DataWrong(
            f"The weights {path.name} do not fit the network of their configuration: {str(error).splitlines()[-1].strip()}"
        ) from None


def model_id_of(weights: bytes) -> str:
    """The id of a model: SHA-256 of its safetensors."""
    return hashlib.sha256(weights).hexdigest()


def warm_started(
    fresh: Mapping[str, torch.Tensor],
    parent: Mapping[str, torch.Tensor],
    categories: Sequence[str],
    parent_categories: Sequence[str],
    class_layers: tuple[str, ...],
) -> dict[str, torch.Tensor]:
    """Start from a parent's weights: all layers as they are, and of the class layers the rows of the categories that both know.

    `fresh` is the state of the new network; neither argument is changed. `class_layers` are beginnings of layer names.

    Raises:
        DataWrong: another layer differs in name or shape, so the parent is of another recipe.
    """
    state = {name: value.clone() for name, value in fresh.items()}
    if set(parent) != set(fresh):
        raise DataWrong("The parent model has other layers than this recipe: it cannot be a warm start.")
    for name, value in parent.items():
        if name.startswith(class_layers):
            for row, category in enumerate(categories):
                if category in parent_categories:
                    state[name][row] = value[list(parent_categories).index(category)]
        elif state[name].shape != value.shape:
            raise DataWrong(f"Layer {name} of the parent model has shape {tuple(value.shape)}; this recipe has {tuple(state[name].shape)}.")
        else:
            state[name].copy_(value)
    return state
