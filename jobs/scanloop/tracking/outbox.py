"""What a ClearML server has still to be told: what the catalog and the store hold, less what `tracked` says was told.

Nothing is put into this outbox by the jobs, so no job can forget it, and none waits for it. `tracked` is operational, like leases: it is written
by the sync alone, stands outside the audited record, and nothing that counts depends on it. Were it lost, everything would be looked up on the
server by its tag and told again, to the same effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop.catalog import Catalog
from scanloop.catalog.tables import champions, decisions, evaluations, leases, models, runs, snapshots, tracked
from scanloop.errors import ObjectNotFound
from scanloop.store import Store
from scanloop.tracking.spool import MARKERS

KINDS = ("dataset", "experiment", "model", "evaluation", "decision", "report")
"""In the order in which they are told: each may name those before it."""
ABORTED = "aborted"
"""Digest of an experiment whose run ended without a result."""
MAX_MESSAGE = 500
MOST_REFUSALS = 8
"""So often something is tried that the server refuses, or that is damaged here, before a person has to ask for it."""
FIRST_DELAY_S = 600
"""Between the first refusal and the next try; twice as long after each: the eighth comes after a day."""


@dataclass(frozen=True)
class Item:
    """One thing to tell."""

    kind: str
    """One of KINDS."""
    subject_id: str
    """What it is about: a tracking id, snapshot, model, evaluation, decision or product line."""
    product_line: str
    """Whose it is."""
    digest: str
    """What would be told, in short; told again when it changes."""
    attempts: int = 0
    """How often telling it was refused."""
    message: str = ""
    """Why it was refused."""
    is_due: bool = True
    """Whether the next sync tries it."""

    @property
    def is_given_up(self) -> bool:
        """Whether only a person has it tried again."""
        return self.attempts >= MOST_REFUSALS


@dataclass(frozen=True)
class OpenExperiment:
    """An experiment that was begun, and of whose end no server was told."""

    begin: dict[str, Any]
    """The first line of its spool."""
    marked_at: datetime
    """When its last attempt began, by the store's clock."""
    is_running: bool
    """Whether its run holds the lease of its product line's training."""
    has_receipt: bool
    """Whether its training is done and published."""


def waiting(catalog: Catalog) -> list[Item]:
    """Everything that follows from the catalog and was not told, in the order to tell it."""
    with catalog.read() as connection:
        found = [item for kind in KINDS for item in _WANTED[kind](connection)]
        told = {(row.kind, row.subject_id): row for row in connection.execute(sa.select(tracked))}
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
    items = []
    for item in found:
        row = told.get((item.kind, item.subject_id))
        if row is None or row.digest != item.digest:
            items.append(item)
        elif row.state == "refused":
            is_due = _is_due(row.attempts, row.changed_at, now)
            items.append(Item(item.kind, item.subject_id, item.product_line, item.digest, row.attempts, row.message, is_due))
        elif row.state != "told":
            items.append(item)
    return items


def _is_due(refusals: int, last_at: datetime, now: datetime) -> bool:
    return refusals < MOST_REFUSALS and last_at + timedelta(seconds=FIRST_DELAY_S * 2 ** (max(refusals, 1) - 1)) <= now


def abortion(catalog: Catalog, found: OpenExperiment) -> Item:
    """Telling that an experiment is aborted, as an item."""
    subject_id, product_line = found.begin["tracking_id"], found.begin["product_line"]
    query = sa.select(tracked, sa.func.now().label("now")).where(tracked.c.kind == "experiment", tracked.c.subject_id == subject_id)
    with catalog.read() as connection:
        row = connection.execute(query.where(tracked.c.state == "refused", tracked.c.digest == ABORTED)).one_or_none()
    if row is None:
        return Item("experiment", subject_id, product_line, ABORTED)
    return Item("experiment", subject_id, product_line, ABORTED, row.attempts, row.message, _is_due(row.attempts, row.changed_at, row.now))


def open_experiments(catalog: Catalog, store: Store) -> Iterator[OpenExperiment]:
    """Every experiment whose mark lies in the store."""
    for stored in store.list(MARKERS):
        try:
            begin = json.loads(store.get(stored.key))
        except (ObjectNotFound, ValueError):
            continue
        run_id, product_line = str(begin.get("run_id", "")), str(begin.get("product_line", ""))
        with catalog.read() as connection:
            done = sa.select(runs.c.run_id).where(runs.c.run_id == run_id, runs.c.job == "model.train", runs.c.product_line == product_line)
            held = sa.select(leases.c.resource).where(
                leases.c.resource == f"{product_line}/train",
                leases.c.holder == f"{run_id}/model.train",
                leases.c.expires_at > sa.func.now(),
            )
            is_running, has_receipt = (connection.execute(query).first() is not None for query in (held, done))
        yield OpenExperiment(begin, stored.modified_at, is_running, has_receipt)


