"""Train one network to the end, or go on with it: mmengine's Runner, with our own states.

Why the Runner: its loop, hooks, schedulers and running average are what mmdet is tested with, and they carry to several GPUs. Its own
checkpoints would not do: they hold pickled objects that only torch's unsafe loader opens, and live in a folder instead of the store.
Resuming is exact because nothing random hangs on what came before: order and augmentation are pure functions of (seed, position), the global
generators are seeded at each step from (seed, step, rank), and the loop skips what was shown through the sampler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.errors import ScanloopError, WorldUnavailable
from scanloop.training.config import ModelConfig
from scanloop.training.dataset import ScanDataset, begin_worker, collate
from scanloop.training.devices import check_precision, choose_device, cpu_threads, describe, same_bits
from scanloop.training.recipes import recipe
from scanloop.training.sampling import RepeatFactorSampler
from scanloop.training.state import StateStore
from scanloop.training.team import Team
from scanloop.training.termination import Termination

if TYPE_CHECKING:
    import torch

OnStep = Callable[[int, int, Mapping[str, float]], None]
Look = Callable[["torch.nn.Module"], float]
ALONE = Team()


@dataclass(frozen=True)
class Fitted:
    """What a training left."""

    weights: dict[str, torch.Tensor]
    """State dict of the network, on the CPU: the running average, at its end or, with a patience, at its best."""
    curves: list[tuple[int, dict[str, float]]]
    """(iteration from 1, losses and learning rate), one entry a step, of the whole training."""
    resumed_at: int
    """Steps that were taken over from a state; 0 for a training from its start."""
    seconds_per_iteration: float
    """Median over the steps of this process; 0 if there were none."""
    loader_seconds: float
    """Median time that a step of this process waited for its scans."""
    environment: dict[str, Any]
    """What the numbers depend on beside the options, see `devices.describe`."""


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
    look: Look | None = None,
    team: Team = ALONE,
) -> Fitted:
    """Train `model` (already initialized) for the configured iterations, or until nothing better comes, and return the averaged weights.

    `weights` are the repeat factors of the dataset's scans. `on_step(done, total, losses)` is called after every step. `look(network)` is the
    AP50 of a network on the val split.

    Raises:
        DataWrong: the loss stopped being a number.
        WrongArguments: the device cannot train in this precision, or the step's scans cannot be shared out evenly.
        WorldUnavailable: there is no GPU for this process, a process that prepares scans was killed, or the store takes no states any more.
    """
    import torch
    from mmengine.hooks import EMAHook

    from scanloop.training.hooks import QuietRunner, StateHook, TeamHook
    from scanloop.training.libraries import import_mmdet, quietly

    import_mmdet()
    options = config.options
    device = choose_device(options.device, team.local_rank)
    check_precision(options, device)
    torch.set_num_threads(cpu_threads(options.threads, team.local_size))
    resolved = recipe(config.recipe)(options, config.categories)
    ema, termination = dict(resolved.ema), Termination()
    state_hook = StateHook(
        states, team, on_step, state_interval=options.state_interval, validate_interval=options.validate_interval,
        patience=options.patience, look=look, termination=termination,
    )  # fmt: skip
    with (
        quietly(),
        same_bits(options, device),
        termination.heard() if team.size == 1 else nullcontext(),
        said_plainly(termination),
        _loader(dataset, weights, config, team, device) as loader,
    ):
        runner = QuietRunner(
            device=device,
            team=team,
            model=model,
            work_dir=str(workdir / "runner"),
            train_dataloader=loader,
            train_cfg=dict(resolved.train_cfg),
            optim_wrapper=dict(resolved.optim_wrapper),
            param_scheduler=[dict(scheduler) for scheduler in resolved.param_scheduler],
            default_hooks={"timer": None, "logger": None, "checkpoint": None},
            custom_hooks=[TeamHook(team, options.seed), EMAHook(ema.pop("type"), **ema), state_hook],
            randomness={"seed": options.seed},
            default_scope="mmdet",
            log_level="ERROR",
            experiment_name=f"{name}-{time.time_ns()}",
        )
        runner.train()
    return Fitted(
        weights=state_hook.kept(),
        curves=state_hook.curves,
        resumed_at=state_hook.resumed_at,
        seconds_per_iteration=float(np.median(state_hook.step_seconds)) if state_hook.step_seconds else 0.0,
        loader_seconds=float(np.median(state_hook.loader_seconds)) if state_hook.loader_seconds else 0.0,
        environment=describe(options, device, team.size),
    )


@contextmanager
def said_plainly(termination: Termination) -> Iterator[None]:
    """Say what happened in a process that prepares scans as if it had happened here.

    torch puts a traceback before the message of an error there, and has no exception of its own for a process that was killed.
    """
    try:
        yield
    except ScanloopError as error:
        if "in DataLoader worker process" not in error.message:
            raise
        raise type(error)(error.message.strip().splitlines()[-1].partition(": ")[2]) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        if termination.is_asked:  # by a signal to every process of the job
            termination.obey()
        raise WorldUnavailable(f"A process that prepares scans is gone. {str(error).splitlines()[0]}") from None


@contextmanager
def _loader(dataset: ScanDataset, weights: list[float], config: ModelConfig, team: Team, device: torch.device) -> Iterator[Any]:
    """This process's part of every step, prepared by processes of its own where the options say so. They have ended when this does.

    Left to the garbage collector, they would live on, and hold open what they have inherited: the tracker waits for the end of such a pipe.
    """
    from torch.utils.data import DataLoader

    options = config.options
    share = team.part_of(options.batch_size)
    several: dict[str, Any] = {"num_workers": 0}
    if options.workers:
        # Forked, because prepared scans lie in memory that is shared that way; a forked child opens its own store.
        several = {"num_workers": options.workers, "persistent_workers": True, "multiprocessing_context": "fork"}
        several |= {"worker_init_fn": begin_worker}
    sampler = RepeatFactorSampler(weights, options.seed, share, team.rank, team.size)
    loader: Any = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=share,
        sampler=sampler,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        **several,
    )
    try:
        yield loader
    finally:
        if getattr(loader, "_iterator", None) is not None:  # torch has no public way to end persistent workers
            loader._iterator._shutdown_workers()
            loader._iterator = None
