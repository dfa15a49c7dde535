"""Which annotations of older versions of the taxonomy count for a product line, and as what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.product_lines import ProductLine
from scanloop.taxonomy.carry import Step, asked_as, carried, speaks_about, step_to
from scanloop.taxonomy.tree import Taxonomy, from_row

if TYPE_CHECKING:
    from scanloop.labelling.boxes import Box


@dataclass(frozen=True)
class Lineage:
    """Versions of the taxonomy whose annotations count for a product line."""

    version: str
    """The version that its definition uses."""
    steps: Mapping[str, tuple[Step, ...]]
    """Version to the steps from it to `version`; `version` itself has none."""

    def carried(self, version: str, looked_for: Collection[str], boxes: Collection[Box]) -> tuple[frozenset[str], tuple[Box, ...]] | None:
        """What an annotation made under `version` says now; None if such annotations do not count."""
        steps = self.steps.get(version)
        if steps is None:
            return None
        return carried(steps, looked_for, boxes) if steps else (frozenset(looked_for), tuple(boxes))

    def counts(self, notes: Any) -> sa.ColumnElement[bool]:
        """Whether an annotation is of a version that counts."""
        return notes.c.taxonomy_version.in_(sorted(self.steps))

    def is_about(self, notes: Any, categories: Collection[str]) -> sa.ColumnElement[bool]:
        """Whether an annotation counts and speaks about one of these categories."""
        return sa.or_(sa.false(), *(self._of(notes, category) for category in categories))

    def is_about_all(self, notes: Any, categories: Collection[str]) -> sa.ColumnElement[bool]:
        """Whether an annotation counts and speaks about each of these categories."""
        return sa.and_(sa.true(), *(self._of(notes, category) for category in categories))

    def is_asked(self, parameters: Any, category: str) -> sa.ColumnElement[bool]:
        """Whether a selection with these parameters asks for an answer about `category`."""
        asked = {version: asked_as(steps, category) for version, steps in sorted(self.steps.items())}
        return sa.or_(
            sa.false(),
            *(
                sa.and_(parameters["taxonomy"].astext == version, parameters["looked_for"].contains(sorted(names)))
                for version, names in asked.items()
                if names is not None
            ),
        )

    def _of(self, notes: Any, category: str) -> sa.ColumnElement[bool]:
        of = (
            sa.and_(notes.c.taxonomy_version == version, speaks_about(notes, steps, category))
            for version, steps in sorted(self.steps.items())
        )
        return sa.or_(*of)


def older_versions(connection: sa.Connection, version: str) -> dict[str, tuple[Step, ...]]:
    """Every version that `version` goes back to, nearest first, with the steps from it to `version`."""
    known: dict[str, Taxonomy] = {}
    for row in connection.execute(sa.select(t.taxonomies)).mappings():
        known[row["taxonomy_version"]] = from_row(dict(row))
    steps: tuple[Step, ...] = ()
    found: dict[str, tuple[Step, ...]] = {}
    taxonomy = known.get(version)
    while taxonomy is not None and (before := known.get(taxonomy.follows or "")) is not None and before.taxonomy_version not in found:
        steps = (step_to(taxonomy, before.ids), *steps)
        found[before.taxonomy_version] = steps
        taxonomy = before
    return found


def lineage_of(connection: sa.Connection, definition: ProductLine) -> Lineage:
    """The versions that count for a product line now: its own, and older ones that were mapped to it by `scanloop taxonomy map`."""
    mappings = t.taxonomy_mappings
    mapped = set(
        connection.execute(
            sa.select(mappings.c.from_version).where(
                mappings.c.product_line == definition.product_line, mappings.c.to_version == definition.taxonomy, mappings.c.is_active
            )
        ).scalars()
    )
    older = older_versions(connection, definition.taxonomy) if mapped else {}
    return Lineage(definition.taxonomy, {definition.taxonomy: (), **{version: older[version] for version in older if version in mapped}})
