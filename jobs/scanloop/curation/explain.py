"""Why a selection chose what it chose, and whether it would again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog, tables
from scanloop.curation.choose import Policy, choose
from scanloop.curation.pool import KIND, described, history_of, scans_of
from scanloop.curation.select import selection_id_of
from scanloop.errors import WrongArguments
from scanloop.store import Store

_LOOSE = ("exploration_share", "near_duplicate_bits", "features")
"""Parameters that are kept with a selection and are no part of its question."""


@dataclass(frozen=True)
class Explanation:
    """A selection as it was recorded."""

    selection: Mapping[str, Any]
    """Its row."""
    items: list[Mapping[str, Any]]
    """Its items by rank, with bag, scanner and view of each scan."""


@dataclass(frozen=True)
class Replay:
    """A selection made again from the inputs that the catalog still has."""

    has_same_inputs: bool
    """Whether the inputs are the ones that gave the selection its id."""
    differences: list[str]
    """Scans about which the replay decided differently."""


def explain(catalog: Catalog, selection_id: str) -> Explanation:
    """Everything recorded about a selection. An unambiguous beginning of the id is enough. Raises WrongArguments if there is none."""
    with catalog.read() as connection:
        row = _find(connection, selection_id)
        items, scans = tables.selection_items, tables.scans
        found = connection.execute(
            sa.select(
                *(items.c[name] for name in ("scan_id", "rank", "is_chosen", "score", "reason", "scores")),
                scans.c.bag_id,
                scans.c.scanner_id,
                scans.c.view_name,
            )
            .join(scans, scans.c.scan_id == items.c.scan_id)
            .where(items.c.selection_id == row["selection_id"])
            .order_by(items.c.rank)
        )
        return Explanation(row, [dict(item) for item in found.mappings()])


def replay(catalog: Catalog, store: Store, selection_id: str) -> Replay:
    """Choose again from what the selection considered and what had been chosen before it, and compare."""
    recorded = explain(catalog, selection_id)
    row = recorded.selection
    parameters = dict(row["parameters"])
    category = None if parameters["kind"] == KIND else parameters["looked_for"][0]
    with catalog.read() as connection:
        candidates = described(scans_of(connection, row["selection_id"]), store)
        history = described(
            history_of(connection, row["product_line"], taxonomy=parameters["taxonomy"], category=category, before=row["created_at"]), store
        )
    policy = Policy(row["budget"], parameters["exploration_share"], parameters["near_duplicate_bits"], row["seed"])
    question = {name: value for name, value in parameters.items() if name not in _LOOSE}
    again = selection_id_of(row["product_line"], candidates, history, policy, question)
    decided = {choice.scan_id: (choice.rank, choice.is_chosen, choice.reason) for choice in choose(candidates, history, policy)}
    before = {item["scan_id"]: (item["rank"], item["is_chosen"], item["reason"]) for item in recorded.items}
    return Replay(
        again == row["selection_id"], sorted(scan for scan in before.keys() | decided.keys() if before.get(scan) != decided.get(scan))
    )


def _find(connection: sa.Connection, selection_id: str) -> Mapping[str, Any]:
    found = connection.execute(
        sa.select(tables.selections).where(tables.selections.c.selection_id.startswith(selection_id, autoescape=True)).limit(2)
    ).mappings()
    rows = [dict(row) for row in found]
    if len(rows) != 1:
        raise WrongArguments(f"{'More than one selection begins' if rows else 'No selection begins'} with {selection_id!r}.")
    return rows[0]
