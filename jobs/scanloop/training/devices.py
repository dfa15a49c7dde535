"""Where a training computes, and what there must be known about it to expect the same numbers again."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.errors import WorldUnavailable, WrongArguments
from scanloop.training.options import TrainingOptions

if TYPE_CHECKING:
    import torch

LIBRARIES = ("onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "opencv-python-headless")
"""What computes beside torch."""


def cpu_threads(wanted: int, processes: int = 1) -> int:
    """Threads to compute on: `wanted`, or OMP_NUM_THREADS, or this process's share of the cores that it may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return wanted or (int(given) if given.isdecimal() and int(given) else max(1, len(os.sched_getaffinity(0)) // processes))


def choose_device(wanted: str = "auto", local_rank: int = 0) -> torch.device:
    """The device of this process. Raises WorldUnavailable if a GPU is asked for and there is none here: another machine may have one."""
    import torch

    present = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if present > local_rank:
        return torch.device("cuda", local_rank)
    if wanted == "cuda" or present:
        raise WorldUnavailable(f"Process {local_rank} here needs a GPU of its own; found {present}. Ask for fewer processes or device=cpu.")
    return torch.device("cpu")


def check_precision(options: TrainingOptions, device: torch.device) -> None:
    """Raises WrongArguments for a precision that `device` cannot train in."""
    if options.precision == "float16" and device.type != "cuda":
        raise WrongArguments("Training option precision: float16 needs a GPU, and there is none here. On a CPU take bfloat16 or float32.")


@contextmanager
def same_bits(options: TrainingOptions, device: torch.device) -> Iterator[None]:
    """Inside, a GPU's algorithms are as deterministic as the options ask for; afterwards as they were. On a CPU they always are.

    An operator without a deterministic form is warned about, not refused: mmcv's sampling of deformable attention is one.
    """
    import torch

    before, cudnn = torch.are_deterministic_algorithms_enabled(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    if options.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's BLAS is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def describe(options: TrainingOptions, device: torch.device, processes: int) -> dict[str, Any]:
    """What the numbers of a training depend on beside its options: equal descriptions on a CPU mean equal bits."""
    import torch

    is_gpu = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def _cpu_name() -> str:
    """The processor's name. Source: proc_cpuinfo(5)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
