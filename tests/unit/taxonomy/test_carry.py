"""What is carried over from one version of the taxonomy to the next is true, and nothing is made up."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from taxonomies import KINDS, first, next_of

from scanloop.labelling.boxes import Box
from scanloop.taxonomy.carry import Step, asked_as, carried, step_to
from scanloop.taxonomy.tree import Taxonomy

OLD = ("handgun", "knife", "scissors")
NEW = Taxonomy.model_validate(
    {
        "taxonomy_version": "t-2",
        "follows": "t-1",
        "changes": [
            {"split": "handgun", "into": ["pistol", "revolver"]},
            {"merge": ["knife", "scissors"], "into": "blade"},
            {"add": "drone"},
        ],
        "categories": [{"id": name, "name": name} for name in ("pistol", "revolver", "blade", "drone")],
    }
)


def box(category: str, left: float = 0.0) -> Box:
    return Box(category, (left, 1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("looked_for", "boxes", "known", "there"),
    [
        (OLD, (), {"pistol", "revolver", "blade"}, ()),
        (OLD, (box("handgun"),), {"blade"}, ()),
        (OLD, (box("knife", 5), box("scissors")), {"pistol", "revolver", "blade"}, (box("blade"), box("blade", 5))),
        (("handgun", "knife"), (box("knife"),), {"pistol", "revolver"}, ()),
        (("knife", "scissors"), (box("handgun"),), {"blade"}, ()),
        ((), (), set(), ()),
    ],
    ids=["clean", "a split class is there", "merged", "half of a merged class", "a box of what was not looked for", "nothing"],
)
def test_one_step(looked_for: tuple[str, ...], boxes: tuple[Box, ...], known: set[str], there: tuple[Box, ...]) -> None:
    assert carried([step_to(NEW, OLD)], looked_for, boxes) == (frozenset(known), there)


def test_a_split_that_says_what_old_boxes_are_leaves_nothing_open() -> None:
    changes = [{"split": "handgun", "into": ["pistol", "revolver"], "boxes": "pistol"}]
    ids = ("pistol", "revolver", "knife", "scissors")
    content = NEW.model_dump() | {"changes": changes, "categories": [{"id": name, "name": name} for name in ids]}
    step = step_to(Taxonomy.model_validate(content), OLD)
    assert carried([step], OLD, (box("handgun"),)) == (frozenset(ids), (box("pistol"),))
    assert asked_as([step], "revolver") == {"handgun"}


def test_who_was_asked_about_the_parts_was_asked_about_the_whole() -> None:
    step = step_to(NEW, OLD)
    assert asked_as([step], "blade") == {"knife", "scissors"}
    assert asked_as([step], "revolver") is asked_as([step], "drone") is None
    assert asked_as([], "blade") == {"blade"}


@given(st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=400)
def test_what_is_known_is_true(drawn: random.Random, count: int) -> None:
    """A scan holds things; somebody looks for some categories and boxes every one. Whatever is known later is what they would have boxed then."""
    versions = [first(drawn)]
    steps: list[Step] = []
    for _ in range(count):
        versions.append(next_of(drawn, *versions[-1]))
        steps.append(step_to(versions[-1][0], versions[-2][0].ids))
    things = [drawn.choice(KINDS) for _ in range(drawn.randint(0, 4))]
    _, was = versions[0]
    looked_for = {name for name in was if drawn.random() < 0.7}
    boxes = [box(name, float(place)) for place, thing in enumerate(things) for name in sorted(looked_for) if thing in was[name]]
    known, there = carried(steps, looked_for, boxes)
    taxonomy, means = versions[-1]
    assert known <= set(taxonomy.ids)
    expected = {box(name, float(place)) for name in known for place, thing in enumerate(things) if thing in means[name]}
    assert set(there) == expected
    assert len(there) == len(expected)
    assert list(there) == sorted(there)
    if not boxes and looked_for == set(was):
        new = {name for name in taxonomy.ids if _goes_back_to_a_new_one(steps, name, [version for version, _ in versions])}
        assert known == set(taxonomy.ids) - new, "a scan without anything shows nothing of what its classes became"


def _goes_back_to_a_new_one(steps: list[Step], name: str, versions: list[Taxonomy]) -> bool:
    """Whether a part of a category was added on the way."""
    names = {name}
    for step, taxonomy in zip(reversed(steps), reversed(versions), strict=False):
        if names & {getattr(change, "add", None) for change in taxonomy.changes}:
            return True
        names = {part for one in names if one in step for part in step[one].parts}
    return False
