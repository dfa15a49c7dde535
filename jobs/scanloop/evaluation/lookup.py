"""What the catalog says about the models and evaluations that a job is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import evaluations, models
from scanloop.errors import DataWrong, WrongArguments

Row = Mapping[str, Any]


def find_model(connection: sa.Connection, product_line: str, model_id: str) -> Row:
    """The model's row; the beginning of its id is enough.

    Raises:
        WrongArguments: no model of this product line begins so, or more than one does.
    """
    begins = models.c.model_id.startswith(model_id, autoescape=True)
    found = connection.execute(sa.select(models).where(models.c.product_line == product_line, begins).limit(2)).mappings().all()
    if len(found) == 1:
        return dict(found[0])
    which = "More than one model" if found else "No model"
    raise WrongArguments(f"{which} of {product_line} begins with {model_id!r}.")


def find_evaluation(connection: sa.Connection, model_id: str, snapshot_id: str) -> Row | None:
    """The row of the evaluation of a model on a snapshot, or None."""
    asked = sa.select(evaluations).where(evaluations.c.model_id == model_id, evaluations.c.snapshot_id == snapshot_id)
    row = connection.execute(asked).mappings().one_or_none()
    return dict(row) if row else None


def ancestors(connection: sa.Connection, model: Row) -> list[Row]:
    """The model and every model that its weights were started from, newest first.

    Raises:
        DataWrong: the chain names a model that is not there, or comes back to itself.
    """
    chain = [model]
    while (parent_id := chain[-1]["parent_model_id"]) is not None:
        row = connection.execute(sa.select(models).where(models.c.model_id == parent_id)).mappings().one_or_none()
        if row is None or parent_id in {known["model_id"] for known in chain}:
            raise DataWrong(
                f"Model {chain[-1]['model_id'][:12]} names {parent_id[:12]} as the model it started from, which cannot be followed."
            )
        chain.append(dict(row))
    return chain


def list_evaluations(connection: sa.Connection, product_line: str | None) -> list[dict[str, Any]]:
    """Evaluations, newest first, as plain values."""
    asked = sa.select(evaluations).order_by(evaluations.c.created_at.desc(), evaluations.c.evaluation_id)
    if product_line is not None:
        asked = asked.where(evaluations.c.product_line == product_line)
    return [{**row, "created_at": row["created_at"].isoformat()} for row in map(dict, connection.execute(asked).mappings())]


def evaluation_named(connection: sa.Connection, evaluation_id: str) -> Row:
    """The evaluation whose id begins so. Raises WrongArguments if none or more than one does."""
    begins = evaluations.c.evaluation_id.startswith(evaluation_id, autoescape=True)
    found = connection.execute(sa.select(evaluations).where(begins).limit(2)).mappings().all()
    if len(found) == 1:
        return dict(found[0])
    raise WrongArguments(f"{'More than one evaluation' if found else 'No evaluation'} begins with {evaluation_id!r}.")
