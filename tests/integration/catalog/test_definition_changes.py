"""What applying a folder of definitions would change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_world import define, definition

from scanloop.cli.main import run as cli
from scanloop.cli.options import World

TAXONOMY = {"taxonomy_version": "t-1", "categories": [{"id": name, "name": name} for name in ("handgun", "knife", "grenade")]}


def _folder(path: Path, taxonomy: dict[str, Any], *lines: dict[str, Any]) -> str:
    path.mkdir(exist_ok=True)
    for old in path.glob("*.yaml"):
        old.unlink()
    (path / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    for line in lines:
        (path / f"{line['product_line']}.yaml").write_text(yaml.safe_dump(line))
    return str(path)


@pytest.fixture
def told(
    world: World, run_body: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Exit code and changes that the command tells of a folder, where one product line is applied already."""
    define(run_body)
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", world.settings.database_url)
    monkeypatch.setenv("SCANLOOP_HOME", str(world.settings.home))

    def tell(taxonomy: dict[str, Any], *lines: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
        capsys.readouterr()
        code = cli(["definitions", "diff", "--folder", _folder(tmp_path / "lines", taxonomy, *lines), "--json"])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return tell


def test_the_same_is_nothing_to_do(told: Any) -> None:
    assert told(TAXONOMY, definition()) == (99, [])


def test_every_field_that_differs_is_told_and_no_other(told: Any) -> None:
    changed = definition(query="tag = new", selection={"budget_scans": 7}, categories=["knife"])
    code, found = told(TAXONOMY, changed)
    assert code == 0
    assert {(one["product_line"], one["field"]): (one["before"], one["after"]) for one in found} == {
        ("cabin", "categories"): (["handgun", "knife"], ["knife"]),
        ("cabin", "query"): ("", "tag = new"),
        ("cabin", "selection.budget_scans"): (400, 7),
    }


def test_new_and_missing_product_lines_and_taxonomies_are_told_whole(told: Any) -> None:
    taxonomy = {"taxonomy_version": "t-2", "categories": TAXONOMY["categories"]}
    code, found = told(taxonomy, definition(product_line="hold", taxonomy="t-2"))
    assert code == 0
    assert [(one["product_line"], one["field"], one["before"] is None, one["after"] is None) for one in found] == [
        ("taxonomy", "t-2", True, False),
        ("cabin", "", False, True),
        ("hold", "", True, False),
    ]


def test_a_taxonomy_that_changed_under_its_version_is_told_by_category(told: Any) -> None:
    taxonomy = {"taxonomy_version": "t-1", "categories": [*TAXONOMY["categories"][:2], {"id": "grenade", "name": "Hand grenade"}]}
    _, found = told(taxonomy, definition())
    assert [(one["field"], one["before"], one["after"]) for one in found] == [("t-1.grenade.name", "grenade", "Hand grenade")]


def test_another_order_of_categories_is_told_since_apply_refuses_it(told: Any) -> None:
    taxonomy = {"taxonomy_version": "t-1", "categories": TAXONOMY["categories"][::-1]}
    code, found = told(taxonomy, definition())
    assert code == 0
    assert [(one["field"], one["before"]) for one in found] == [("t-1: order", ["handgun", "knife", "grenade"])]


def test_the_table_is_for_people(told: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told(TAXONOMY, definition(selection={"budget_scans": 7}))
    assert cli(["definitions", "diff", "--folder", str(tmp_path / "lines")]) == 0
    shown = capsys.readouterr().out
    assert "selection.budget_scans" in shown
    assert "400" in shown
