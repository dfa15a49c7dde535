"""Ask the labelling server about every scan that was chosen, and again about every scan that came back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from scanloop.canonical import digest_of
from scanloop.catalog import tables
from scanloop.execution import JobRun
from scanloop.labelling.pictures import put_picture
from scanloop.labelling.server import TaskRequest, open_labelling
from scanloop.labelling.tasks import WantedTask, next_tasks
from scanloop.steps import step

log = logging.getLogger(__name__)
BATCH_TASKS = 100
"""Tasks sent to the server at once."""


def push_tasks(run: JobRun) -> dict[str, Any]:
    """Create the tasks that are due on the labelling server and in the catalog. Nothing due is a result of 0 tasks, not a skip.

    A task's id follows from its scan, question and round, and the server knows it: a push that was killed anywhere and is repeated, by this run
    or any later one, finds what it already created.
    """
    product_line = run.definition.product_line
    with run.catalog.read() as connection:
        due = due_tasks(connection, product_line)
        facts = _facts_of(connection, [task.scan_id for task in due])
    gone = [task for task in due if task.scan_id not in facts]
    if gone:
        log.warning("%d chosen scans are no longer validated and are not sent.", len(gone))
    due = [task for task in due if task.scan_id in facts]
    server = open_labelling(run.settings.labelling_url, project=product_line, store=run.store, truth_url=run.settings.truth_url)
    requests, rows = [], []
    for number, task in enumerate(due, start=1):
        picture = put_picture(run.store, facts[task.scan_id]["planes_key"])
        run.add_output(picture)
        requests.append(_request(task, facts[task.scan_id], picture.key, run.definition.labelling.annotators))
        if number % BATCH_TASKS == 0:
            log.info("Drew %d of %d pictures.", number, len(due))
    for start in range(0, len(requests), BATCH_TASKS):
        batch = requests[start : start + BATCH_TASKS]
        step("labelling.before_create")
        external = server.create_tasks(batch)
        step("labelling.after_create")
        rows += [
            _row(task, request, external[task.task_id], facts[task.scan_id]["bag_id"], server.name)
            for task, request in zip(due[start : start + BATCH_TASKS], batch, strict=True)
        ]
        log.info("Created %d of %d tasks.", len(rows), len(requests))
    run.publication.insert("labelling_tasks", rows, action="labelling_task.created", subject="task_id")
    for selection_id in sorted({task.selection_id for task in due}):
        run.add_input("selection", selection_id)
    return {"tasks": len(rows), "first_rounds": sum(task.round == 1 for task in due), "later_rounds": sum(task.round > 1 for task in due)}


def due_tasks(connection: sa.Connection, product_line: str) -> list[WantedTask]:
    """Every task that should exist and does not."""
    asked_about = tables.selections.c.parameters
    schema = asked_about["schema_version"].astext
    chosen = connection.execute(
        sa.select(
            tables.selection_items.c.scan_id,
            schema,
            tables.selections.c.selection_id,
            asked_about["looked_for"],
            asked_about["taxonomy"].astext,
        )
        .join(tables.selections, tables.selections.c.selection_id == tables.selection_items.c.selection_id)
        .outerjoin(
            tables.labelling_tasks,
            sa.and_(
                tables.labelling_tasks.c.product_line == tables.selections.c.product_line,
                tables.labelling_tasks.c.scan_id == tables.selection_items.c.scan_id,
                tables.labelling_tasks.c.schema_version == schema,
            ),
        )
        .where(
            tables.selections.c.product_line == product_line, tables.selection_items.c.is_chosen, tables.labelling_tasks.c.task_id.is_(None)
        )
        .order_by(tables.selections.c.created_at.desc(), tables.selections.c.selection_id)
    )
    first = [
        WantedTask(product_line, scan_id, version, 1, selection_id, tuple(asked), taxonomy)
        for scan_id, version, selection_id, asked, taxonomy in chosen
    ]
    later, attributes = tables.labelling_tasks.alias("later"), tables.labelling_tasks.c.attributes
    columns = (tables.labelling_tasks.c[name] for name in ("scan_id", "schema_version", "round", "selection_id"))
    returned = connection.execute(
        sa.select(*columns, attributes["looked_for"], sa.func.coalesce(attributes["taxonomy"].astext, "")).where(
            tables.labelling_tasks.c.product_line == product_line,
            tables.labelling_tasks.c.state == "returned",
            ~sa.exists().where(
                later.c.product_line == tables.labelling_tasks.c.product_line,
                later.c.scan_id == tables.labelling_tasks.c.scan_id,
                later.c.schema_version == tables.labelling_tasks.c.schema_version,
                later.c.round > tables.labelling_tasks.c.round,
            ),
        )
    )
    again = [
        WantedTask(product_line, scan_id, version, number, chosen_by, tuple(asked), taxonomy)
        for scan_id, version, number, chosen_by, asked, taxonomy in returned
    ]
    return next_tasks(first, again, ())


def _facts_of(connection: sa.Connection, scan_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    columns = (tables.scans.c.scan_id, tables.scans.c.bag_id, tables.scans.c.view_name, tables.scans.c.planes_key, tables.scans.c.planes)
    found = connection.execute(
        sa.select(*columns).where(tables.scans.c.scan_id == sa.func.any(list(scan_ids)), tables.scans.c.state == "validated")
    )
    return {row["scan_id"]: dict(row) for row in found.mappings()}


def _request(task: WantedTask, facts: Mapping[str, Any], picture_key: str, assignees: int) -> TaskRequest:
    plane = facts["planes"][0]
    return TaskRequest(
        task_id=task.task_id,
        scan_id=task.scan_id,
        group=digest_of(["bag", facts["bag_id"]])[:16],
        view_name=facts["view_name"],
        picture_key=picture_key,
        height_px=plane["height_px"],
        width_px=plane["width_px"],
        looked_for=task.looked_for,
        round=task.round,
        assignees=assignees,
    )


def _row(task: WantedTask, request: TaskRequest, external_id: str, bag_id: str, server: str) -> dict[str, Any]:
    sizes = {"height_px": request.height_px, "width_px": request.width_px}
    return {
        "task_id": task.task_id,
        "product_line": task.product_line,
        "scan_id": task.scan_id,
        "bag_id": bag_id,
        "schema_version": task.schema_version,
        "round": task.round,
        "selection_id": task.selection_id,
        "external_id": external_id,
        "assignees": request.assignees,
        "state": "open",
        "attributes": {
            "looked_for": list(task.looked_for),
            "taxonomy": task.taxonomy,
            "picture_key": request.picture_key,
            "server": server,
            **sizes,
        },
    }
