"""How long a training step takes, and how long it waits for its scans: prints both for each recipe, and the ratio. Limit: 1.

    .venv/jobs/bin/python benchmarks/training_steps.py [--recipes rtmdet_tiny,dino_r50] [--size-px 320] [--workers 0] [--precision float32]

Real trainings on random scans, on a GPU if there is one. The loader prepares from compressed planes in a store at first and from memory after;
windows, turns and overlays are made anew for every step. Exits 1 if a loader is slower than its step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SCANS = 64


def main() -> None:
    """Measure each recipe and print a table."""
    from scanloop.training.recipes import RECIPES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="Names, comma between them.")
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--size-px", type=int, default=320)
    parser.add_argument("--crop-px", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", default="float32")
    chosen = parser.parse_args()
    print(f"{'recipe':<16} {'device':<28} {'step ms':>9} {'loader ms':>9} {'loader/step':>11}")
    worst = 0.0
    for name in chosen.recipes.split(","):
        fitted = measure(name, chosen)
        ratio = fitted.loader_seconds / fitted.seconds_per_iteration
        worst = max(worst, ratio)
        times = f"{fitted.seconds_per_iteration * 1000:>9.1f} {fitted.loader_seconds * 1000:>9.1f} {ratio:>11.3f}"
        print(f"{name:<16} {fitted.environment['device']:<28} {times}", flush=True)
    print(f"worst loader/step {worst:.3f}, limit 1; {chosen.batch_size} scans a step, windows of {chosen.crop_px} px of {chosen.size_px}, "
          f"{fitted.environment['threads']} threads, {chosen.precision}")  # fmt: skip
    sys.exit(worst > 1)


def measure(name: str, chosen: argparse.Namespace) -> Any:
    """Train `name` for a few steps; returns what `fit` does."""
    from scanloop.scans.planes import encode_planes
    from scanloop.store import open_store
    from scanloop.training.config import make_config
    from scanloop.training.dataset import ScanDataset, SnapshotLoader
    from scanloop.training.loop import fit
    from scanloop.training.network import build_model
    from scanloop.training.recipes import resolve_options
    from scanloop.training.state import StateStore

    categories = ("handgun", "knife")
    section = {"iterations": chosen.iterations, "size_px": chosen.size_px, "crop_px": chosen.crop_px, "batch_size": chosen.batch_size}
    section |= {"workers": chosen.workers, "precision": chosen.precision, "state_interval": 10**6}
    options = resolve_options(name, section, ())
    config = make_config(name, options, categories)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "store").as_uri())
        records: Any = []
        for index in range(SCANS):
            random = np.random.default_rng(index)
            coarse = random.integers(20000, 65000, (30, 40)).astype(np.uint16)
            high = np.kron(coarse, np.ones((16, 16), np.uint16))
            stored = store.put_content("planes", encode_planes({"high": high, "low": (high * 0.7).astype(np.uint16)}), ".tiff")
            boxes = [SimpleNamespace(category=categories[index % 2], bbox_xywh=(200, 120, 150, 120))]
            records.append(SimpleNamespace(planes_key=stored.key, boxes=boxes, looked_for=categories))
        load = SnapshotLoader(store, records, categories=categories, size_px=options.size_px, planes_spec=options.planes)
        dataset = ScanDataset(load, SCANS, categories, options)
        dataset.warm_up(2)
        states = StateStore(store, "training/x", "f")
        return fit(config, build_model(config), dataset, [1.0] * SCANS, states, Path(folder), name="x", on_step=lambda *_: None)


if __name__ == "__main__":
    main()
