"""What tracking adds to a training: prints the ratio of the times, with a server that works, one that hangs, and none; the limit is 1.05.

    .venv/jobs/bin/python benchmarks/tracking_overhead.py

A training is stood in for by a fixed number of steps of work, each with a point of three curves, and the end of the experiment. The server is
the tests' own, in a process of its own. Steps are timed by the processor time of the training process too: on a machine that others use, that
number alone says what the training itself does for its tracking.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.05
CASES = ("untracked", "offline", "server", "hanging server")


def main() -> None:
    """Measure each way and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="About how long a training takes.")
    parser.add_argument("--rounds", type=int, default=1, help="Trainings of each kind; the fastest counts.")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.train:
        train(chosen.train[0], int(chosen.train[1]))
        return
    if chosen.serve:
        serve()
        return
    steps = max(1, round(chosen.seconds / step_s()))
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        named = json.loads(server.stdout.readline())
        measured = {case: [run(case, steps, named) for _ in range(chosen.rounds)] for case in CASES}
        server.stdin.close()
    wall = {case: min(found["wall"] for found in times) for case, times in measured.items()}
    cpu = {case: min(found["cpu"] for found in times) for case, times in measured.items()}
    for case in CASES:
        print(f"{case:15} {wall[case]:7.2f} s, ratio {wall[case] / wall['untracked']:.3f}; "
              f"processor {cpu[case]:7.2f} s, ratio {cpu[case] / cpu['untracked']:.3f} (limit {LIMIT})")  # fmt: skip


def run(case: str, steps: int, named: dict[str, dict[str, str]]) -> dict[str, float]:
    """One training in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEARML_")} | {"OMP_NUM_THREADS": "1"}
    environment |= named.get(case, {})
    command = [sys.executable, __file__, "--train", case, str(steps)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def work() -> float:
    """A step's work."""
    import numpy as np

    pixels = np.ones((300, 300))
    return float(sum((pixels @ pixels)[0, 0] for _ in range(8)))


def step_s() -> float:
    """How long a step takes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    work()
    since = time.monotonic()
    for _ in range(50):
        work()
    return (time.monotonic() - since) / 50


def train(case: str, steps: int) -> None:
    """Work and note, and print how long it took."""
    from scanloop.store import open_store
    from scanloop.training.tracking import Experiment

    work()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store((Path(folder) / "store").as_uri())
        experiment = Experiment(Path(folder) / "tracking", "0" * 32)
        about = {"project": "scanloop/bench", "name": case, "tags": [], "options": {}, "links": {}, "config": {}}
        about |= {"product_line": "bench", "run_id": "bench"}
        since, cpu_since = time.monotonic(), time.process_time()
        is_tracked = case != "untracked"
        if is_tracked:
            experiment.start(about, store)
        for number in range(steps):
            work()
            if is_tracked:
                experiment.scalars(number, {"loss": 1 / (number + 1), "loss_cls": 0.5, "loss_bbox": 0.5})
        if is_tracked:
            experiment.finish(store, time.monotonic() - since)
        print(json.dumps({"wall": time.monotonic() - since, "cpu": time.process_time() - cpu_since}))


def serve() -> None:
    """Serve until standard input ends: one server that works and one that hangs."""
    sys.path.insert(0, str(ROOT / "tests"))
    from clearml_server.server import serving

    with serving() as good, serving() as bad:
        bad.fault = "hang"
        print(json.dumps({"server": good.environment(), "hanging server": bad.environment()}), flush=True)
        sys.stdin.read()
        bad.recover()


if __name__ == "__main__":
    main()
