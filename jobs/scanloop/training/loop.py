"""Train one network to the end, or go on with it: mmengine's Runner, with our own states.

Why the Runner: its loop, hooks, schedulers and running average are what mmdet is tested with, and they carry to several GPUs. Its own
checkpoints would not do: they hold pickled objects that only torch's unsafe loader opens, and live in a folder instead of the store.
Resuming is exact because nothing random is left to a global generator: order and augmentation are pure functions of (seed, position),
and the loop skips what was shown through the sampler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.training.config import ModelConfig
from scanloop.training.dataset import ScanDataset, collate
from scanloop.training.recipes import recipe
from scanloop.training.sampling import RepeatFactorSampler
from scanloop.training.state import StateStore

if TYPE_CHECKING:
    import torch

OnStep = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """What a training left."""

    weights: dict[str, torch.Tensor]
    """State dict of the averaged network."""
    curves: list[tuple[int, dict[str, float]]]
    """(iteration from 1, losses and learning rate), one entry a step, of the whole training."""
    resumed_at: int
    """Steps that were taken over from a state; 0 for a training from its start."""
    seconds_per_iteration: float
    """Median over the steps of this process; 0 if there were none."""


def cpu_threads(wanted: int) -> int:
    """Threads to compute on: `wanted`, or OMP_NUM_THREADS, or one for each core that this process may use."""
    import os

    given = os.environ.get("OMP_NUM_THREADS", "")
    return wanted or (int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0)))


def fit(
    config: ModelConfig,
    model: torch.nn.Module,
    dataset: ScanDataset,
    weights: list[float],
    states: StateStore,
    workdir: Path,
    *,
    name: str,
    on_step: OnStep,
) -> Fitted:
    """Train `model` (already initialized) for the configured iterations and return the averaged weights.

    `weights` are the repeat factors of the dataset's scans. `on_step(done, total, losses)` is called after every step.

    Raises:
        DataWrong: the loss stopped being a number.
    """
    import torch
    from mmengine.hooks import EMAHook
    from torch.utils.data import DataLoader

    from scanloop.training.hooks import QuietRunner, StateHook
    from scanloop.training.libraries import import_mmdet, quietly

    import_mmdet()
    options = config.options
    torch.set_num_threads(cpu_threads(options.threads))
    resolved = recipe(config.recipe)(options, config.categories)
    ema = dict(resolved.ema)
    state_hook = StateHook(states, options.state_interval, on_step)
    sampler = RepeatFactorSampler(weights, options.seed)
    loader: Any = DataLoader(dataset, batch_size=options.batch_size, sampler=sampler, num_workers=0, collate_fn=collate)  # type: ignore[arg-type]
    with quietly():
        runner = QuietRunner(
            model=model,
            work_dir=str(workdir / "runner"),
            train_dataloader=loader,
            train_cfg=dict(resolved.train_cfg),
            optim_wrapper=dict(resolved.optim_wrapper),
            param_scheduler=[dict(scheduler) for scheduler in resolved.param_scheduler],
            default_hooks={"timer": None, "logger": None, "checkpoint": None},
            custom_hooks=[EMAHook(ema.pop("type"), **ema), state_hook],
            randomness=dict(resolved.randomness),
            default_scope="mmdet",
            log_level="ERROR",
            experiment_name=f"{name}-{time.time_ns()}",
        )
        runner.train()
    return Fitted(
        weights={key: value.detach().clone() for key, value in state_hook.averaged().items()},
        curves=state_hook.curves,
        resumed_at=state_hook.resumed_at,
        seconds_per_iteration=float(np.median(state_hook.durations)) if state_hook.durations else 0.0,
    )
