"""What a version of the taxonomy must say about the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scanloop.errors import WrongArguments
from scanloop.taxonomy.tree import Taxonomy, from_row, problems_with, read_taxonomy

BEFORE = Taxonomy.model_validate(
    {"taxonomy_version": "t-1", "categories": [{"id": name, "name": name} for name in ("handgun", "knife", "scissors", "hammer")]}
)


def follower(*changes: dict[str, Any], ids: tuple[str, ...]) -> dict[str, Any]:
    return {
        "taxonomy_version": "t-2",
        "follows": "t-1",
        "changes": list(changes),
        "categories": [{"id": name, "name": name} for name in ids],
    }


WHOLE = follower(
    {"rename": "knife", "to": "blade"},
    {"split": "handgun", "into": ["pistol", "revolver"], "boxes": "pistol"},
    {"merge": ["scissors", "hammer"], "into": "tool"},
    {"add": "drone"},
    ids=("blade", "pistol", "revolver", "tool", "drone"),
)


def test_a_version_that_accounts_for_everything_has_no_problem_and_survives_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(yaml.safe_dump(WHOLE))
    taxonomy = read_taxonomy(path)
    assert list(problems_with(taxonomy, BEFORE)) == []
    assert from_row(taxonomy.as_row()) == taxonomy
    assert from_row(BEFORE.as_row()) == BEFORE
    assert [str(change) for change in taxonomy.changes] == [
        "knife is called blade",
        "handgun is split into pistol, revolver; old boxes are pistol",
        "scissors, hammer are merged into tool",
        "drone is new",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (follower({"renamed": "knife"}, ids=("knife",)), "expected exactly one of rename, split, merge, add and remove"),
        (follower({"rename": "knife", "remove": "knife"}, ids=("knife",)), "expected exactly one of"),
        (follower({"rename": "knife"}, ids=("blade",)), "to: Field required"),
        (follower({"split": "knife", "into": ["blade"]}, ids=("blade",)), "into: Tuple should have at least 2 items"),
        (
            follower({"split": "knife", "into": ["x1", "y1"], "boxes": "z1"}, ids=("x1", "y1")),
            "'z1' is none of those that 'knife' is split",
        ),
        (follower({"split": "knife", "into": ["x1", "x1"]}, ids=("x1",)), "'x1' is made twice"),
        (follower({"merge": ["knife", "knife"], "into": "x1"}, ids=("x1",)), "'knife' is accounted for twice"),
        (follower({"rename": "knife", "to": "x1"}, {"remove": "knife"}, ids=("x1",)), "'knife' is accounted for twice"),
        (follower({"rename": "knife", "to": "x1"}, ids=("knife",)), "'x1' is not among the categories"),
        (follower({"remove": "knife"}, ids=("knife",)), "'knife' is accounted for, and is still among the categories"),
        (follower({"add": "x1"}, ids=("x1",)) | {"follows": None}, "there are none without a version that it follows"),
        (follower({"add": "x1"}, ids=("x1",)) | {"follows": ""}, "there are none without a version that it follows"),
        (follower(ids=("x1",)) | {"follows": "t-2"}, "it follows itself"),
        (follower({"add": "../x"}, ids=("x1",)), "should match pattern"),
    ],
)
def test_what_is_wrong_in_itself(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(WrongArguments) as caught:
        read_taxonomy(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("changes", "ids", "said"),
    [
        ([], ("handgun", "knife", "scissors"), "say what became of 'hammer', which t-1 has"),
        ([], ("handgun", "knife", "scissors", "hammer", "drone"), "say where 'drone' comes from"),
        ([{"remove": "spoon"}], ("handgun", "knife", "scissors", "hammer"), "'spoon' is not in t-1"),
        ([{"add": "knife"}], ("handgun", "knife", "scissors", "hammer"), "'knife' is in t-1 as something else"),
        ([{"rename": "hammer", "to": "knife"}], ("handgun", "knife", "scissors"), "'knife' is in t-1 as something else"),
    ],
)
def test_what_is_unsaid_about_the_version_before(changes: list[dict[str, Any]], ids: tuple[str, ...], said: str) -> None:
    (problem,) = problems_with(Taxonomy.model_validate(follower(*changes, ids=ids)), BEFORE)
    assert said in problem


def test_a_merged_or_split_class_may_keep_an_old_id() -> None:
    for change, ids in (
        ({"merge": ["knife", "scissors"], "into": "knife"}, ("handgun", "knife", "hammer")),
        ({"split": "knife", "into": ["knife", "machete"]}, ("handgun", "knife", "machete", "scissors", "hammer")),
    ):
        assert list(problems_with(Taxonomy.model_validate(follower(change, ids=ids)), BEFORE)) == []
