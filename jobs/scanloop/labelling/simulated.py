"""A labelling server whose people are simulated.

Its state is its own and lies in the store, as another server's would lie in its database: `labelling-sim/<project>/log/<number>.json`, one
object for each batch of tasks that was created, numbered without gaps. People answer at once; their answers follow from the seed, so they
need no storage. A cursor is `<number>:<answers of that batch already seen>`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import islice
from urllib.parse import parse_qs, urlsplit

from scanloop.canonical import canonical_json, digest_of
from scanloop.errors import DataWrong, ObjectConflict, ObjectNotFound, WrongArguments
from scanloop.labelling.annotators import ErrorRates, answer
from scanloop.labelling.boxes import Box, boxes_from_json
from scanloop.labelling.server import FinishedAnnotation, FinishedPage, TaskRequest
from scanloop.store import Store

log = logging.getLogger(__name__)


def rates_from_url(url: str) -> tuple[ErrorRates, int]:
    """Error rates and seed from `simulated:?miss=.05&spurious=.02&swap=.02&jitter_px=2&seed=0`; what is not named has its default.

    Raises:
        WrongArguments: an unknown option, or a value that is no rate.
    """
    options = {name: values[-1] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}
    known = [field.name for field in fields(ErrorRates)]
    unknown = sorted(set(options) - {*known, "seed"})
    if unknown:
        raise WrongArguments(f"SCANLOOP_LABELLING_URL: unknown option {unknown[0]!r}; known are {', '.join([*known, 'seed'])}.")
    try:
        return ErrorRates(**{name: float(options[name]) for name in known if name in options}), int(options.get("seed", "0"))
    except ValueError as error:
        raise WrongArguments(f"SCANLOOP_LABELLING_URL: {error}.") from None


class SimulatedServer:
    """Tasks in a log, answers by simulated annotators who know the truth and err."""

    name = "simulated"
    tool = "scanloop-simulated-annotator/1"

    def __init__(self, store: Store, truth: Store, project: str, rates: ErrorRates, seed: int) -> None:
        self._store, self._truth, self._project, self._rates, self._seed = store, truth, project, rates, seed
        self._prefix = f"labelling-sim/{project}/log/"

    def create_tasks(self, tasks: Sequence[TaskRequest]) -> dict[str, str]:
        """Append what is new to the log, as one object; of two who append at once the second sees the first one's tasks and tries again."""
        while True:
            number, ids = 0, {}
            for number, batch in self._batches(0):
                ids.update({task.task_id: f"{number}-{position}" for position, task in enumerate(batch)})
            fresh = list({task.task_id: task for task in tasks if task.task_id not in ids}.values())
            if not fresh:
                return {task.task_id: ids[task.task_id] for task in tasks}
            content = canonical_json({"tasks": [asdict(task) for task in fresh]})
            try:
                self._store.put_if_absent(self._key(number + 1), content, owner=digest_of(content.decode()))
            except ObjectConflict:
                log.info("Another process created tasks in %s at the same time; looking again.", self._project)

    def finished_since(self, cursor: str | None, limit: int = 500) -> FinishedPage:
        """Answers after `cursor`. Tasks whose truth is not known stay unanswered."""
        number, seen = _read_cursor(cursor)
        found = list(islice(self._answers(number, seen), limit + 1))
        return FinishedPage(tuple(found[:limit]), len(found) <= limit)

    def _answers(self, number: int, seen: int) -> Iterator[FinishedAnnotation]:
        for current, batch in self._batches(number):
            skip = seen if current == number else 0
            turns = ((task, person) for task in batch for person in range(1, task.assignees + 1))
            for position, (task, person) in enumerate(turns, start=1):
                if position <= skip:
                    continue
                truth = self._known_truth(task.scan_id)
                if truth is None:
                    continue
                author = f"annotator-{person}"
                given = answer(
                    truth,
                    task.looked_for,
                    (task.height_px, task.width_px),
                    self._rates,
                    seed=self._seed,
                    annotator=author,
                    scan_id=task.scan_id,
                    round_number=task.round,
                )
                boxes = tuple(box.as_json() for box in given.boxes)
                yield FinishedAnnotation(task.task_id, author, "1", boxes, given.time_spent_s, f"{current}:{position}")

    def _known_truth(self, scan_id: str) -> tuple[Box, ...] | None:
        try:
            content = self._truth.get(f"{scan_id}.json")
        except ObjectNotFound:
            log.warning("Nobody knows what is in scan %s: it stays unanswered. Is SCANLOOP_TRUTH_URL right?", scan_id[:12])
            return None
        try:
            return boxes_from_json(json.loads(content)["boxes"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataWrong(f"{self._truth.uri(scan_id + '.json')} is no ground truth: {error!r}.") from None

    def _batches(self, first: int) -> Iterator[tuple[int, list[TaskRequest]]]:
        """Every batch from number `first` on, in order."""
        for entry in self._store.list(self._prefix):
            number = int(entry.key.rpartition("/")[2].removesuffix(".json"))
            if number >= first:
                tasks = json.loads(self._store.get(entry.key))["tasks"]
                yield number, [TaskRequest(**{**task, "looked_for": tuple(task["looked_for"])}) for task in tasks]

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08d}.json"


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    number, _, seen = cursor.partition(":")
    try:
        return int(number), int(seen)
    except ValueError:
        raise DataWrong(f"Not a cursor of the simulated labelling server: {cursor!r}.") from None
