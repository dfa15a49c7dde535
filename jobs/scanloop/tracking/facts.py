"""What the catalog and the store know of what a server is told."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import champions, decisions, evaluations, models, snapshots, tracked
from scanloop.store import Store


def row_of(catalog: Catalog, table: sa.Table, key: str, value: str) -> dict[str, Any]:
    """The row of a table that has this key."""
    with catalog.read() as connection:
        return dict(connection.execute(sa.select(table).where(table.c[key] == value)).mappings().one())


def model_of(catalog: Catalog, model_id: str) -> dict[str, Any]:
    """A model's row."""
    return row_of(catalog, models, "model_id", model_id)


def model_tracked_as(catalog: Catalog, tracking_id: str) -> dict[str, Any]:
    """The row of the model that a tracked training made."""
    with catalog.read() as connection:
        query = sa.select(models).where(models.c.tracking_id == tracking_id).order_by(models.c.created_at).limit(1)
        return dict(connection.execute(query).mappings().one())


def begin_of(store: Store, model: dict[str, Any]) -> dict[str, Any]:
    """The beginning of an experiment whose spool was lost, from what the catalog keeps of its model."""
    return {
        "kind": "begin",
        "tracking_id": model["tracking_id"],
        "product_line": model["product_line"],
        "run_id": model["run_id"],
        "project": f"scanloop/{model['product_line']}",
        "name": f"{model['recipe']} on {model['snapshot_id'][:12]}",
        "tags": [model["product_line"], model["recipe"]],
        "options": model["parameters"],
        "links": {"run_id": model["run_id"], "snapshot_id": model["snapshot_id"], "parent_model_id": model["parent_model_id"] or ""},
        "config": {"lost": "The spool of this experiment was lost; this is what the catalog keeps."},
        "uris": {"weights": store.uri(model["weights_key"]), "config": store.uri(model["config_key"])},
    }


def categories_of(store: Store, model: dict[str, Any]) -> tuple[str, ...]:
    """What a model can find, in the order of its classes."""
    return tuple(json.loads(store.get(model["config_key"])).get("categories", ()))


def snapshot_of(catalog: Catalog, snapshot_id: str) -> dict[str, Any]:
    """A snapshot's row."""
    return row_of(catalog, snapshots, "snapshot_id", snapshot_id)


def evaluation_of(catalog: Catalog, evaluation_id: str) -> dict[str, Any]:
    """An evaluation's row."""
    return row_of(catalog, evaluations, "evaluation_id", evaluation_id)


def decision_of(catalog: Catalog, decision_id: str) -> dict[str, Any]:
    """A decision's row."""
    return row_of(catalog, decisions, "decision_id", decision_id)


def champion_id(catalog: Catalog, product_line: str) -> str | None:
    """The champion of a product line: the catalog is the truth."""
    with catalog.read() as connection:
        return connection.execute(sa.select(champions.c.model_id).where(champions.c.product_line == product_line)).scalar_one_or_none()


def versions_of(catalog: Catalog, product_line: str) -> list[dict[str, Any]]:
    """Every tracked model of a product line for its report, newest first."""
    experiment = sa.and_(tracked.c.kind == "experiment", tracked.c.subject_id == models.c.tracking_id)

    def newest(column: sa.Column[Any], subject: sa.Column[Any]) -> sa.ScalarSelect[Any]:
        return sa.select(column).where(subject == models.c.model_id).order_by(column.table.c.created_at.desc()).limit(1).scalar_subquery()

    query = (
        sa.select(
            models.c.model_id,
            models.c.state,
            models.c.created_at,
            models.c.snapshot_id,
            models.c.recipe,
            newest(evaluations.c.summary, evaluations.c.model_id).label("summary"),
            newest(decisions.c.verdict, decisions.c.candidate_id).label("verdict"),
            tracked.c.external_id.label("task_id"),
            tracked.c.url,
        )
        .outerjoin(tracked, experiment)
        .where(models.c.product_line == product_line, models.c.tracking_id.is_not(None))
        .order_by(models.c.created_at.desc(), models.c.model_id)
    )
    with catalog.read() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [{**row, "trained": f"{row['created_at']:%Y-%m-%d}"} for row in rows]
