"""The processes that train one network together. One process is a team of one, and then nothing here does anything.

The first process (rank 0) does the job: catalog, store, experiment, receipt. The others wait for its word, compute with it, and end.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from scanloop.errors import WorldUnavailable, WrongArguments

if TYPE_CHECKING:
    import torch

WORKER = "SCANLOOP_WORKER"
"""Set in the environment of a process that the launcher started."""
SILENCE = timedelta(hours=2)
"""Longest wait for another process: the first one validates and writes states while the others wait."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    """Place among all processes."""
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Place among those of this machine."""
    local_size: int = 1
    """How many are on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this process does the job."""
        return self.rank == 0

    def part_of(self, batch_size: int) -> int:
        """Scans of each step that one process takes. Raises WrongArguments if they cannot be shared evenly."""
        part, left = divmod(batch_size, self.size)
        if left:
            raise WrongArguments(f"Training option batch_size: {batch_size} scans a step cannot be shared evenly by {self.size} processes.")
        return part

    def share(self, value: Any) -> Any:
        """What the first process says, in every process. Plain values only; all processes must call this."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        said = [value]
        dist.broadcast_object_list(said, src=0, device=_cpu())
        return said[0]

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.detach().reshape(-1).to(torch.float32) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


def is_worker() -> bool:
    """Whether the launcher started this process."""
    return WORKER in os.environ


@contextmanager
def joined() -> Iterator[Team]:
    """The team of this process: of one, or the launcher's. Leaves it at the end.

    Raises:
        WorldUnavailable: another process of the team is gone.
    """
    if not is_worker():
        yield Team()
        return
    import torch
    import torch.distributed as dist

    _die_with_the_launcher()
    team = Team(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    try:
        if torch.cuda.is_available() and torch.cuda.device_count() >= team.local_size:
            torch.cuda.set_device(team.local_rank)
            dist.init_process_group("cpu:gloo,cuda:nccl", timeout=SILENCE)
        else:
            dist.init_process_group("gloo", timeout=SILENCE)
        yield team
    except RuntimeError as error:
        if not _is_about_the_others(error):
            raise
        raise WorldUnavailable(f"Another process of this training is gone: {str(error).splitlines()[0]}") from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_about_the_others(error: RuntimeError) -> bool:
    """Whether an exchange failed. gloo has no exception of its own: its errors name the C++ file that they come from."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _die_with_the_launcher() -> None:
    """A launcher that is killed leaves nobody who ends its workers, so the kernel does. Source: prctl(2), PR_SET_PDEATHSIG."""
    launcher = int(os.environ[WORKER])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:
        os.kill(os.getpid(), signal.SIGKILL)
