"""From a set's own names of categories to ids of the taxonomy: every name is mapped, or left out on purpose, or an error."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scanloop.errors import DataWrong, WrongArguments
from scanloop.product_lines import check, read_yaml


class _MappingFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    categories: dict[str, str | None] = Field(min_length=1, max_length=1000)

    @field_validator("categories")
    @classmethod
    def _ids(cls, categories: dict[str, str | None]) -> dict[str, str | None]:
        wrong = next(
            (found for found in categories.values() if found is not None and not re.fullmatch(r"[a-z][a-z0-9_]{1,62}", found)), None
        )
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no id of a category: expected lower-case letters, digits and underscores, or null")
        return categories


def compared(name: str) -> str:
    """A name as names are compared: `Multi-tool_Knife`, `multi tool knife` and `MULTITOOLKNIFE` are one."""
    return "".join(character for character in name.casefold() if character.isalnum())


@dataclass(frozen=True)
class CategoryMapping:
    """What each of a set's categories is here."""

    categories: Mapping[str, str | None]
    """The set's name to an id of the taxonomy; None: left out on purpose."""

    def __post_init__(self) -> None:
        first: dict[str, str] = {}
        for name in self.categories:
            if not compared(name):
                raise WrongArguments(f"The category {name!r} has neither letter nor digit in its name.")
            other = first.setdefault(compared(name), name)
            if other != name:
                raise WrongArguments(f"The categories {other!r} and {name!r} differ only in case and punctuation; name one of them.")

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id that is mapped to, sorted."""
        return tuple(sorted({found for found in self.categories.values() if found is not None}))

    def compiled(self) -> dict[str, str | None]:
        """Compared name to id."""
        return {compared(name): found for name, found in self.categories.items()}

    def check_known(self, known: Collection[str], taxonomy: str) -> None:
        """Raises DataWrong if an id is not in the taxonomy."""
        unknown = [f"{name} → {found}" for name, found in self.categories.items() if found is not None and found not in known]
        if unknown:
            raise DataWrong(
                f"Mapped to categories that are not in the taxonomy {taxonomy}: {', '.join(unknown)}. It has {', '.join(known)}."
            )

    def overridden(self, other: CategoryMapping) -> CategoryMapping:
        """This mapping where `other` says nothing."""
        said = {compared(name) for name in other.categories}
        return CategoryMapping(
            {name: found for name, found in self.categories.items() if compared(name) not in said} | dict(other.categories)
        )


def read_mapping(path: Path) -> CategoryMapping:
    """Read `categories: {NAME: id, NAME: null}` from YAML. Raises WrongArguments, naming file and field."""
    return CategoryMapping(check(_MappingFile, read_yaml(path), str(path)).categories)
