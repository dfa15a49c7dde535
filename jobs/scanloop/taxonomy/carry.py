"""What an annotation that was made under an older version of the taxonomy says under a newer one. Rules only.

An annotation says two things: which categories were looked for, and where they are. What is not known is not made up:

- a category that is the same, or is called otherwise now, is as known as it was;
- one that others were merged into is known where all of them were looked for;
- of one that was split, a scan without a box of it shows none of its parts; a scan with one says nothing about any part, unless the taxonomy
  says which part old boxes are;
- one that is new was not looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.taxonomy.tree import Merge, Rename, Split, Taxonomy

if TYPE_CHECKING:  # the Airflow environment, which looks at the catalog, has no numpy
    from scanloop.labelling.boxes import Box


@dataclass(frozen=True)
class Origin:
    """What one category was in the version before."""

    parts: tuple[str, ...]
    """Categories that must all have been looked for."""
    boxes: tuple[str, ...]
    """Categories whose boxes are of this one now."""
    is_open: bool = False
    """Whether a box of a part leaves it open what there is."""


Step = Mapping[str, Origin]
"""From one version to the next: category of the newer to what it was. One without an entry is new."""


def step_to(taxonomy: Taxonomy, before: Iterable[str]) -> Step:
    """How categories of the version `before` are carried over to `taxonomy`, which follows it."""
    step = {name: Origin((name,), (name,)) for name in before if name in taxonomy.ids and name not in taxonomy.sources}
    for change in taxonomy.changes:
        if isinstance(change, Rename):
            step[change.to] = Origin((change.rename,), (change.rename,))
        elif isinstance(change, Merge):
            step[change.into] = Origin(change.merge, change.merge)
        elif isinstance(change, Split):
            for name in change.into:
                is_it = name == change.boxes
                step[name] = Origin((change.split,), (change.split,) if is_it else (), is_open=change.boxes is None)
    return step


def carried(steps: Sequence[Step], looked_for: Collection[str], boxes: Collection[Box]) -> tuple[frozenset[str], tuple[Box, ...]]:
    """Categories that an annotation speaks about after all steps, and its boxes of them, sorted."""
    known, there = frozenset(looked_for), tuple(box for box in boxes if box.category in looked_for)
    for step in steps:
        boxed = {box.category for box in there}
        now = {
            name: origin
            for name, origin in step.items()
            if known.issuperset(origin.parts) and not (origin.is_open and boxed.intersection(origin.parts))
        }
        there = tuple(replace(box, category=name) for name, origin in now.items() for box in there if box.category in origin.boxes)
        known = frozenset(now)
    return known, tuple(sorted(there))


def asked_as(steps: Sequence[Step], category: str) -> frozenset[str] | None:
    """Categories of the oldest version: whoever is asked about all of them will have answered about `category` after all steps. None: nobody will."""
    asked = frozenset((category,))
    for step in reversed(steps):
        origins = [step.get(name) for name in asked]
        if any(origin is None or origin.is_open for origin in origins):
            return None
        asked = frozenset(part for origin in origins if origin is not None for part in origin.parts)
    return asked


def speaks_about(notes: Any, steps: Sequence[Step], category: str) -> sa.ColumnElement[bool]:
    """The same as SQL: whether an annotation speaks about `category` after all steps. `notes` is the table of annotations, or an alias of it."""
    if not steps:
        return notes.c.looked_for.contains([category])
    *earlier, last = steps
    origin = last.get(category)
    if origin is None:
        return sa.false()
    known = [speaks_about(notes, earlier, part) for part in origin.parts]
    if origin.is_open:
        known.append(~sa.or_(*(_has_box(notes, earlier, part) for part in origin.parts)))
    return sa.and_(*known)


def _has_box(notes: Any, steps: Sequence[Step], category: str) -> sa.ColumnElement[bool]:
    """Whether an annotation that speaks about `category` has a box of it."""
    if not steps:
        return notes.c.boxes.contains([{"category": category}])
    *earlier, last = steps
    origin = last.get(category)
    return sa.or_(sa.false(), *(_has_box(notes, earlier, part) for part in (origin.boxes if origin else ())))
