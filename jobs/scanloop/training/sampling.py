"""The endless order in which scans are shown: a pure function of weights, seed and position, so that a training resumes anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One showing of one scan."""

    index: int
    """Which scan, by its place in the dataset."""
    position: int
    """Which showing of the whole training, from 0: with the seed it decides the augmentation."""


def epoch_order(weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """The scans of one pass, shuffled, (M,) int64. A scan of weight 2.3 is shown twice, and a third time with chance 0.3.

    Source: repeat-factor sampling, LVIS, arXiv:1908.03195, appendix B.
    """
    chance = np.random.default_rng((seed, 1, epoch))
    repeats = np.asarray(weights, dtype=np.float64)
    whole = np.floor(repeats)
    counts = (whole + (chance.random(len(repeats)) < repeats - whole)).astype(np.int64)
    if not counts.any():
        counts[:] = 1
    order = np.repeat(np.arange(len(repeats)), counts)
    chance.shuffle(order)
    return order


class RepeatFactorSampler:
    """Yield `Draw`s for ever. `skip` is what mmengine's loop calls to resume without loading what was shown.

    Several processes cut each step's scans among them: `share` scans for process 0, the next `share` for process 1, and so on. Together they
    show, step by step, what one process with all of a step's scans shows.
    """

    def __init__(self, weights: Sequence[float], seed: int, share: int = 1, rank: int = 0, processes: int = 1) -> None:
        self.weights = tuple(weights)
        self.seed = seed
        self.share = share
        self.rank = rank
        self.processes = processes
        self.skipped = 0

    def __len__(self) -> int:
        """Draws of one pass of this process, on average; the Runner asks, nothing depends on it."""
        return max(1, round(sum(self.weights) / self.processes))

    def skip(self, samples: int) -> None:
        """Leave out the next `samples` draws of this process."""
        self.skipped += samples

    def __iter__(self) -> Iterator[Draw]:
        epoch, position, mine = 0, 0, 0
        while True:
            for index in epoch_order(self.weights, self.seed, epoch):
                if position // self.share % self.processes == self.rank:
                    if mine >= self.skipped:
                        yield Draw(int(index), position)
                    mine += 1
                position += 1
            epoch += 1
