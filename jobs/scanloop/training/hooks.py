"""The one hook that ties mmengine's Runner to our training states, curves and progress."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from scanloop.errors import DataWrong
from scanloop.steps import step
from scanloop.training.state import StateStore

FORMAT = "scanloop.training-state/1"


class QuietRunner(Runner):
    """mmengine's Runner without its report on compilers and packages, which costs seconds and runs programs that it finds on the path."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Say nothing: the image's locked requirements are the record of the environment."""


class StateHook(Hook):
    """Restore the newest state before the first step; after a step, note the losses and keep a state at each interval.

    Runs after all other hooks of a step, so that averaging and schedule are in the state.
    """

    priority = "LOWEST"

    def __init__(self, states: StateStore, interval: int, on_step: Callable[[int, int, Mapping[str, float]], None]) -> None:
        self._states = states
        self._interval = interval
        self._on_step = on_step
        self._ema: EMAHook | None = None
        self._started = 0.0
        self.curves: list[tuple[int, dict[str, float]]] = []
        self.durations: list[float] = []
        self.resumed_at = 0

    def averaged(self) -> dict[str, torch.Tensor]:
        """State dict of the averaged network."""
        assert self._ema is not None
        state: dict[str, torch.Tensor] = self._ema.ema_model.module.state_dict()
        return state

    def before_train(self, runner: Any) -> None:
        """Find the running average and, if there is a state, put everything back as it was."""
        self._ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        state = self._states.newest()
        if state is not None and state.get("format") == FORMAT:
            self._restore(runner, state)

    def _restore(self, runner: Any, state: dict[str, Any]) -> None:
        assert self._ema is not None
        runner.model.load_state_dict(state["model"])
        self._ema.ema_model.load_state_dict(state["ema"])
        runner.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, values in zip(runner.param_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)
        _restore_random(state["random"])
        self.resumed_at = int(state["iteration"])
        self.curves = [(int(iteration), dict(values)) for iteration, values in state["curves"]]
        runner.train_loop._iter = self.resumed_at  # where mmengine's own resume puts it too
        runner.optim_wrapper.initialize_count_status(runner.model, self.resumed_at, runner.max_iters)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None) -> None:
        """Note the step; keep a state when it is time. Raises DataWrong when the loss is no number any more."""
        done = runner.iter + 1
        losses = {name: float(value) for name, value in (outputs or {}).items() if name.startswith(("loss", "grad"))}
        if not math.isfinite(losses.get("loss", 0.0)):
            raise DataWrong(f"The loss is {losses['loss']} after {done} iterations. A lower learning_rate may help.")
        self.durations.append(time.perf_counter() - self._started)
        values = losses | {"learning_rate": float(runner.optim_wrapper.get_lr()["lr"][0])}
        self.curves.append((done, values))
        self._on_step(done, runner.max_iters, values)
        if done % self._interval == 0 and done < runner.max_iters:
            step("training.before_state")
            self._states.save(done, self._state(runner, done))

    def _state(self, runner: Any, done: int) -> dict[str, Any]:
        assert self._ema is not None
        return {
            "format": FORMAT,
            "iteration": done,
            "model": runner.model.state_dict(),
            "ema": self._ema.ema_model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
            "random": _random_state(),
            "curves": [[iteration, values] for iteration, values in self.curves],
        }


def _random_state() -> dict[str, Any]:
    """The global generators of torch, NumPy and Python, as tensors and plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
