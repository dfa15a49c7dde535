"""One process of a team, on scans without a catalog: prints what it saw and where it ended as one JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from scanloop.store import open_store
from scanloop.training.config import make_config
from scanloop.training.dataset import ScanDataset
from scanloop.training.loop import fit
from scanloop.training.network import build_model, model_id_of, weights_bytes
from scanloop.training.options import TrainingOptions
from scanloop.training.sample import make_sample
from scanloop.training.state import StateStore
from scanloop.training.team import joined

CATEGORIES = ("handgun", "knife")
SHARE = 4


def scan(index):
    """A scan with one block."""
    planes = {name: np.random.default_rng(index).integers(30000, 60000, (64, 64), dtype=np.uint16) for name in ("high", "low")}
    boxes = [(CATEGORIES[index % 2], (10, 12, 30, 24))]
    return make_sample(planes, boxes, CATEGORIES, categories=CATEGORIES, size_px=64, planes_spec=("high", "low", "material"))


class Watched(ScanDataset):
    """Remembers which showings were asked for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions = []

    def __getitem__(self, draw):
        self.positions.append(draw.position)
        return super().__getitem__(draw)


def main():
    folder = Path(sys.argv[1])
    options = TrainingOptions(size_px=64, batch_size=2 * SHARE, iterations=4, state_interval=2, threads=1, learning_rate=3e-4, device="cpu")
    config = make_config("rtmdet_tiny", options, CATEGORIES)
    dataset = Watched(scan, 10, CATEGORIES, options)
    store = open_store((folder / "store").as_uri())
    with joined() as team:
        states = StateStore(store, "training/x", "f")
        fitted = fit(config, build_model(config), dataset, [1.0, 1.5] * 5, states, folder, name="t", on_step=lambda *_: None, team=team)
    share = options.batch_size // team.size
    seen = [dataset.positions[start : start + share] for start in range(0, len(dataset.positions), share)][: options.iterations]
    answer = {
        "model_id": model_id_of(weights_bytes(fitted.weights)),
        "curve": [values["loss"] for _, values in fitted.curves],
        "seen": seen,
    }
    print(json.dumps(answer | {"resumed_at": fitted.resumed_at, "states": len(list(store.list("training/")))}))


main()
