"""A training without catalog and snapshot: twelve small scans in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CATEGORIES = ("handgun", "knife")


class Killed(Exception):
    """Stands for the end of the process."""


def scan(index: int) -> Any:
    """A scan with one block of each category."""
    from scanloop.training.sample import make_sample

    random = np.random.default_rng(index)
    high = np.full((64, 64), 60000, np.uint16)
    low = high.copy()
    boxes = []
    for category, side, depth in (("handgun", 16, 1.5), ("knife", 10, 0.7)):
        x, y = (int(value) for value in random.integers(0, 44, 2))
        for plane, factor in ((high, 1.0), (low, 1.8)):
            plane[y : y + side, x : x + side] = round(60000 * np.exp(-depth * factor))
        boxes.append((category, (x, y, side, side)))
    planes = {"high": high, "low": low}
    return make_sample(planes, boxes, CATEGORIES, categories=CATEGORIES, size_px=64, planes_spec=("high", "low", "material"))


def train(
    folder: Path,
    *,
    recipe: str = "rtmdet_tiny",
    killed_after: int | None = None,
    load: Any = scan,
    look: Any = None,
    store: Any = None,
    on_step: Any = None,
    **options: Any,
) -> Any:
    """Train on the scans; returns what `fit` does. Raises Killed after `killed_after` steps."""
    from scanloop.store import open_store
    from scanloop.training.config import make_config
    from scanloop.training.dataset import ScanDataset
    from scanloop.training.loop import fit
    from scanloop.training.network import build_model
    from scanloop.training.options import TrainingOptions
    from scanloop.training.state import StateStore

    values = {
        "size_px": 64,
        "batch_size": 4,
        "iterations": 8,
        "state_interval": 3,
        "threads": 1,
        "learning_rate": 3e-4,
        "device": "cpu",
        **options,
    }
    config = make_config(recipe, TrainingOptions(**values), CATEGORIES)
    dataset = ScanDataset(load, 12, CATEGORIES, config.options)
    states = StateStore(store or open_store((folder / "store").as_uri()), "training/x", "f")

    def tell(done: int, total: int, losses: Any) -> None:
        if on_step:
            on_step(done, total, losses)
        if done == killed_after:
            raise Killed

    weights = [1.0, 1.5] * 6
    return fit(config, build_model(config), dataset, weights, states, folder, name="test", on_step=tell, look=look)


def id_of(fitted: Any) -> str:
    """The id that the model of a training would have."""
    from scanloop.training.network import model_id_of, weights_bytes

    return model_id_of(weights_bytes(fitted.weights))