def note(
    catalog: Catalog,
    item: Item,
    *,
    external_id: str | None = None,
    url: str | None = None,
    offline_id: str | None = None,
    state: str = "told",
) -> None:
    """Note that an item was told, with the id that the server gave it."""
    known = {"external_id": external_id, "url": url, "offline_id": offline_id}
    row = {"product_line": item.product_line, "digest": item.digest, "state": state, "message": "", "changed_at": sa.func.now()}
    row |= {name: value for name, value in known.items() if value is not None}
    _upsert(catalog, item, {**row, "attempts": 0})


def note_refusal(catalog: Catalog, item: Item, message: str) -> None:
    """Note that the server refused an item, which is tried again later."""
    row = {"product_line": item.product_line, "digest": item.digest, "state": "refused", "message": message[:MAX_MESSAGE]}
    _upsert(catalog, item, {**row, "attempts": item.attempts + 1, "changed_at": sa.func.now()})


def _upsert(catalog: Catalog, item: Item, row: Mapping[str, Any]) -> None:
    statement = pg_insert(tracked).values(kind=item.kind, subject_id=item.subject_id, **row)
    with catalog.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["kind", "subject_id"], set_=dict(row)))


def told_id(catalog: Catalog, kind: str, subject_id: str) -> str | None:
    """The server's id of something that was told."""
    row = tracked_row(catalog, kind, subject_id)
    return row["external_id"] if row is not None and row["state"] != "refused" else None


def tracked_row(catalog: Catalog, kind: str, subject_id: str) -> dict[str, Any] | None:
    """What is noted of something."""
    query = sa.select(tracked).where(tracked.c.kind == kind, tracked.c.subject_id == subject_id)
    with catalog.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row else None


def _datasets(connection: sa.Connection) -> Iterator[Item]:
    query = sa.select(snapshots.c.snapshot_id, snapshots.c.product_line).order_by(snapshots.c.product_line, snapshots.c.sequence)
    for row in connection.execute(query):
        yield Item("dataset", row.snapshot_id, row.product_line, "1")


def _experiments(connection: sa.Connection) -> Iterator[Item]:
    query = sa.select(models.c.tracking_id, models.c.product_line).where(models.c.tracking_id.is_not(None))
    for row in connection.execute(query.order_by(models.c.created_at, models.c.model_id)):
        yield Item("experiment", row.tracking_id, row.product_line, "completed")


def _models(connection: sa.Connection) -> Iterator[Item]:
    # Retired before promoted, so that a server never shows two champions of one product line.
    query = sa.select(models.c.model_id, models.c.product_line, models.c.state).where(models.c.tracking_id.is_not(None))
    is_champion = models.c.state == "champion"
    for row in connection.execute(query.order_by(is_champion, models.c.created_at, models.c.model_id)):
        yield Item("model", row.model_id, row.product_line, row.state)


def _evaluations(connection: sa.Connection) -> Iterator[Item]:
    query = sa.select(evaluations.c.evaluation_id, evaluations.c.product_line).join(models, models.c.model_id == evaluations.c.model_id)
    tracked_only = query.where(models.c.tracking_id.is_not(None))
    for row in connection.execute(tracked_only.order_by(evaluations.c.created_at, evaluations.c.evaluation_id)):
        yield Item("evaluation", row.evaluation_id, row.product_line, "1")


def _decisions(connection: sa.Connection) -> Iterator[Item]:
    query = sa.select(decisions.c.decision_id, decisions.c.product_line, decisions.c.approver).join(
        models, models.c.model_id == decisions.c.candidate_id
    )
    tracked_only = query.where(models.c.tracking_id.is_not(None))
    for row in connection.execute(tracked_only.order_by(decisions.c.created_at, decisions.c.decision_id)):
        yield Item("decision", row.decision_id, row.product_line, row.approver or "")


def _reports(connection: sa.Connection) -> Iterator[Item]:
    """One a product line that has a model; told again when a model, an evaluation, a decision or the champion is new."""

    def counted(table: sa.Table) -> sa.ScalarSelect[int]:
        return sa.select(sa.func.count()).where(table.c.product_line == models.c.product_line).select_from(table).scalar_subquery()

    states = sa.func.md5(sa.func.string_agg(models.c.model_id + ":" + models.c.state, sa.literal(",").op("ORDER BY")(models.c.model_id)))
    seat = sa.select(champions.c.sequence).where(champions.c.product_line == models.c.product_line).scalar_subquery()
    query = sa.select(models.c.product_line, states, counted(evaluations), counted(decisions), seat)
    tracked_only = query.where(models.c.tracking_id.is_not(None)).group_by(models.c.product_line).order_by(models.c.product_line)
    for product_line, *state in connection.execute(tracked_only):
        yield Item("report", product_line, product_line, ":".join(map(str, state)))


_WANTED = {
    "dataset": _datasets,
    "experiment": _experiments,
    "model": _models,
    "evaluation": _evaluations,
    "decision": _decisions,
    "report": _reports,
}
