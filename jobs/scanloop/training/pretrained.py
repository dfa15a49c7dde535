"""Begin with weights that were learned elsewhere: a safetensors file in the store, named together with its digest."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanloop.errors import DataWrong, ObjectNotFound, WrongArguments
from scanloop.training.options import PRETRAINED

if TYPE_CHECKING:
    import torch

    from scanloop.store import Store

log = logging.getLogger(__name__)
SHOWN = 20
"""Layers that the log names."""


@dataclass(frozen=True)
class PretrainedWeights:
    """A file of weights, as the option `pretrained` names it."""

    key: str
    """Where it is in the store."""
    sha256: str
    """What it must hash to."""

    @property
    def option(self) -> str:
        """The option that names it, with the key alone: a record that says where a store lay is wrong once the store has moved."""
        return f"{self.key}#sha256={self.sha256}"


def parse_pretrained(option: str, store: Store) -> PretrainedWeights | None:
    """Read the option; None if it is empty. Raises WrongArguments for an address outside the store, or what is no key."""
    if not option:
        return None
    matched = PRETRAINED.match(option)
    assert matched is not None  # TrainingOptions has checked it
    uri, sha256 = matched["uri"], matched["sha256"]
    if "://" in uri:
        root = store.uri("x").removesuffix("x")
        if not uri.startswith(root):
            raise WrongArguments(f"Training option pretrained: {uri} is not in the store {root}. Copy the file there first.")
        uri = uri.removeprefix(root)
    if uri.startswith("/") or any(part in ("", ".", "..") for part in uri.split("/")):
        raise WrongArguments(f"Training option pretrained: {uri!r} is no key of the store.")
    return PretrainedWeights(uri, sha256)


def fetch_pretrained(store: Store, named: PretrainedWeights, path: Path) -> dict[str, torch.Tensor]:
    """Download and read the weights.

    Raises:
        DataWrong: the store has no such file, it is another than was named, or it is no safetensors file.
    """
    from scanloop.training.network import read_weights

    try:
        store.download(named.key, path)
    except ObjectNotFound:
        raise DataWrong(f"The pretrained weights {store.uri(named.key)} are not there. Put them there, or set no pretrained.") from None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != named.sha256:
        raise DataWrong(f"{store.uri(named.key)} has the digest {found}; the option pretrained names {named.sha256}.")
    weights = read_weights(path)
    path.unlink()
    return weights


def with_pretrained(fresh: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of a fresh network with every given layer that has the same name and shape; neither argument is changed.

    A file may hold a whole network, a backbone with its names as they are in the network (`backbone.conv1.weight`), or one with its own
    (`conv1.weight`). Layers that do not fit are listed in the log.

    Raises:
        DataWrong: not one layer fits, or one that does holds no real numbers, or some that are not finite.
    """
    whole = dict(given) if any(name in fresh for name in given) else {f"backbone.{name}": value for name, value in given.items()}
    fitting = {name for name, value in whole.items() if name in fresh and fresh[name].shape == value.shape}
    if not fitting:
        raise DataWrong(f"None of the {len(given)} pretrained layers fits this recipe; the first is {_shown(next(iter(given), 'none'))}.")
    for name in sorted(fitting):
        if not (_is_of_numbers(whole[name], fresh[name]) and whole[name].to(fresh[name].dtype).isfinite().all()):
            kind = str(whole[name].dtype).removeprefix("torch.")
            raise DataWrong(
                f"The pretrained layer {name} ({kind}) holds what is no finite {str(fresh[name].dtype).removeprefix('torch.')}."
            )
    others = [
        f"{_shown(name)} {tuple(value.shape)}" + (f", here {tuple(fresh[name].shape)}" if name in fresh else ", not here")
        for name, value in whole.items()
        if name not in fitting
    ]
    log.info("Pretrained weights: %d of the network's %d layers taken.", len(fitting), len(fresh))
    if others:
        more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        log.warning("Pretrained layers that do not fit and are left out: %s%s.", "; ".join(others[:SHOWN]), more)
    return {name: (whole[name].to(value.dtype) if name in fitting else value).clone() for name, value in fresh.items()}


def _is_of_numbers(given: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether weights are real numbers where real ones belong, and whole numbers where counters are."""
    return given.is_floating_point() if wanted.is_floating_point() else given.dtype == wanted.dtype


def _shown(name: str) -> str:
    """A name from a file, fit for a log."""
    return name[:100] if name.isprintable() and name.isascii() else ascii(name[:100])
