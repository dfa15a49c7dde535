"""Random histories of a taxonomy, with what each category really means."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from scanloop.taxonomy.tree import Taxonomy

KINDS = tuple(range(8))
"""Kinds of things there are; a category is a set of them."""
Meaning = Mapping[str, frozenset[int]]


def first(drawn: random.Random) -> tuple[Taxonomy, Meaning]:
    """A first version whose categories do not overlap."""
    names = ["aa", "bb", "cc", "dd"][: drawn.randint(2, 4)]
    meaning = {name: frozenset(kind for kind in KINDS if kind % 5 == number) for number, name in enumerate(names)}
    return Taxonomy.model_validate({"taxonomy_version": "v0", "categories": _categories(names)}), meaning


def next_of(drawn: random.Random, before: Taxonomy, meaning: Meaning) -> tuple[Taxonomy, Meaning]:
    """A version that follows: some categories renamed, split, merged, removed or added, the others as they were."""
    number = int(before.taxonomy_version[1:]) + 1
    left, changes, now, fresh = list(before.ids), [], dict(meaning), iter(f"{letter}{number}" for letter in "pqrstuvwxyz")
    drawn.shuffle(left)
    for _ in range(drawn.randint(0, 3)):
        kind = drawn.choice(("rename", "split", "merge", "remove", "add"))
        if kind == "add":
            changes.append({"add": next(fresh)})
            now[changes[-1]["add"]] = frozenset()
        elif kind == "merge" and len(left) >= 2:
            parts = [left.pop(), left.pop()]
            into = drawn.choice([parts[0], next(fresh)])
            changes.append({"merge": parts, "into": into})
            whole = frozenset().union(*(now.pop(part) for part in parts))
            now[into] = whole
        elif kind != "merge" and left:
            old = left.pop()
            kinds = now.pop(old)
            if kind == "rename":
                changes.append({"rename": old, "to": next(fresh)})
                now[changes[-1]["to"]] = kinds
            elif kind == "split":
                into = [drawn.choice([old, next(fresh)]), next(fresh)]
                boxes = drawn.choice([None, into[0]])
                changes.append({"split": old, "into": into} | ({"boxes": boxes} if boxes else {}))
                # Where the version says what old boxes are, that is true: nothing else of the class was ever there.
                part = kinds if boxes else frozenset(kind for kind in kinds if drawn.random() < 0.5)
                now |= {into[0]: part, into[1]: kinds - part}
            else:
                changes.append({"remove": old})
    names = sorted(now)
    content = {"taxonomy_version": f"v{number}", "follows": before.taxonomy_version, "changes": changes, "categories": _categories(names)}
    return Taxonomy.model_validate(content), now


def _categories(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": name, "name": name} for name in names]
