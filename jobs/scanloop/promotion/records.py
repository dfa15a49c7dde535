"""What the catalog says about decisions and champions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import champion_history, champions, decisions
from scanloop.errors import WrongArguments


def champion_of(connection: sa.Connection, product_line: str) -> dict[str, Any] | None:
    """The champion's row of a product line, or None."""
    row = connection.execute(sa.select(champions).where(champions.c.product_line == product_line)).mappings().one_or_none()
    return dict(row) if row else None


def find_decision(connection: sa.Connection, decision_id: str) -> dict[str, Any] | None:
    """The decision with this id, or None."""
    row = connection.execute(sa.select(decisions).where(decisions.c.decision_id == decision_id)).mappings().one_or_none()
    return dict(row) if row else None


def decision_named(connection: sa.Connection, decision_id: str, product_line: str | None = None) -> dict[str, Any]:
    """The decision whose id begins so. Raises WrongArguments if none or more than one does."""
    asked = sa.select(decisions).where(decisions.c.decision_id.startswith(decision_id, autoescape=True))
    if product_line is not None:
        asked = asked.where(decisions.c.product_line == product_line)
    found = connection.execute(asked.limit(2)).mappings().all()
    if len(found) == 1:
        return dict(found[0])
    of = f" of {product_line}" if product_line else ""
    raise WrongArguments(f"{'More than one decision' if found else 'No decision'}{of} begins with {decision_id!r}.")


def was_followed(connection: sa.Connection, decision_id: str) -> bool:
    """Whether a champion was made by this decision."""
    return (
        connection.execute(sa.select(champion_history.c.sequence).where(champion_history.c.decision_id == decision_id)).first() is not None
    )


def champion_line(connection: sa.Connection, product_line: str) -> list[dict[str, Any]]:
    """Every champion of a product line, the newest first, with its decision's reasons and approver."""
    asked = (
        sa.select(champion_history, decisions.c.snapshot_id, decisions.c.approver, decisions.c.reasons)
        .join(decisions, decisions.c.decision_id == champion_history.c.decision_id)
        .where(champion_history.c.product_line == product_line)
        .order_by(champion_history.c.sequence.desc())
    )
    return [{**row, "created_at": row["created_at"].isoformat()} for row in map(dict, connection.execute(asked).mappings())]


def list_decisions(connection: sa.Connection, product_line: str) -> list[dict[str, Any]]:
    """Every decision of a product line, the newest first."""
    asked = (
        sa.select(decisions)
        .where(decisions.c.product_line == product_line)
        .order_by(decisions.c.created_at.desc(), decisions.c.decision_id)
    )
    return [{**row, "created_at": row["created_at"].isoformat()} for row in map(dict, connection.execute(asked).mappings())]
