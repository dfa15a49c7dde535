"""The job `tracking sync`: tell a ClearML server what it has not heard, each thing once, however often this is killed.

Each act looks on the server for what it would make (a tag names it), makes it if it is not there, and is noted after. Killed between, the next
sync finds it by its tag.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.errors import DataWrong, NothingToDo
from scanloop.snapshots.manifest import load_snapshot
from scanloop.snapshots.picture import cells, draw
from scanloop.steps import step
from scanloop.tracking import facts, outbox, results
from scanloop.tracking.datasets import Version, register_dataset
from scanloop.tracking.experiments import close_experiment, find_experiment, open_experiment, send, set_properties, tell
from scanloop.tracking.outbox import Item, OpenExperiment
from scanloop.tracking.registry import Registration, register
from scanloop.tracking.reports import report_text, write_report
from scanloop.tracking.server import Server, configure, is_configured
from scanloop.tracking.spool import MARKERS, Spool, folder_of, load, offline_id

if TYPE_CHECKING:
    from scanloop.execution import JobRun

log = logging.getLogger(__name__)
SETTLE_S = 600
"""How long an experiment of which nothing is heard may be between two attempts of its run before it is closed as aborted."""


class NotYet(Exception):
    """What an item names is not on the server yet."""


def sync_tracking(run: JobRun, settle_s: int = SETTLE_S, *, retry_refused: bool = False) -> dict[str, Any]:
    """Bring the server level with the catalog and the spools.

    What was refused is left alone for a while, longer each time, and at last for good; `retry_refused`: try all of it now.
    Returns how many of each kind were told, were refused and wait for others.

    Raises:
        NothingToDo: no server is named, or nothing waits.
        TrackingUnavailable: the server went away; what was told until then is noted.
    """
    items = outbox.waiting(run.catalog)
    opened = list(outbox.open_experiments(run.catalog, run.store))
    if not is_configured():
        waits = len(items) + len(opened)
        raise NothingToDo(f"No ClearML server is named (CLEARML_API_HOST), so nothing was told. Waiting: {waits}.")
    _remove_stale_marks(run, items, opened)
    dead = [(outbox.abortion(run.catalog, found), found) for found in opened if _is_dead(found, settle_s)]
    due = [item for item in items if item.is_due or retry_refused]
    due_dead = [(item, found) for item, found in dead if item.is_due or retry_refused]
    if not due and not due_dead:
        if items or dead:
            refused = len(items) + len(dead)
            raise NothingToDo(f"ClearML has been told everything but {refused} refused before. See: scanloop tracking list")
        raise NothingToDo("ClearML has been told everything.")
    configure(run.workdir / "clearml")
    return Sync(run, Server()).all(due, due_dead)


def _is_dead(found: OpenExperiment, settle_s: int) -> bool:
    return not found.is_running and not found.has_receipt and found.marked_at + timedelta(seconds=settle_s) <= datetime.now(UTC)


def _remove_stale_marks(run: JobRun, items: list[Item], opened: list[OpenExperiment]) -> None:
    """A sync that was killed after it had told an experiment left its mark."""
    waiting = {item.subject_id for item in items}
    for found in opened:
        tracking_id = found.begin["tracking_id"]
        if found.has_receipt and tracking_id not in waiting:
            run.store.delete(f"{MARKERS}{tracking_id}.json")


class Sync:
    """One pass over what waits."""

    def __init__(self, run: JobRun, server: Server) -> None:
        self._run, self._server = run, server
        self._catalog, self._store = run.catalog, run.store
        self._told: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._postponed: Counter[str] = Counter()

    def all(self, items: list[Item], dead: list[tuple[Item, OpenExperiment]]) -> dict[str, Any]:
        """Tell every item, and close the experiments of runs that died."""
        kinds: dict[str, Callable[[Item], None]] = {
            "dataset": self._dataset,
            "experiment": self._experiment,
            "model": self._model,
            "evaluation": self._evaluation,
            "decision": self._decision,
            "report": self._report,
        }
        # A champion is told after the others, and may be the parent of one of them: what waits is tried again as long as that helps.
        waiting = items
        while waiting:
            later = [item for item in waiting if not self._one(item, kinds[item.kind])]
            if len(later) == len(waiting):
                self._postponed.update(item.kind for item in later)
                break
            waiting = later
        for about, found in dead:
            self._one(about, partial(self._abort, begin=found.begin))
        return {"told": dict(self._told), "refused": dict(self._refused), "postponed": dict(self._postponed)}

    def _one(self, item: Item, tell_it: Callable[[Item], None]) -> bool:
        """Tell one item; False: not yet. What the server refuses, or what is damaged here, does not hold up the others."""
        try:
            tell_it(item)
        except NotYet as reason:
            log.info("%s %s waits: %s", item.kind, item.subject_id[:12], reason)
            return False
        except DataWrong as error:
            log.warning("%s %s of %s was not told: %s", item.kind, item.subject_id[:12], item.product_line, error.message)
            outbox.note_refusal(self._catalog, item, error.message)
            self._refused[item.kind] += 1
        else:
            self._told[item.kind] += 1
        return True

    def _note(self, item: Item, **known: Any) -> None:
        step("tracking.before_note")
        outbox.note(self._catalog, item, **known)
        step("tracking.after_note")

    def _folder(self, item: Item) -> Path:
        folder = self._run.workdir / hashlib.sha256(f"{item.kind}/{item.subject_id}".encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _dataset(self, item: Item) -> None:
        row = facts.snapshot_of(self._catalog, item.subject_id)
        parent = self._needed("dataset", row["parent_id"]) if row["parent_id"] else None
        reader = load_snapshot(self._store, row["snapshot_id"])
        picture = self._folder(item) / "balance.png"
        draw(cells(reader.rows(), reader.categories), f"Snapshot {row['snapshot_id'][:12]} of {row['product_line']}", picture)
        version = Version(
            snapshot_id=row["snapshot_id"],
            product_line=row["product_line"],
            sequence=row["sequence"],
            parent=parent,
            root=self._store.get(row["root_key"]),
            uri=self._store.uri(row["root_key"]),
            counts=row["counts"],
            taxonomy=str(reader.root.rules["taxonomy"]),
            picture=picture,
        )
        self._note(item, external_id=register_dataset(self._server, version, self._folder(item)))

    def _needed(self, kind: str, subject_id: str) -> str:
        found = outbox.told_id(self._catalog, kind, subject_id)
        if found is None:
            raise NotYet(f"{kind} {subject_id[:12]} is not on the server.")
        return found

    def _experiment(self, item: Item) -> None:
        """Complete the experiment of a training that is done: what its tracker could not tell is told from the spool."""
        prefix = folder_of(item.subject_id)
        known = find_experiment(self._server, item.subject_id)
        if known is None or known.status != "completed" or not self._was_told_whole(prefix):
            spool = load(self._store, item.subject_id, self._folder(item))
            if spool is None:
                begin = facts.begin_of(self._store, facts.model_tracked_as(self._catalog, item.subject_id))
                spool = Spool(begin, [], "completed", "")
            known = open_experiment(self._server, spool.begin)
            tell(self._server, known.task_id, spool.lines, self._folder(item))
            offline = offline_id(self._store, item.subject_id)
            if offline:
                set_properties(self._server, known.task_id, {"offline_session": offline})
            step("tracking.after_experiment_told")
            close_experiment(self._server, known.task_id, "completed")
            step("tracking.after_experiment_closed")
        self._note(item, external_id=known.task_id, url=known.url, offline_id=offline_id(self._store, item.subject_id))
        self._store.delete(f"{MARKERS}{item.subject_id}.json")

    def _was_told_whole(self, prefix: str) -> bool:
        """Whether the tracker said that the server had acknowledged every line."""
        key = f"{prefix}/result.json"
        return self._store.head(key) is not None and json.loads(self._store.get(key)).get("mode") == "server"

    def _abort(self, item: Item, begin: dict[str, Any]) -> None:
        """Close the experiment of a run that ended without a result and without a word, or whose word never reached the server."""
        spool = load(self._store, item.subject_id, self._folder(item))
        reason = spool.reason if spool is not None and spool.end not in (None, "completed") else "The training died."
        end = spool.end if spool is not None and spool.end in ("stopped", "failed") else "stopped"
        known = open_experiment(self._server, spool.begin if spool is not None else begin)
        tell(self._server, known.task_id, spool.lines if spool is not None else [], self._folder(item))
        close_experiment(self._server, known.task_id, str(end), reason)
        step("tracking.after_experiment_aborted")
        self._note(item, external_id=known.task_id, url=known.url, state="aborted")
        self._store.delete(f"{MARKERS}{item.subject_id}.json")

    def _model(self, item: Item) -> None:
        row = facts.model_of(self._catalog, item.subject_id)
        task_id = self._needed("experiment", row["tracking_id"])
        parent = self._parent_of(row)
        uri = self._store.uri(row["weights_key"])
        lineage = {
            "model_id": row["model_id"],
            "snapshot_id": row["snapshot_id"],
            "dataset": outbox.told_id(self._catalog, "dataset", row["snapshot_id"]) or "",
            "parent_model_id": row["parent_model_id"] or "",
            "run_id": row["run_id"],
        }
        about = Registration(
            model_id=row["model_id"],
            name=f"{row['product_line']} {row['model_id'][:12]}",
            product_line=row["product_line"],
            state=row["state"],
            uri=uri,
            labels={name: number for number, name in enumerate(facts.categories_of(self._store, row), 1)},
            tags=(row["product_line"], row["recipe"]),
            task_id=task_id,
            parent=parent,
            lineage={name: value for name, value in lineage.items() if value},
        )
        server_id = register(self._server, about)
        set_properties(self._server, task_id, {"model_id": row["model_id"], "model_state": row["state"], "weights": uri})
        self._note(item, external_id=server_id)

    def _parent_of(self, row: dict[str, Any]) -> str | None:
        """The server's id of the model that the training started from; a parent that was never tracked is not there to name."""
        if not row["parent_model_id"] or facts.model_of(self._catalog, row["parent_model_id"])["tracking_id"] is None:
            return None
        return self._needed("model", row["parent_model_id"])

    def _evaluation(self, item: Item) -> None:
        from scanloop.evaluation.evaluate import load_results

        row = facts.evaluation_of(self._catalog, item.subject_id)
        task_id = self._needed("experiment", facts.model_of(self._catalog, row["model_id"])["tracking_id"])
        found = load_results(self._store, row)
        urls = {}
        for images in found.get("images", {}).values():
            for image in images:
                path = self._folder(item) / f"{image['name']}.{image['key'].rsplit('.', 1)[-1]}"
                path.write_bytes(self._store.get(image["key"]))
                urls[image["name"]] = self._server.upload(path, f"scanloop/{task_id}/{item.subject_id[:12]}")
        send(self._server, list(results.of_evaluation(task_id, found, urls)))
        report = {"evaluation_report": self._store.uri(row["report_key"]), "evaluated_on": row["snapshot_id"]}
        set_properties(self._server, task_id, report)
        step("tracking.after_evaluation_told")
        self._note(item, external_id=task_id)

    def _decision(self, item: Item) -> None:
        row = facts.decision_of(self._catalog, item.subject_id)
        task_id = self._needed("experiment", facts.model_of(self._catalog, row["candidate_id"])["tracking_id"])
        evidence = json.loads(self._store.get(row["evidence_key"]))
        send(self._server, list(results.of_decision(task_id, row, evidence)))
        set_properties(self._server, task_id, {"verdict": row["verdict"], "evidence": self._store.uri(row["evidence_key"])})
        step("tracking.after_decision_told")
        self._note(item, external_id=task_id)

    def _report(self, item: Item) -> None:
        text = report_text(item.product_line, facts.versions_of(self._catalog, item.product_line), self._server.web_host)
        report_id, url = write_report(self._server, item.product_line, text)
        self._note(item, external_id=report_id, url=url)
