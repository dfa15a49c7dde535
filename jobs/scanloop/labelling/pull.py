"""Fetch what labellers finished, once, and say which tasks are complete."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.canonical import digest_of
from scanloop.catalog import tables
from scanloop.errors import NothingToDo
from scanloop.execution import JobRun
from scanloop.labelling.checks import clipped, problems_of
from scanloop.labelling.server import FinishedAnnotation, LabellingServer, open_labelling
from scanloop.labelling.tasks import is_complete, verdict_of_failure
from scanloop.steps import step

log = logging.getLogger(__name__)
JOB = "labelling.pull"
PAGE = 500
"""Annotations asked for at once."""


@dataclass(frozen=True)
class Imported:
    """What earlier pulls brought."""

    ids: frozenset[str]
    """Every annotation, superseded ones too."""
    latest: Mapping[str, Mapping[str, str]]
    """For each task, the annotation of each author that none supersedes."""


@dataclass(frozen=True)
class Pulled:
    """What a pull brings into the catalog."""

    rows: list[dict[str, Any]]
    """New annotations."""
    submitted: list[str]
    """Open tasks that everybody finished."""
    refused: dict[str, list[str]]
    """Open tasks with an annotation that cannot be believed, and what is wrong with it."""


def pull_annotations(run: JobRun) -> dict[str, Any]:
    """Bring finished annotations into the catalog, append-only, and move complete tasks to `submitted`.

    The cursor is part of the result, so it moves exactly with the annotations; it never passes an annotation of a task that the catalog does not
    know yet (its push may still be under way), and what is read twice changes nothing.

    Raises:
        NothingToDo: nobody finished anything new.
    """
    product_line = run.definition.product_line
    server = open_labelling(run.settings.labelling_url, project=product_line, store=run.store, truth_url=run.settings.truth_url)
    with run.catalog.read() as connection:
        cursor = last_cursor(connection, product_line, server.name)
    found = list(_fetch(server, cursor))
    step("labelling.after_fetch")
    with run.catalog.read() as connection:
        tasks = _tasks_of(connection, {item.task_id for item in found})
        before = _imported(connection, tasks)
        open_count = connection.execute(
            sa.select(sa.func.count()).where(
                tables.labelling_tasks.c.product_line == product_line, tables.labelling_tasks.c.state == "open"
            )
        ).scalar_one()
    known = up_to_unknown(found, tasks)
    pulled = judge(known, tasks, before, tool=server.tool, taxonomy=run.definition.taxonomy)
    if not pulled.rows and not pulled.refused:
        raise NothingToDo(f"Nobody finished anything new for {product_line}; {open_count} tasks are open.")
    run.publication.insert("annotations", pulled.rows, action="annotation.imported", subject="annotation_id")
    for task_id in pulled.submitted:
        run.publication.update(
            "labelling_tasks",
            key={"task_id": task_id},
            expect={"state": "open"},
            set={"state": "submitted"},
            action="labelling_task.submitted",
        )
    for task_id, problems in pulled.refused.items():
        _refuse(run, tasks[task_id], problems)
    run.add_input("labelling-server", server.name)
    return {
        "annotations": len(pulled.rows),
        "submitted": len(pulled.submitted),
        "refused": len(pulled.refused),
        "open": open_count - len(pulled.submitted) - len(pulled.refused),
        "server": server.name,
        "cursor": known[-1].cursor if known else cursor,
    }


def last_cursor(connection: sa.Connection, product_line: str, server: str) -> str | None:
    """Where the last pull from this server ended."""
    results = sa.select(tables.runs.c.result["cursor"].astext).where(
        tables.runs.c.job == JOB, tables.runs.c.product_line == product_line, tables.runs.c.result["server"].astext == server
    )
    return connection.execute(results.order_by(tables.runs.c.finished_at.desc(), tables.runs.c.run_id).limit(1)).scalar_one_or_none()


def up_to_unknown(found: Iterable[FinishedAnnotation], known: Mapping[str, Any]) -> list[FinishedAnnotation]:
    """The annotations before the first one of a task that the catalog does not know."""
    taken = []
    for item in found:
        if item.task_id not in known:
            log.info("Task %s is not in the catalog yet; the next pull looks again.", item.task_id)
            break
        taken.append(item)
    return taken


def judge(
    found: Iterable[FinishedAnnotation],
    tasks: Mapping[str, Mapping[str, Any]],
    imported: Imported,
    *,
    tool: str,
    taxonomy: str,
) -> Pulled:
    """Decide what becomes of finished annotations of known tasks. `taxonomy` is that of tasks which do not say theirs."""
    rows: list[dict[str, Any]] = []
    refused: dict[str, list[str]] = defaultdict(list)
    latest = {task_id: dict(imported.latest.get(task_id, {})) for task_id in tasks}
    seen = set(imported.ids)
    for item in found:
        task = tasks[item.task_id]
        attributes = task["attributes"]
        sizes = (attributes["height_px"], attributes["width_px"])
        problems = problems_of(item.boxes, item.author, attributes["looked_for"], *sizes)
        if problems:
            log.warning("An annotation of task %s is refused: %s.", item.task_id, "; ".join(problems[:3]))
            if task["state"] == "open":
                refused[item.task_id] += [f"{item.author[:40]!r}: {problem}" for problem in problems]
            continue
        annotation_id = digest_of(["annotation", item.task_id, item.author, item.version])[:32]
        if annotation_id in seen:
            continue
        seen.add(annotation_id)
        rows.append(
            {
                "annotation_id": annotation_id,
                "scan_id": task["scan_id"],
                "product_line": task["product_line"],
                "task_id": item.task_id,
                "author": item.author,
                "author_kind": "person",
                "tool": tool,
                "taxonomy_version": attributes.get("taxonomy") or taxonomy,
                "looked_for": list(attributes["looked_for"]),
                "boxes": [box.as_json() for box in clipped(item.boxes, *sizes)],
                "time_spent_s": item.time_spent_s,
                "supersedes": latest[item.task_id].get(item.author),
            }
        )
        latest[item.task_id][item.author] = annotation_id
    submitted = sorted(
        task_id
        for task_id, task in tasks.items()
        if task["state"] == "open" and task_id not in refused and is_complete(latest[task_id].keys(), task["assignees"])
    )
    return Pulled(rows, submitted, dict(refused))


def _fetch(server: LabellingServer, cursor: str | None) -> Iterable[FinishedAnnotation]:
    while True:
        page = server.finished_since(cursor, PAGE)
        yield from page.annotations
        if page.is_last or not page.annotations:
            return
        cursor = page.annotations[-1].cursor
        log.info("Fetched up to %s.", cursor)


def _tasks_of(connection: sa.Connection, task_ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    wanted = [
        tables.labelling_tasks.c[name] for name in ("task_id", "product_line", "scan_id", "round", "assignees", "state", "attributes")
    ]
    found = connection.execute(sa.select(*wanted).where(tables.labelling_tasks.c.task_id == sa.func.any(sorted(task_ids))))
    return {row["task_id"]: dict(row) for row in found.mappings()}


def _imported(connection: sa.Connection, task_ids: Iterable[str]) -> Imported:
    columns = (
        tables.annotations.c.annotation_id,
        tables.annotations.c.task_id,
        tables.annotations.c.author,
        tables.annotations.c.supersedes,
    )
    found = connection.execute(
        sa.select(*columns)
        .where(tables.annotations.c.task_id == sa.func.any(sorted(task_ids)), tables.annotations.c.author_kind == "person")
        .order_by(tables.annotations.c.annotation_id)
    ).all()
    superseded = {row.supersedes for row in found}
    latest: dict[str, dict[str, str]] = defaultdict(dict)
    for row in found:
        if row.annotation_id not in superseded:
            latest[row.task_id][row.author] = row.annotation_id
    return Imported(frozenset(row.annotation_id for row in found), latest)


def _refuse(run: JobRun, task: Mapping[str, Any], problems: list[str]) -> None:
    """Send a task back whose annotation is broken: what is not an annotation cannot be reviewed."""
    verdict = verdict_of_failure(task["round"])
    review = {
        "review_id": digest_of(["review", task["task_id"]])[:32],
        "task_id": task["task_id"],
        "product_line": task["product_line"],
        "scan_id": task["scan_id"],
        "verdict": verdict,
        "reason": f"refused on import: {problems[0]}",
        "agreement": 0.0,
        "annotation_id": None,
        "details": {"refused": problems[:20]},
    }
    run.publication.insert("reviews", [review], action=f"review.{verdict}", subject="review_id")
    run.publication.update(
        "labelling_tasks",
        key={"task_id": task["task_id"]},
        expect={"state": "open"},
        set={"state": verdict},
        action=f"labelling_task.{verdict}",
    )
