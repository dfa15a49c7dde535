"""The hooks that tie mmengine's Runner to our training states, curves, looks at the val split, and the team."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import Runner

from scanloop.errors import DataWrong, StoreUnavailable
from scanloop.steps import step
from scanloop.training.state import StateStore
from scanloop.training.stopping import Progress
from scanloop.training.team import Team
from scanloop.training.termination import Termination

log = logging.getLogger(__name__)
INTERVAL = 25
"""Iterations between two states, where nothing else is asked for."""
STATES_SHARE = 0.05
"""Part of the time that saving states may take then. A large network writes half a gigabyte, and a GPU does 25 steps in seconds."""
FAILURES = 3
"""States in a row that may fail to be kept: a store that is away for a while costs no training, and one that stays away ends it."""


class QuietRunner(Runner):
    """mmengine's Runner on a given device and team, without its report on compilers and packages, which costs seconds and runs programs that
    it finds on the path.
    """

    def __init__(self, *, device: torch.device, team: Team, **arguments: Any) -> None:
        self._device = device
        self._team = team
        super().__init__(**arguments)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Say nothing: the image's locked requirements are the record of the environment."""

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: Any) -> Any:
        """Put the network on the device and, in a team, into what averages gradients.

        mmdet's RTMDet comes with batch norms that look at all processes' scans; they need GPUs, and stay where a team has them.
        """
        model = model.to(self._device)
        if self._team.size == 1 or self._device.type != "cuda":
            model = revert_sync_batchnorm(model)
        if self._team.size == 1:
            return model
        devices = [self._device] if self._device.type == "cuda" else None
        return MMDistributedDataParallel(module=model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True)


