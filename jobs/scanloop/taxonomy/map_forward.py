"""Let annotations that were made under an older version of the taxonomy count under the newer one: a person's own, recorded act."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.labelling.boxes import boxes_from_json
from scanloop.labelling.trusted import is_believed
from scanloop.product_lines import ProductLine
from scanloop.taxonomy.carry import Step, carried
from scanloop.taxonomy.lineage import older_versions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forecast:
    """What mapping the annotations of one version comes to, for the categories of a product line."""

    from_version: str
    """The older version."""
    annotations: int
    """Accepted and trusted annotations under it."""
    boxes: int
    """Their boxes."""
    boxes_carried: int
    """Boxes that count under the newer version."""
    known: dict[str, int]
    """For each category of the product line, annotations that speak about it."""
    open: dict[str, int]
    """For each category that was split and is not resolved, annotations with a box of it: their scans are to be asked about again."""


def forecast(connection: sa.Connection, definition: ProductLine, version: str, steps: Sequence[Step]) -> Forecast:
    """Look at every annotation of `version` that would count for the product line."""
    notes = t.annotations
    rows = connection.execute(
        sa.select(notes.c.looked_for, notes.c.boxes).where(notes.c.taxonomy_version == version, is_believed(notes, definition)),
        execution_options={"yield_per": 5000},
    )
    total = before = after = 0
    known: Counter[str] = Counter(dict.fromkeys(definition.categories, 0))
    still_open: Counter[str] = Counter()
    for row in rows:
        boxes = boxes_from_json(row.boxes)
        total, before = total + 1, before + len(boxes)
        looked_for, there = frozenset(row.looked_for), boxes
        for step in steps:
            boxed = {box.category for box in there}
            still_open.update({part for origin in step.values() if origin.is_open for part in origin.parts} & boxed & looked_for)
            looked_for, there = carried([step], looked_for, there)
        after += len(there)
        known.update(looked_for & set(definition.categories))
    return Forecast(version, total, before, after, dict(known), dict(sorted(still_open.items())))


def forecasts(connection: sa.Connection, definition: ProductLine, versions: Sequence[str] = ()) -> list[Forecast]:
    """What mapping comes to for each of `versions`, nearest first; none named: for every older version with annotations, or
    with tasks whose answers may still come.

    Raises:
        WrongArguments: the definition's version does not go back to one that is named.
    """
    older = older_versions(connection, definition.taxonomy)
    for version in versions:
        if version not in older:
            known = ", ".join(older) or "none"
            raise WrongArguments(f"The taxonomy {definition.taxonomy} does not go back to {version!r}. Older versions: {known}.")
    wanted = [version for version in older if not versions or version in versions]
    found = [forecast(connection, definition, version, older[version]) for version in wanted]
    tasks = t.labelling_tasks
    asked = set(
        connection.execute(
            sa.select(tasks.c.attributes["taxonomy"].astext).where(tasks.c.product_line == definition.product_line).distinct()
        ).scalars()
    )
    return [one for one in found if one.annotations or versions or one.from_version in asked]


def map_forward(run: JobRun, versions: Sequence[str] = ()) -> dict[str, Any]:
    """Let annotations of older versions count for the run's product line; see `forecasts` for which.

    Raises:
        WrongArguments: see `forecasts`.
        NothingToDo: there is no annotation under an older version, or they count already.
    """
    definition = run.definition
    with run.catalog.read() as connection:
        found = forecasts(connection, definition, versions)
        before = _mappings(connection, definition)
    rows: list[dict[str, Any]] = []
    again: list[dict[str, str]] = []
    for one in found:
        if before.get(one.from_version):
            continue
        key = {"product_line": definition.product_line, "from_version": one.from_version, "to_version": definition.taxonomy}
        if one.from_version in before:
            again.append(key)
        else:
            rows.append({**key, "is_active": True, "counts": asdict(one)})
    if not rows and not again:
        what = "count already" if found else "are none"
        raise NothingToDo(f"annotations of {definition.product_line} under versions older than {definition.taxonomy}: they {what}.")
    run.publication.insert("taxonomy_mappings", rows, action="taxonomy.mapped", subject="product_line/from_version/to_version")
    for key in again:
        run.publication.update("taxonomy_mappings", key=key, expect={"is_active": False}, set={"is_active": True}, action="taxonomy.mapped")
    mapped = [row["from_version"] for row in (*rows, *again)]
    log.info("Annotations of %s under %s count under %s from now on.", definition.product_line, ", ".join(mapped), definition.taxonomy)
    return {"to_version": definition.taxonomy, "mapped": [asdict(one) for one in found if one.from_version in mapped]}


def unmap(run: JobRun, version: str) -> dict[str, Any]:
    """Take a mapping back: annotations under `version` no longer count for the run's product line.

    Raises:
        NothingToDo: they do not count.
    """
    definition = run.definition
    with run.catalog.read() as connection:
        is_active = _mappings(connection, definition).get(version, False)
    if not is_active:
        raise NothingToDo(f"annotations of {definition.product_line} under {version} do not count under {definition.taxonomy}.")
    key = {"product_line": definition.product_line, "from_version": version, "to_version": definition.taxonomy}
    run.publication.update("taxonomy_mappings", key=key, expect={"is_active": True}, set={"is_active": False}, action="taxonomy.unmapped")
    return {"to_version": definition.taxonomy, "unmapped": version}


def _mappings(connection: sa.Connection, definition: ProductLine) -> dict[str, bool]:
    """Older version to whether its annotations count now, for those that ever did."""
    mappings = t.taxonomy_mappings
    rows = connection.execute(
        sa.select(mappings.c.from_version, mappings.c.is_active).where(
            mappings.c.product_line == definition.product_line, mappings.c.to_version == definition.taxonomy
        )
    )
    return {row.from_version: bool(row.is_active) for row in rows}
