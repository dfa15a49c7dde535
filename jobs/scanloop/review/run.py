"""Review every task that its annotators handed in."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scanloop.canonical import digest_of
from scanloop.catalog import tables
from scanloop.errors import DataWrong
from scanloop.execution import JobRun
from scanloop.labelling.boxes import Box, boxes_from_json
from scanloop.review.decide import Verdict, decide
from scanloop.steps import step

log = logging.getLogger(__name__)
TOOL = "scanloop-review/1"


def review_tasks(run: JobRun) -> dict[str, Any]:
    """Decide about every submitted task of the product line: one review a task, and a consensus annotation for each accepted one.

    Raises:
        DataWrong: a task counts as submitted without the annotations that it takes.
    """
    product_line, policy = run.definition.product_line, run.definition.labelling
    with run.catalog.read() as connection:
        tasks = _submitted(connection, product_line)
        given = _latest_annotations(connection, product_line)
    verdicts: Counter[str] = Counter(accepted=0, returned=0, escalated=0)
    for task in tasks:
        mine = given[task["task_id"]]
        if len(mine) < task["assignees"]:
            raise DataWrong(
                f"Task {task['task_id']} is submitted, yet only {len(mine)} of {task['assignees']} annotators handed something in."
            )
        boxes = {author: boxes for author, (_, boxes) in mine.items()}
        verdict = decide(boxes, task["round"], iou_agreement=policy.iou_agreement, min_agreement=policy.min_agreement)
        verdicts[verdict.verdict] += 1
        _publish(run, task, verdict, [annotation_id for annotation_id, _ in mine.values()])
    step("review.after_decisions")
    log.info("Reviewed %d tasks: %s.", len(tasks), ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items())))
    return dict(verdicts)


def _publish(run: JobRun, task: Mapping[str, Any], verdict: Verdict, reviewed: list[str]) -> None:
    consensus_id = None
    if verdict.verdict == "accepted":
        consensus_id = digest_of(["consensus", task["task_id"], sorted(reviewed)])[:32]
        row = {
            "annotation_id": consensus_id,
            "scan_id": task["scan_id"],
            "product_line": task["product_line"],
            "task_id": task["task_id"],
            "author": "review",
            "author_kind": "consensus",
            "tool": TOOL,
            "taxonomy_version": task["attributes"].get("taxonomy") or run.definition.taxonomy,
            "looked_for": list(task["attributes"]["looked_for"]),
            "boxes": [box.as_json() for box in verdict.consensus],
            "time_spent_s": None,
            "supersedes": None,
        }
        run.publication.insert("annotations", [row], action="annotation.agreed", subject="annotation_id")
    review = {
        "review_id": digest_of(["review", task["task_id"]])[:32],
        "task_id": task["task_id"],
        "product_line": task["product_line"],
        "scan_id": task["scan_id"],
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "agreement": verdict.agreement,
        "annotation_id": consensus_id,
        "details": verdict.details | {"reviewed": sorted(reviewed)},
    }
    run.publication.insert("reviews", [review], action=f"review.{verdict.verdict}", subject="review_id")
    run.publication.update(
        "labelling_tasks",
        key={"task_id": task["task_id"]},
        expect={"state": "submitted"},
        set={"state": verdict.verdict},
        action=f"labelling_task.{verdict.verdict}",
    )


def _submitted(connection: sa.Connection, product_line: str) -> list[Mapping[str, Any]]:
    columns = (tables.labelling_tasks.c[name] for name in ("task_id", "product_line", "scan_id", "round", "assignees", "attributes"))
    found = connection.execute(
        sa.select(*columns)
        .where(tables.labelling_tasks.c.product_line == product_line, tables.labelling_tasks.c.state == "submitted")
        .order_by(tables.labelling_tasks.c.task_id)
    )
    return [dict(row) for row in found.mappings()]


def _latest_annotations(connection: sa.Connection, product_line: str) -> dict[str, dict[str, tuple[str, tuple[Box, ...]]]]:
    """For each submitted task, each author's annotation that none supersedes: its id and boxes."""
    found = connection.execute(
        sa.select(*(tables.annotations.c[name] for name in ("annotation_id", "task_id", "author", "boxes", "supersedes")))
        .join(tables.labelling_tasks, tables.labelling_tasks.c.task_id == tables.annotations.c.task_id)
        .where(
            tables.labelling_tasks.c.product_line == product_line,
            tables.labelling_tasks.c.state == "submitted",
            tables.annotations.c.author_kind == "person",
        )
        .order_by(tables.annotations.c.annotation_id)
    ).all()
    superseded = {row.supersedes for row in found}
    latest: dict[str, dict[str, tuple[str, tuple[Box, ...]]]] = defaultdict(dict)
    for row in found:
        if row.annotation_id not in superseded:
            latest[row.task_id][row.author] = (row.annotation_id, boxes_from_json(row.boxes))
    return latest