class TeamHook(Hook):
    """Before a step, seed the global generators from (seed, step, rank), so that a resumed step draws what an unbroken one does. After it,
    average over the team what a step leaves in each process: the statistics of batch norms, and the losses.

    Runs before the running average is updated.
    """

    priority = "VERY_HIGH"

    def __init__(self, team: Team, seed: int) -> None:
        self._team = team
        self._seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch (every device), NumPy and Python: samplers and noise of detectors draw from these."""
        seed = int(np.random.SeedSequence((self._seed, 3, runner.iter, self._team.rank)).generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None) -> None:
        """Average."""
        if self._team.size > 1:
            buffers = [buffer for buffer in runner.model.buffers() if buffer.is_floating_point()]
            self._team.average(buffers + [value for value in (outputs or {}).values() if isinstance(value, torch.Tensor)])


class StateHook(Hook):
    """Restore the newest state before the first step; after a step, note the losses, look at the val split and keep a state when it is time.

    Runs after all other hooks of a step, so that averaging and schedule are in the state. `look(network)` gives the AP50 of the averaged
    network on the val split; it is asked in the first process only.
    """

    priority = "LOWEST"

    def __init__(
        self,
        states: StateStore,
        team: Team,
        on_step: Callable[[int, int, Mapping[str, float]], None],
        *,
        state_interval: int,
        validate_interval: int = 0,
        patience: int = 0,
        look: Callable[[torch.nn.Module], float] | None = None,
        termination: Termination | None = None,
    ) -> None:
        self._states = states
        self._team = team
        self._on_step = on_step
        self._state_interval = state_interval
        self._validate_interval = validate_interval if look else 0
        self._patience = patience if look else 0
        self._look = look
        self._termination = termination or Termination()
        self._rate = 0.0
        self._failures = 0
        self._saved_at = self._saving_s = 0.0
        self._ema: EMAHook | None = None
        self._started = self._ended = 0.0
        self._best: dict[str, torch.Tensor] | None = None
        self.progress = Progress()
        self.curves: list[tuple[int, dict[str, float]]] = []
        self.step_seconds: list[float] = []
        self.loader_seconds: list[float] = []
        self.resumed_at = 0

    def kept(self) -> dict[str, torch.Tensor]:
        """State dict of the network that the training is for: averaged, and with a patience the best one looked at.

        Raises:
            DataWrong: it holds what is no number. The last step can do that, and no loss shows it any more.
        """
        kept = self._best if self._best is not None else self._averaged()
        spoilt = next((name for name, value in kept.items() if not value.isfinite().all()), None)
        if spoilt is not None:
            raise DataWrong(f"The weights of {spoilt} are no numbers after the last step. A lower learning_rate may help.")
        return kept

    def _averaged(self) -> dict[str, torch.Tensor]:
        assert self._ema is not None
        return {name: value.detach().cpu().clone() for name, value in self._ema.ema_model.module.state_dict().items()}

    def before_train(self, runner: Any) -> None:
        """Find the running average and, if there is a state, put everything back as it was, in every process from the same state."""
        self._ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        found = self._states.newest_with_record() if self._team.is_first else None
        record = self._team.share(found[0] if found else None)
        if record is not None:
            state = found[1] if found else self._states.open(record)
            self._restore(runner, state)
        self._ended = self._saved_at = time.perf_counter()

    def _restore(self, runner: Any, state: dict[str, Any]) -> None:
        assert self._ema is not None
        _bare(runner.model).load_state_dict(state["model"])
        self._ema.ema_model.load_state_dict(state["ema"])
        runner.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, values in zip(runner.param_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)
        self.progress, self._best = Progress(**state["progress"]), state["best"]
        self.resumed_at = int(state["iteration"])
        self.curves = [(int(iteration), dict(values)) for iteration, values in state["curves"]]
        runner.train_loop._iter = self.resumed_at  # where mmengine's own resume puts it too
        runner.optim_wrapper.initialize_count_status(runner.model, self.resumed_at, runner.max_iters)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the learning rate, which the schedule changes at the end of a step, and start the clock: what passed since the last step went
        into waiting for scans.
        """
        self._rate = max(float(rate) for rate in runner.optim_wrapper.get_lr()["lr"])
        self._started = time.perf_counter()
        self.loader_seconds.append(self._started - self._ended)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None) -> None:
        """Note the step; look and keep a state when it is time. Raises DataWrong when the loss is no number any more."""
        done = runner.iter + 1
        losses = {name: float(value) for name, value in (outputs or {}).items() if name.startswith(("loss", "grad"))}
        if not math.isfinite(losses.get("loss", 0.0)):
            raise DataWrong(f"The loss is {losses['loss']} after {done} iterations. A lower learning_rate may help.")
        self.step_seconds.append(time.perf_counter() - self._started)
        values = losses | {"learning_rate": self._rate}
        is_last = done == runner.max_iters
        if self._validate_interval and (done % self._validate_interval == 0 or (is_last and self._patience)):
            values["val_ap50"] = self._looked(runner, done)
        self.curves.append((done, values))
        self._on_step(done, runner.max_iters, values)
        if self.progress.is_over(self._patience):
            runner.train_loop.stop_training = True
        elif not is_last and self._team.is_first and (self._is_due(done) or self._termination.is_asked):
            self._save(runner, done)
        self._ended = time.perf_counter()
        if self._termination.is_asked:
            self._termination.obey()

    def _is_due(self, done: int) -> bool:
        if self._state_interval:
            return done % self._state_interval == 0
        return done % INTERVAL == 0 and time.perf_counter() - self._saved_at >= self._saving_s / STATES_SHARE

    def _save(self, runner: Any, done: int) -> None:
        """Keep a state. Raises StoreUnavailable if the store has not taken one for several in a row."""
        step("training.before_state")
        began = time.perf_counter()
        self._termination.wait_no_more()
        try:
            self._states.save(done, self._state(runner, done))
        except StoreUnavailable as error:
            self._failures += 1
            if self._failures >= FAILURES:
                raise
            log.warning("The state after %d iterations is not kept. %s", done, error.message)
        else:
            self._failures = 0
        self._saved_at = time.perf_counter()
        self._saving_s = self._saved_at - began

    def _looked(self, runner: Any, done: int) -> float:
        assert self._ema is not None
        assert self._look is not None
        network = self._ema.ema_model.module
        if self._team.is_first:
            was_training = network.training
            ap50 = self._look(network.eval())
            network.train(was_training)
        else:
            ap50 = 0.0
        ap50 = float(self._team.share(ap50))
        self.progress = self.progress.after(done, ap50)
        if self._patience and self.progress.best_at == done:
            self._best = self._averaged()
        return ap50

    def _state(self, runner: Any, done: int) -> dict[str, Any]:
        assert self._ema is not None
        return {
            "iteration": done,
            "model": _bare(runner.model).state_dict(),
            "ema": self._ema.ema_model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
            "progress": asdict(self.progress),
            "best": self._best,
            "curves": [[iteration, values] for iteration, values in self.curves],
        }


def _bare(model: Any) -> Any:
    """The network without what averages gradients around it."""
    return model.module if is_model_wrapper(model) else model
