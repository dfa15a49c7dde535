"""What the page shows of the catalog, read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

if TYPE_CHECKING:
    from scanloop.catalog import Catalog
    from scanloop.catalog.loop import LoopStatus


@dataclass(frozen=True)
class LineFacts:
    """One product line."""

    status: LoopStatus
    """How much is at each step."""
    due: tuple[str, ...]
    """Why `wake_product_lines` would wake it."""
    champion: Mapping[str, Any] | None
    """Newest numbers of the champion: ap50, pd, pd_lower, pfa, pfa_upper."""
    decision: Mapping[str, Any] | None
    """Newest decision: verdict, reasons, needs_approval, approver, created_at, candidate_id."""
    release: Mapping[str, Any] | None
    """Newest release: version, state, channel, reason, model_id, created_at."""
    devices: int
    """Devices that follow this product line."""


@dataclass(frozen=True)
class IntakeFacts:
    """What came in, for all product lines together."""

    scans: Mapping[str, int]
    """Scans by state."""
    deliveries: Mapping[str, int]
    """Deliveries by outcome."""
    held: Mapping[str, int]
    """What lies in quarantine, by reason."""


@dataclass(frozen=True)
class Facts:
    """Everything the page shows of the catalog."""

    read_at: datetime
    """The database's clock when this was read."""
    intake: IntakeFacts
    """What came in."""
    lines: tuple[LineFacts, ...]
    """Every active product line, by key."""


def read_facts(catalog: Catalog) -> Facts:
    """Read the page's facts. Raises CatalogUnavailable."""
    from scanloop.catalog import tables as t
    from scanloop.catalog.definitions import active_definitions
    from scanloop.catalog.due import reasons_due
    from scanloop.catalog.loop import loop_status

    with catalog.read() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        definitions = {definition.product_line: definition for definition in active_definitions(connection)}
        champions = _numbers_of_champions(connection)
        decisions = _newest(connection, t.decisions, t.decisions.c.created_at)
        releases = _newest(connection, t.releases, t.releases.c.version)
        devices = _devices(connection)
        lines = tuple(
            LineFacts(
                status=status,
                due=tuple(reasons_due(status, definitions[status.product_line], now)),
                champion=champions.get(status.product_line),
                decision=decisions.get(status.product_line),
                release=releases.get(status.product_line),
                devices=devices.get(status.product_line, 0),
            )
            for status in loop_status(connection)
        )
        return Facts(now, _intake(connection), lines)


def _newest(connection: sa.Connection, table: sa.Table, order: sa.ColumnElement[Any]) -> dict[str, Mapping[str, Any]]:
    """The last row of each product line by `order`."""
    query = sa.select(table).ext(distinct_on(table.c.product_line)).order_by(table.c.product_line, order.desc())
    return {row["product_line"]: row for row in connection.execute(query).mappings()}


def _numbers_of_champions(connection: sa.Connection) -> dict[str, Mapping[str, Any]]:
    from scanloop.catalog.tables import champions, evaluations

    query = (
        sa.select(champions.c.product_line, evaluations.c.summary)
        .join(evaluations, evaluations.c.model_id == champions.c.model_id)
        .ext(distinct_on(champions.c.product_line))
        .order_by(champions.c.product_line, evaluations.c.created_at.desc())
    )
    return {row.product_line: row.summary for row in connection.execute(query)}


def _devices(connection: sa.Connection) -> dict[str, int]:
    from scanloop.catalog.tables import devices

    followed = sa.func.jsonb_array_elements_text(devices.c.product_lines).label("followed")
    each = sa.select(followed).where(devices.c.state == "enrolled").subquery()
    query = sa.select(each.c.followed, sa.func.count()).group_by(each.c.followed)
    return dict(connection.execute(query).all())


def _intake(connection: sa.Connection) -> IntakeFacts:
    from scanloop.catalog.tables import deliveries, quarantine, scans

    def count_by(column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(sa.func.count().desc(), column)
        return dict(connection.execute(query).all())

    return IntakeFacts(
        scans=count_by(scans.c.state),
        deliveries=count_by(deliveries.c.outcome),
        held=count_by(quarantine.c.reason_code, quarantine.c.state == "held"),
    )
