"""How much two trainings at once gain from half the threads each: prints the ratio of the times.

    .venv/jobs/bin/python benchmarks/trainings_side_by_side.py

Runs two real trainings (RTMDet-tiny, windows of 160 px, batches of 8) side by side, with all cores each and then with half of them each.
A ratio above 1 means that sharing is faster, which is what the stack on one machine relies on (JOBS_AT_ONCE).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Measure both ways and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=40, help="Optimizer steps of each training.")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.train:
        train(chosen.train)
        return
    cores = os.cpu_count() or 1
    all_each, half_each = (both(chosen.iterations, threads) for threads in (cores, max(1, cores // 2)))
    print(f"{chosen.iterations} steps of two trainings at once on {cores} cores: {all_each:.1f} s with {cores} threads each, "
          f"{half_each:.1f} s with {max(1, cores // 2)} each; ratio {all_each / half_each:.2f}")  # fmt: skip


def both(iterations: int, threads: int) -> float:
    """Seconds until two trainings that start together have both ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    since = time.monotonic()
    running = [subprocess.Popen([sys.executable, __file__, "--train", str(iterations)], env=environment) for _ in range(2)]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("A training failed.")
    return time.monotonic() - since


def train(iterations: int) -> None:
    """One training on random scans."""
    import numpy as np

    from scanloop.store import open_store
    from scanloop.training.config import make_config
    from scanloop.training.dataset import ScanDataset
    from scanloop.training.loop import fit
    from scanloop.training.network import build_model
    from scanloop.training.options import TrainingOptions
    from scanloop.training.sample import make_sample
    from scanloop.training.state import StateStore

    categories = ("handgun", "knife")
    config = make_config("rtmdet_tiny", TrainingOptions(size_px=256, crop_px=160, iterations=iterations, learning_rate=0.001), categories)

    def scan(index: int):
        planes = {name: np.random.default_rng(index).integers(20000, 65535, (256, 256), dtype=np.uint16) for name in ("high", "low")}
        boxes = [("knife", (40, 40, 60, 30)), ("handgun", (120, 90, 50, 70))]
        return make_sample(planes, boxes, categories, categories=categories, size_px=256, planes_spec=config.options.planes)

    with tempfile.TemporaryDirectory() as folder:
        dataset = ScanDataset(scan, 32, categories, config.options)
        states = StateStore(open_store(Path(folder, "store").as_uri()), "training/x", "f")
        fit(config, build_model(config), dataset, [1.0] * 32, states, Path(folder), name="x", on_step=lambda *_: None)


if __name__ == "__main__":
    main()
