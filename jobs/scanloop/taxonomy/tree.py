"""A version of the tree of threat categories, and what became of the categories of the version before.

A version never changes. The next one names the version that it follows and accounts for every category that is no longer there or is new, so that
what was said under the old names can be carried over (`scanloop.taxonomy.carry`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from scanloop.errors import WrongArguments
from scanloop.product_lines import Name, Part, check, read_yaml

CategoryId = Annotated[str, Name]


class Category(Part):
    """One class of threat."""

    id: CategoryId
    name: str
    parent: str | None = None


class Rename(Part):
    """The same class under another id."""

    rename: CategoryId
    to: CategoryId

    @property
    def sources(self) -> tuple[str, ...]:
        """Categories of the version before that it accounts for."""
        return (self.rename,)

    @property
    def targets(self) -> tuple[str, ...]:
        """Categories of this version that it accounts for."""
        return (self.to,)

    def __str__(self) -> str:
        return f"{self.rename} is called {self.to}"


class Split(Part):
    """One class becomes several."""

    split: CategoryId
    into: tuple[CategoryId, ...] = Field(min_length=2)
    boxes: CategoryId | None = None
    """Which of them old boxes are; none: nobody knows, so scans that have one are to be asked about again."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Split:
        if self.boxes is not None and self.boxes not in self.into:
            raise ValueError(f"boxes: {self.boxes!r} is none of those that {self.split!r} is split into")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """See Rename."""
        return (self.split,)

    @property
    def targets(self) -> tuple[str, ...]:
        """See Rename."""
        return self.into

    def __str__(self) -> str:
        known = f"; old boxes are {self.boxes}" if self.boxes else ""
        return f"{self.split} is split into {', '.join(self.into)}{known}"


class Merge(Part):
    """Several classes become one."""

    merge: tuple[CategoryId, ...] = Field(min_length=2)
    into: CategoryId

    @property
    def sources(self) -> tuple[str, ...]:
        """See Rename."""
        return self.merge

    @property
    def targets(self) -> tuple[str, ...]:
        """See Rename."""
        return (self.into,)

    def __str__(self) -> str:
        return f"{', '.join(self.merge)} are merged into {self.into}"


class Add(Part):
    """A class that nobody looked for before."""

    add: CategoryId

    @property
    def sources(self) -> tuple[str, ...]:
        """See Rename."""
        return ()

    @property
    def targets(self) -> tuple[str, ...]:
        """See Rename."""
        return (self.add,)

    def __str__(self) -> str:
        return f"{self.add} is new"


class Remove(Part):
    """A class that is looked for no longer."""

    remove: CategoryId

    @property
    def sources(self) -> tuple[str, ...]:
        """See Rename."""
        return (self.remove,)

    @property
    def targets(self) -> tuple[str, ...]:
        """See Rename."""
        return ()

    def __str__(self) -> str:
        return f"{self.remove} is gone"


def _kind(content: Any) -> str | None:
    if isinstance(content, Part):
        return type(content).__name__.lower()
    found = [kind for kind in ("rename", "split", "merge", "add", "remove") if isinstance(content, Mapping) and kind in content]
    return found[0] if len(found) == 1 else None


Change = Annotated[
    Annotated[Rename, Tag("rename")]
    | Annotated[Split, Tag("split")]
    | Annotated[Merge, Tag("merge")]
    | Annotated[Add, Tag("add")]
    | Annotated[Remove, Tag("remove")],
    Discriminator(
        _kind,
        custom_error_type="change",
        custom_error_message="expected exactly one of rename, split, merge, add and remove",
    ),
]


class Taxonomy(Part):
    """A version of the tree of categories."""

    taxonomy_version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    follows: str | None = None
    """The version before; empty text: it starts anew on purpose; none: it is the first."""
    changes: tuple[Change, ...] = ()
    """What became of the categories of the version before. One that is not named and still there is the same."""
    categories: tuple[Category, ...]

    @model_validator(mode="after")
    def _tree(self) -> Taxonomy:
        known: set[str] = set()
        for category in self.categories:
            if category.parent is not None and category.parent not in known:
                raise ValueError(f"category {category.id!r} names the parent {category.parent!r}, which does not come before it")
            if category.id in known:
                raise ValueError(f"category {category.id!r} is named twice")
            known.add(category.id)
        return self

    @model_validator(mode="after")
    def _accounts(self) -> Taxonomy:
        if self.changes and not self.follows:
            raise ValueError("changes: there are none without a version that it follows")
        if self.follows == self.taxonomy_version:
            raise ValueError("follows: it follows itself")
        for what, named in (("accounted for", self.sources), ("made", self.targets)):
            for category, count in Counter(named).items():
                if count > 1:
                    raise ValueError(f"changes: {category!r} is {what} twice")
        there = {category.id for category in self.categories}
        for category in self.targets:
            if category not in there:
                raise ValueError(f"changes: {category!r} is not among the categories")
        for category in self.sources:
            if category in there and category not in self.targets:
                raise ValueError(f"changes: {category!r} is accounted for, and is still among the categories")
        return self

    @property
    def sources(self) -> list[str]:
        """Categories of the version before that a change accounts for, in their order."""
        return [category for change in self.changes for category in change.sources]

    @property
    def targets(self) -> list[str]:
        """Categories of this version that a change accounts for, in their order."""
        return [category for change in self.changes for category in change.targets]

    @property
    def ids(self) -> list[str]:
        """Ids of its categories, in their order."""
        return [category.id for category in self.categories]

    def as_row(self) -> dict[str, Any]:
        """The form that the catalog keeps."""
        said = self.model_dump(mode="json", exclude_none=True)
        categories = [category.model_dump() for category in self.categories]
        return {"taxonomy_version": self.taxonomy_version, "categories": categories, "follows": self.follows, "changes": said["changes"]}


def problems_with(taxonomy: Taxonomy, before: Taxonomy) -> Iterator[str]:
    """What a version leaves unsaid about the version that it follows, one sentence each."""
    was, now = set(before.ids), set(taxonomy.ids)
    sources, targets = set(taxonomy.sources), set(taxonomy.targets)
    version = before.taxonomy_version
    yield from (f"changes: {name!r} is not in {version}" for name in taxonomy.sources if name not in was)
    yield from (
        f"changes: say what became of {name!r}, which {version} has: rename, split, merge or remove" for name in sorted(was - now - sources)
    )
    yield from (
        f"changes: say where {name!r} comes from, which {version} does not have: add, or what it was"
        for name in sorted(now - was - targets)
    )
    yield from (f"changes: {name!r} is in {version} as something else; give it another id" for name in sorted((targets & was) - sources))


def read_taxonomy(path: Path) -> Taxonomy:
    """Read and check one version of the taxonomy.

    Raises:
        WrongArguments: the file is no YAML or no taxonomy; the message names file, field and what is wrong.
    """
    return check(Taxonomy, read_yaml(path), str(path))


def from_row(row: Mapping[str, Any]) -> Taxonomy:
    """Read what `Taxonomy.as_row` wrote."""
    names = ("taxonomy_version", "categories", "follows", "changes")
    try:
        return Taxonomy.model_validate({name: row[name] for name in names})
    except ValueError as error:
        raise WrongArguments(f"The taxonomy {row['taxonomy_version']} in the catalog cannot be read: {error}.") from None
