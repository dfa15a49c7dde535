"""Which labelling tasks there should be, and what becomes of them. Rules only."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from scanloop.canonical import digest_of

MAX_ROUNDS = 3
"""A scan that came back this often goes to a supervisor instead of round again."""


@dataclass(frozen=True)
class WantedTask:
    """A question to be asked about one scan."""

    product_line: str
    """Who asks."""
    scan_id: str
    """About which scan."""
    schema_version: str
    """Which question: the labelling schema, with `+category@taxonomy` for a category added later."""
    round: int
    """1, or one more than the round that came back."""
    selection_id: str
    """Why the scan was chosen."""
    looked_for: tuple[str, ...]
    """Categories to look for."""
    taxonomy: str
    """Version of the taxonomy that they are from: an answer means what was asked, whatever the definition says by then."""

    @property
    def task_id(self) -> str:
        """The same question about the same scan has the same id, whoever asks it and however often."""
        return digest_of(["labelling-task", self.product_line, self.scan_id, self.schema_version, self.round])[:32]


def next_tasks(chosen: Iterable[WantedTask], returned: Iterable[WantedTask], existing: Collection[str]) -> list[WantedTask]:
    """First rounds of what was chosen and next rounds of what came back, without tasks that exist; in order of task id, each once."""
    again = [
        WantedTask(task.product_line, task.scan_id, task.schema_version, task.round + 1, task.selection_id, task.looked_for, task.taxonomy)
        for task in returned
        if task.round < MAX_ROUNDS
    ]
    wanted = {task.task_id: task for task in [*chosen, *again]}
    return [wanted[task_id] for task_id in sorted(wanted) if task_id not in existing]


def verdict_of_failure(round_number: int) -> str:
    """What becomes of a task whose annotations are not accepted: `returned`, or `escalated` after the last round."""
    return "returned" if round_number < MAX_ROUNDS else "escalated"


def is_complete(authors: Collection[str], assignees: int) -> bool:
    """Whether everybody who was to label a task has."""
    return len(set(authors)) >= assignees
