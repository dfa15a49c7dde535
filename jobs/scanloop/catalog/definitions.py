"""Definitions of product lines in the catalog, where jobs read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.catalog.tables import product_lines, taxonomies
from scanloop.errors import DataWrong, NothingToDo, WrongArguments
from scanloop.product_lines import ProductLine, read_product_line
from scanloop.taxonomy.lineage import older_versions
from scanloop.taxonomy.tree import Taxonomy, from_row, problems_with, read_taxonomy

if TYPE_CHECKING:
    from scanloop.execution import JobRun


def read_folder(folder: Path) -> tuple[Taxonomy, list[ProductLine]]:
    """Read `taxonomy.yaml` and every other YAML file of `folder`, in name order.

    Raises:
        WrongArguments: a file is missing or wrong, a key is used twice, or a category is not in the taxonomy.
    """
    from scanloop.training.recipes import RECIPES, resolve_options

    if not folder.is_dir():
        raise WrongArguments(f"{folder} is not a folder.")
    taxonomy = read_taxonomy(folder / "taxonomy.yaml")
    known = set(taxonomy.ids)
    lines: dict[str, ProductLine] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "taxonomy.yaml":
            continue
        line = read_product_line(path)
        if line.product_line in lines:
            raise WrongArguments(f"{path}: product line {line.product_line!r} is defined in another file too.")
        if line.taxonomy != taxonomy.taxonomy_version:
            raise WrongArguments(f"{path}: taxonomy: expected {taxonomy.taxonomy_version!r}, found {line.taxonomy!r}.")
        unknown = sorted(set(line.categories) - known)
        if unknown:
            raise WrongArguments(f"{path}: categories: {unknown[0]!r} is not in taxonomy {taxonomy.taxonomy_version}.")
        if line.training.recipe not in RECIPES:
            raise WrongArguments(f"{path}: training.recipe: unknown recipe {line.training.recipe!r}. Known: {', '.join(RECIPES)}.")
        try:
            resolve_options(line.training.recipe, line.training.model_dump(), ())
        except WrongArguments as error:
            raise WrongArguments(f"{path}: training: {error.message}") from None
        lines[line.product_line] = line
    misnamed = next(iter(sorted(folder.glob("*.yml"))), None)
    if misnamed is not None:
        raise WrongArguments(f"{misnamed} would not be read: definitions end in .yaml.")
    if not lines:
        raise WrongArguments(f"{folder} defines no product line.")
    return taxonomy, list(lines.values())


def active_definitions(connection: sa.Connection) -> list[ProductLine]:
    """The active definition of every product line, by key."""
    rows = connection.execute(sa.select(product_lines.c.definition).where(product_lines.c.is_active).order_by(product_lines.c.product_line))
    return [ProductLine.model_validate(row.definition) for row in rows]


@dataclass(frozen=True)
class DefinitionChange:
    """One difference between a folder and the catalog."""

    product_line: str
    """Which product line; `taxonomy` for the taxonomy."""
    field: str
    """What differs, with dots into parts; empty where all of it is new or gone."""
    before: Any
    """In the catalog; None where it is not there."""
    after: Any
    """In the folder; None where it is not there."""


def definition_changes(connection: sa.Connection, taxonomy: Taxonomy, lines: Sequence[ProductLine]) -> list[DefinitionChange]:
    """What applying a folder would change, by product line and field. One that the folder does not name stays active, and is told as gone."""
    active = {line.product_line: line for line in active_definitions(connection)}
    wanted = {line.product_line: line for line in lines}
    found: list[DefinitionChange] = []
    version = taxonomy.taxonomy_version
    known, row = _stored_taxonomy(connection, version), taxonomy.as_row()
    stored, categories = known["categories"] if known else None, row["categories"]
    if known is not None:
        pairs = ((name, known[name], row[name]) for name in ("follows", "changes"))
        found += [DefinitionChange("taxonomy", f"{version}: {name}", was, will) for name, was, will in pairs if was != will]
    if stored != categories:
        before = None if stored is None else {category["id"]: category for category in stored}
        after = {category["id"]: category for category in categories}
        differing = [
            DefinitionChange("taxonomy", f"{version}.{name}" if name else version, *pair) for name, pair in _differences(before, after)
        ]
        found += differing or [DefinitionChange("taxonomy", f"{version}: order", list(before or ()), list(after))]
    for name in sorted(active.keys() | wanted.keys()):
        was, will = (line.model_dump(mode="json") if line else None for line in (active.get(name), wanted.get(name)))
        found += [DefinitionChange(name, field, *pair) for field, pair in _differences(was, will)]
    return found


def _differences(before: Any, after: Any, name: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names of what differs, with both values; into mappings, and no further."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, (before, after)


def apply_definitions(run: JobRun, taxonomy: Taxonomy, lines: Sequence[ProductLine]) -> dict[str, Any]:
    """Make `lines` the active versions.

    Raises:
        NothingToDo: they already are.
        DataWrong: the taxonomy version exists with other categories or changes (a version never changes), or does not say what became of the
            categories of the version before.
    """
    version, wanted = taxonomy.taxonomy_version, taxonomy.as_row()
    with run.catalog.read() as connection:
        stored = {(row.product_line, row.version): bool(row.is_active) for row in connection.execute(sa.select(product_lines))}
        known = _stored_taxonomy(connection, version)
        if known is None:
            check_follows(connection, taxonomy)
    if known is not None and known != wanted:
        what = "categories" if known["categories"] != wanted["categories"] else "changes"
        raise DataWrong(f"Taxonomy {version} is in the catalog with other {what}. Give the changed taxonomy a new version.")
    if known is None:
        run.publication.insert("taxonomies", [wanted], action="taxonomy.added", subject="taxonomy_version")
    changed = []
    for line in lines:
        if stored.get((line.product_line, line.version)):
            continue
        changed.append(line.product_line)
        for (name, other), is_active in stored.items():
            if name == line.product_line and is_active:
                run.publication.update(
                    "product_lines",
                    key={"product_line": name, "version": other},
                    expect={"is_active": True},
                    set={"is_active": False},
                    action="product_line.superseded",
                )
        key = {"product_line": line.product_line, "version": line.version}
        if (line.product_line, line.version) in stored:
            run.publication.update(
                "product_lines", key=key, expect={"is_active": False}, set={"is_active": True}, action="product_line.activated"
            )
        else:
            row = {**key, "definition": line.model_dump(mode="json"), "is_active": True}
            run.publication.insert("product_lines", [row], action="product_line.defined", subject="product_line/version")
    if not changed and known is not None:
        raise NothingToDo("every definition is already active.")
    return {"product_lines": [line.product_line for line in lines], "changed": changed, "taxonomy": version}


def check_follows(connection: sa.Connection, taxonomy: Taxonomy) -> None:
    """Make sure that a new version of the taxonomy accounts for the one before.

    Raises:
        DataWrong: the version that it follows is not in the catalog, or it leaves something unsaid about it; or product lines use another version
            and it does not say which one it follows.
    """
    version = taxonomy.taxonomy_version
    if taxonomy.follows is None:
        used = sorted({line.taxonomy for line in active_definitions(connection)} - {version})
        if used:
            raise DataWrong(
                f"Taxonomy {version} does not say which version it follows; product lines use {', '.join(used)}. Add to taxonomy.yaml "
                f"`follows: {used[-1]}` and, under `changes:`, what became of its categories; or `follows: ''` if it has nothing to do with it."
            )
    if not taxonomy.follows:
        return
    before = _stored_taxonomy(connection, taxonomy.follows)
    if before is None:
        raise DataWrong(f"Taxonomy {version} follows {taxonomy.follows}, which is not in the catalog. Apply that version first.")
    chain = [taxonomy.follows, *older_versions(connection, taxonomy.follows)]
    if beside := sorted({line.taxonomy for line in active_definitions(connection)} - {version, *chain}):
        raise DataWrong(
            f"Taxonomy {version} follows {taxonomy.follows}, which does not go back to {', '.join(beside)}; product lines use that version, and "
            "nothing that was labelled under it could be mapped. Follow it."
        )
    if problem := next(problems_with(taxonomy, from_row(before)), None):
        raise DataWrong(f"Taxonomy {version}: {problem}.")


def _stored_taxonomy(connection: sa.Connection, version: str) -> dict[str, Any] | None:
    """A version of the taxonomy as the catalog keeps it."""
    columns = (taxonomies.c[name] for name in ("taxonomy_version", "categories", "follows", "changes"))
    row = connection.execute(sa.select(*columns).where(taxonomies.c.taxonomy_version == version)).mappings().one_or_none()
    return dict(row) if row is not None else None
