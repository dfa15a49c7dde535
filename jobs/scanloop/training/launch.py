"""Start the processes of one training, on one machine or several, and end with the exit code that matters.

By torch's elastic launcher, which is what torchrun is made of. It is used through its library, not its command, because it must give back
exit codes: what is wrong with data or arguments stays so, and everything else can be tried again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scanloop.errors import DataWrong, NothingToDo, WorldUnavailable, WrongArguments
from scanloop.training.team import WORKER, is_worker

log = logging.getLogger(__name__)
SAID = frozenset(error.exit_code for error in (WrongArguments, DataWrong, WorldUnavailable, NothingToDo))
"""Exit codes that a worker chose."""
SAME_COMMAND = "from scanloop.cli.main import main; main()"
"""What a worker runs: the command that was asked for, again."""
STOP_WITHIN_S = 12
"""Time that workers have to end after SIGTERM before they are killed: a pod has 30 s in all."""
GATHER_WITHIN_S = 900
"""Time within which all nodes must have come."""


@dataclass(frozen=True)
class Layout:
    """How many processes train together, and where. Raises WrongArguments if the numbers do not fit together."""

    nodes: int = 1
    """Machines."""
    processes_per_node: int = 1
    """Processes on each; one a GPU."""
    node: int = 0
    """Which of the machines this is."""
    rendezvous: str = ""
    """`host:port` of node 0, where the nodes find each other; empty: one machine, any free port."""

    def __post_init__(self) -> None:
        if not 0 <= self.node < self.nodes:
            raise WrongArguments(f"JOB_COMPLETION_INDEX is {self.node}; with SCANLOOP_NODES={self.nodes} it must be 0 to {self.nodes - 1}.")
        if self.nodes > 1 and not self.rendezvous:
            raise WrongArguments(
                "SCANLOOP_NODES is more than 1, and SCANLOOP_RENDEZVOUS does not say where they meet (host:port of node 0)."
            )
        if self.rendezvous and not self.rendezvous.rpartition(":")[2].isdecimal():
            raise WrongArguments(f"SCANLOOP_RENDEZVOUS is not usable: expected host:port, found {self.rendezvous!r}.")

    @property
    def is_several(self) -> bool:
        """Whether there is more than one process."""
        return self.nodes * self.processes_per_node > 1


def read_layout(environment: Mapping[str, str]) -> Layout:
    """The layout that the environment asks for. Raises WrongArguments for what is no number above zero, or does not fit together."""

    def number(name: str, default: int, lowest: int) -> int:
        given = environment.get(name, "").strip()
        if given and not (given.isdecimal() and int(given) >= lowest):
            raise WrongArguments(f"{name} is not usable: expected a whole number from {lowest}, found {given!r}.")
        return int(given) if given else default

    nodes = number("SCANLOOP_NODES", 1, 1)
    node = number("JOB_COMPLETION_INDEX", 0, 0) if nodes > 1 else 0
    return Layout(nodes, number("SCANLOOP_PROCESSES_PER_NODE", 1, 1), node, environment.get("SCANLOOP_RENDEZVOUS", "").strip())


def must_launch() -> bool:
    """Whether this process has to start the ones that train. Raises WrongArguments as `read_layout` does."""
    return not is_worker() and read_layout(os.environ).is_several


def launch(arguments: Sequence[str]) -> int:
    """Run `scanloop` with `arguments` in every process of the layout; returns the exit code of the whole."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    layout = read_layout(os.environ)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what a worker has to say, it has said itself
    where: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": layout.rendezvous or "localhost:0"}
    if layout.nodes > 1:  # the node with index 0 must hold rank 0, because its pod is the one whose output counts
        where = {"rdzv_backend": "static", "rdzv_endpoint": layout.rendezvous, "rdzv_configs": {"rank": layout.node}}
    config = LaunchConfig(
        min_nodes=layout.nodes,
        max_nodes=layout.nodes,
        nproc_per_node=layout.processes_per_node,
        run_id="scanloop",
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=STOP_WITHIN_S,
        rdzv_timeout=GATHER_WITHIN_S,
        logs_specs=DefaultLogsSpecs(),
        **where,
    )
    os.environ[WORKER] = str(os.getpid())
    log.info("Training with %d processes on %d nodes.", layout.processes_per_node * layout.nodes, layout.nodes)
    try:
        elastic_launch(config, sys.executable)("-c", SAME_COMMAND, *arguments)
    except ChildFailedError as failed:
        codes = [failure.exitcode for failure in sorted(failed.failures.values(), key=lambda failure: failure.timestamp)]
        return exit_code_of(codes)
    except SignalException as stopped:
        log.warning("Stopped by %s; all processes of this training have ended.", stopped.sigval.name)
        return 128 + int(stopped.sigval)
    except (RendezvousError, TimeoutError) as error:
        log.error("The nodes of this training did not find each other at %s: %s", layout.rendezvous, error)  # noqa: TRY400  a sentence is enough
        return WorldUnavailable.exit_code
    return 0


def exit_code_of(codes: Sequence[int]) -> int:
    """The exit code of the whole, from those of failed workers in the order of their ends (negative: the signal that ended one).

    What a worker says about data or arguments is kept even if another fell first because of it. A worker that was killed can be tried again.
    """
    for final in (WrongArguments.exit_code, DataWrong.exit_code):
        if final in codes:
            return final
    first = codes[0] if codes else WorldUnavailable.exit_code
    return first if first in SAID or first == 70 else WorldUnavailable.exit_code
