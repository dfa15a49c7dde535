"""What Scanloop asks of a labelling server, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from scanloop.errors import WrongArguments
from scanloop.store import Store


@dataclass(frozen=True)
class TaskRequest:
    """One scan to be labelled, as the server is told. Nothing in it says whose bag it is."""

    task_id: str
    """Our id of the task: creating it twice creates it once."""
    scan_id: str
    """Which scan."""
    group: str
    """Tasks of one bag share it, so that a labeller can see them side by side."""
    view_name: str
    """Which view of the bag."""
    picture_key: str
    """Store key of the picture to show, PNG."""
    height_px: int
    """Rows of the picture and of the planes."""
    width_px: int
    """Columns of the picture and of the planes."""
    looked_for: tuple[str, ...]
    """Categories to look for."""
    round: int
    """1, or more for a scan that came back from review."""
    assignees: int
    """People who are to label it independently."""


@dataclass(frozen=True)
class FinishedAnnotation:
    """What one person finished on one task, as the server gives it: not yet checked."""

    task_id: str
    """Our id of the task."""
    author: str
    """Who did it."""
    version: str
    """Changes when the author changes the annotation."""
    boxes: tuple[dict[str, Any], ...]
    """`{category, bbox_xywh}` in px of the planes."""
    time_spent_s: float | None
    """How long it took, where the server knows."""
    cursor: str
    """Where to go on after this one."""


@dataclass(frozen=True)
class FinishedPage:
    """Some finished annotations, in the order that they were finished."""

    annotations: tuple[FinishedAnnotation, ...]
    """At most as many as asked for."""
    is_last: bool
    """Whether there are no more now."""


class LabellingServer(Protocol):
    """A place where people draw boxes."""

    name: str
    """Names the server in the catalog: cursors of one mean nothing to another."""
    tool: str
    """What annotations are made with."""

    def create_tasks(self, tasks: Sequence[TaskRequest]) -> dict[str, str]:
        """Create what is not there yet and return the server's id for each task id. Asking again changes nothing.

        Raises:
            WorldUnavailable: the server cannot take them now; some may have been created.
        """
        ...

    def finished_since(self, cursor: str | None, limit: int = 500) -> FinishedPage:
        """Finished annotations after `cursor` (None: from the beginning), every one exactly once for a chain of cursors.

        Raises:
            WorldUnavailable: the server cannot answer now.
        """
        ...


def open_labelling(url: str, *, project: str, store: Store, truth_url: str) -> LabellingServer:
    """Open the labelling server that `url` names, for one product line's project.

    `simulated:?miss=.05&spurious=.02&swap=.02&jitter_px=2&seed=0` is a server whose people are simulated and err at these rates; it keeps
    its state in `store` and knows the truth from `truth_url`.

    Raises:
        WrongArguments: no such kind of server, or an option it does not know.
    """
    scheme = urlsplit(url).scheme
    if scheme == "simulated":
        from scanloop.labelling.simulated import SimulatedServer, rates_from_url
        from scanloop.store import open_store

        rates, seed = rates_from_url(url)
        return SimulatedServer(store, open_store(truth_url), project, rates, seed)
    if scheme.startswith("label-studio"):
        raise WrongArguments("Label Studio is not available in this version. Set SCANLOOP_LABELLING_URL to simulated: and run again.")
    raise WrongArguments(f"SCANLOOP_LABELLING_URL must start with simulated:, found {scheme + ':' if scheme else url[:40]!r}.")
