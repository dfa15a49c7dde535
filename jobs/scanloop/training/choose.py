"""What a training starts from: which snapshot, and which model before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.catalog.tables import champions, models, snapshots
from scanloop.errors import DataWrong, WrongArguments
from scanloop.training.config import ModelConfig, config_from_bytes
from scanloop.training.recipes import recipe
from scanloop.training.recipes.dino import queries_of

if TYPE_CHECKING:
    from scanloop.catalog import Catalog
    from scanloop.store import Store


@dataclass(frozen=True)
class Parent:
    """The model whose weights a training starts from."""

    model_id: str
    """SHA-256 of its weights."""
    weights_key: str
    """Where they are."""
    categories: tuple[str, ...]
    """Its categories, in label order."""


def find_snapshot(catalog: Catalog, product_line: str, snapshot_id: str | None) -> str:
    """The full id of the snapshot to train on: the one asked for (or the beginning of its id), else the product line's newest.

    Raises:
        WrongArguments: there is none, or it belongs to another product line.
    """
    rows = sa.select(snapshots.c.snapshot_id, snapshots.c.product_line).order_by(snapshots.c.sequence.desc())
    if snapshot_id:
        rows = rows.where(snapshots.c.snapshot_id.startswith(snapshot_id, autoescape=True))
    else:
        rows = rows.where(snapshots.c.product_line == product_line)
    with catalog.read() as connection:
        found = connection.execute(rows.limit(2)).all()
    if not found:
        wanted = (
            f"No snapshot begins with {snapshot_id!r}."
            if snapshot_id
            else f"{product_line} has no snapshot yet. Run: scanloop snapshot create."
        )
        raise WrongArguments(wanted)
    if snapshot_id and len(found) > 1:
        raise WrongArguments(f"More than one snapshot begins with {snapshot_id!r}.")
    if found[0].product_line != product_line:
        raise WrongArguments(f"Snapshot {found[0].snapshot_id[:12]} belongs to {found[0].product_line}, not to {product_line}.")
    return str(found[0].snapshot_id)


def shape_of(config: ModelConfig) -> tuple[Any, ...]:
    """What decides the shapes of a recipe's layers, categories apart."""
    return (config.options.planes, queries_of(config.options) if "queries" in recipe(config.recipe).reads else 0)


def find_parent(catalog: Catalog, store: Store, product_line: str, config: ModelConfig) -> Parent | None:
    """The champion, if its weights can start this training: same recipe, same shape. None: start from scratch."""
    if not config.options.warm_start:
        return None
    champion = (
        sa.select(models.c.model_id, models.c.config_key, models.c.weights_key)
        .join(champions, champions.c.model_id == models.c.model_id)
        .where(champions.c.product_line == product_line)
    )
    with catalog.read() as connection:
        row = connection.execute(champion).one_or_none()
    if row is None:
        return None
    try:
        known = config_from_bytes(store.get(row.config_key))
    except DataWrong:
        return None  # made by a version with other recipes or preprocessing: nothing to build on
    if known.recipe != config.recipe or shape_of(known) != shape_of(config):
        return None
    return Parent(row.model_id, row.weights_key, known.categories)
