"""Tags and attributes for everything that a query finds, in one audited act."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.query.fields import Subject
from scanloop.query.language import parse
from scanloop.query.search import ids_of, searching
from scanloop.query.sql import KEYS, condition

AT_MOST = 100_000
"""Scans or annotations that one act changes, unless more is asked for."""
TIMEOUT_S = 600.0
"""Longest time for finding them, in seconds."""
MAX_VALUE_CHARACTERS = 1000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,99}")

Value = str | int | float | bool
LARGEST = 2**53
"""Larger whole numbers are not the same in every program that reads JSON."""
_Mark = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Changes:
    """What is to be given and taken away."""

    tags: tuple[str, ...] = ()
    """Tags to give."""
    no_tags: tuple[str, ...] = ()
    """Tags to take away."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """Attributes to give, with their values."""
    no_attributes: tuple[str, ...] = ()
    """Attributes to take away."""

    def checked(self) -> dict[_Mark, tuple[Any, bool]]:
        """(kind, name) to (value, whether it is to be set). Raises WrongArguments."""
        wanted: dict[_Mark, tuple[Any, bool]] = {}
        given: list[tuple[_Mark, tuple[Any, bool]]] = [(("tag", name), (True, True)) for name in self.tags]
        given += [(("tag", name), (True, False)) for name in self.no_tags]
        given += [(("attribute", name), (_checked(name, value), True)) for name, value in self.attributes.items()]
        given += [(("attribute", name), (None, False)) for name in self.no_attributes]
        for mark, what in given:
            if not _NAME.fullmatch(mark[1]):
                raise WrongArguments(
                    f"Not a name of a {mark[0]}: {mark[1][:100]!r}. "
                    "Expected up to 100 letters, digits and _ . : / @ -, the first a letter, a digit or _."
                )
            if mark in wanted:
                raise WrongArguments(f"The {mark[0]} {mark[1]} is named twice.")
            wanted[mark] = what
        if not wanted:
            raise WrongArguments("Nothing is to be changed: name a tag or an attribute to give or to take away.")
        return wanted


def _checked(name: str, value: Value) -> Value:
    if isinstance(value, str) and (len(value) > MAX_VALUE_CHARACTERS or "\0" in value):
        raise WrongArguments(f"The value of {name} must have at most {MAX_VALUE_CHARACTERS} characters, none of them null.")
    if isinstance(value, (bool, str)):
        return value
    if not math.isfinite(value) or (value == int(value) and abs(value) > LARGEST):
        raise WrongArguments(
            f"The value of {name} must be a finite number, a whole one at most 2**53; give a larger one as text, in double quotes."
        )
    return int(value) if value == int(value) else value


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two marks are the same; a truth value is no number."""
    return bool(one == other and isinstance(one["value"], bool) == isinstance(other["value"], bool))


def mark(run: JobRun, subject: Subject, query: str, changes: Changes, *, at_most: int = AT_MOST) -> dict[str, Any]:
    """Give tags and attributes to everything that a query finds, and take others away. Returns how many were found and how many changed.

    Raises:
        QueryWrong: it is no query.
        WrongArguments: a name or a value cannot be given, or more than `at_most` are found.
        NothingToDo: everything found is as it should be, or nothing is found.
    """
    wanted = changes.checked()
    where = condition(parse(query, subject), subject)
    found = changed = 0
    updates: list[dict[str, Any]] = []
    with searching(run.catalog, TIMEOUT_S) as connection:
        total = int(connection.execute(sa.select(sa.func.count()).select_from(KEYS[subject.name].table).where(where)).scalar_one())
        if total > at_most:
            raise WrongArguments(f"The query finds {total} {subject.name}s, more than the {at_most} that --at-most allows.")
        before = _marks_before(connection, subject, where, wanted)
        action = f"{subject.name}.marked"

        def inserts() -> Iterator[dict[str, Any]]:
            nonlocal found, changed
            for identity in connection.execute(
                ids_of(where, subject).order_by(KEYS[subject.name]), execution_options={"yield_per": 5000}
            ).scalars():
                found += 1
                is_changed = False
                for (kind, name), (value, is_set) in wanted.items():
                    key = {"subject": subject.name, "subject_id": identity, "kind": kind, "name": name}
                    was = before.get((identity, kind, name))
                    now = {"value": was["value"] if was and not is_set else value, "is_set": is_set}
                    if (was is None and not is_set) or (was is not None and _is_same(was, now)):
                        continue
                    is_changed = True
                    if was is None:
                        yield {**key, **now}
                    else:
                        updates.append({"key": key, "expect": was, "set": now})
                changed += is_changed

        run.publication.insert("marks", inserts(), action=action, subject="subject/subject_id/kind/name")
    for update in updates:
        run.publication.update("marks", **update, action=action)
    if not changed:
        raise NothingToDo(f"the query finds {found} {subject.name}s, all of them as they should be.")
    return {"found": found, "changed": changed}


def _marks_before(
    connection: sa.Connection, subject: Subject, where: sa.ColumnElement[bool], wanted: Mapping[_Mark, Any]
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What those found have of what is wanted, set or not: (id, kind, name) to value and is_set."""
    marks = t.marks
    rows = connection.execute(
        sa.select(marks.c.subject_id, marks.c.kind, marks.c.name, marks.c.value, marks.c.is_set).where(
            marks.c.subject == subject.name,
            sa.tuple_(marks.c.kind, marks.c.name).in_(list(wanted)),
            marks.c.subject_id.in_(ids_of(where, subject)),
        )
    )
    return {(row.subject_id, row.kind, row.name): {"value": row.value, "is_set": row.is_set} for row in rows}
