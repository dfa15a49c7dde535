"""Boxes, mappings and annotations: what is kept, what is cut, what is left out, and what then does not count as clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import DataWrong, WrongArguments
from scanloop.imports.annotate import annotation_row, content_of
from scanloop.imports.boxes import Misplaced, placed, usable
from scanloop.imports.entries import Entry, EntryBox
from scanloop.imports.mapping import CategoryMapping, compared, read_mapping
from scanloop.imports.presets import FORMATS, PRESETS, preset_named
from scanloop.imports.problems import KINDS, MAX_KEPT, Problem, Problems, decode_problems, encode_problems
from scanloop.imports.records import IndexBox
from scanloop.imports.reference import filled
from scanloop.taxonomy.tree import read_taxonomy

ROOT = Path(__file__).parents[3]
FINITE = st.floats(-500, 500, allow_nan=False)


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        ((None, 1, 2, 3), "box_unreadable"),
        ((1, 1, None, 3), "box_unreadable"),
        ((1, 1, 0, 3), "box_without_area"),
        ((1, 1, -5, 3), "box_without_area"),
        ((1, 1, 5, -0.0), "box_without_area"),
    ],
)
def test_what_is_no_box_is_said_to_be_none(bbox: Any, kind: str) -> None:
    found = usable(IndexBox("annotation 1", "Gun", bbox))
    assert isinstance(found, Misplaced)
    assert found.kind == kind


def test_a_crowd_is_no_box() -> None:
    found = usable(IndexBox("annotation 1", "Gun", (1, 1, 5, 5), is_crowd=True))
    assert isinstance(found, Misplaced)
    assert found.kind == "box_crowd"


@pytest.mark.parametrize(
    ("box", "kept", "kind", "found"),
    [
        ((10, 10, 20, 20), (10, 10, 20, 20), None, ""),
        ((0, 0, 80, 64), (0, 0, 80, 64), None, ""),
        ((-3, 10, 20, 20), (0, 10, 17, 20), "box_clipped", "beyond it by 3 px left"),
        ((70.5, 50, 20, 20), (70.5, 50, 9.5, 14), "box_clipped", "beyond it by 10.5 px right, 6 px bottom"),
        ((80, 10, 20, 20), None, "box_outside", "80, 10 to 100, 30"),
        ((-30, 10, 20, 20), None, "box_outside", "-30, 10 to -10, 30"),
        ((79.5, 10, 20, 20), None, "box_outside", "79.5, 10 to 99.5, 30"),
        ((10, 10, 0.5, 20), None, "box_without_area", "0.5 x 20"),
    ],
)
def test_a_box_is_kept_cut_or_left_out(box: Any, kept: Any, kind: str | None, found: str) -> None:
    inside, misplaced = placed(box, 80, 64)
    assert inside == kept
    assert (misplaced.kind if misplaced else None, misplaced.found if misplaced else "") == (kind, found)


@given(FINITE, FINITE, st.floats(0.01, 900), st.floats(0.01, 900), st.integers(1, 300), st.integers(1, 300))
def test_what_is_kept_is_the_part_inside(left: float, top: float, width: float, height: float, width_px: int, height_px: int) -> None:
    inside, misplaced = placed((left, top, width, height), width_px, height_px)
    if inside is None:
        assert misplaced is not None
        return
    x, y, w, h = inside
    assert 0 <= x < x + w <= width_px + 1e-9
    assert 0 <= y < y + h <= height_px + 1e-9
    assert w >= 1 - 1e-9
    assert h >= 1 - 1e-9
    assert (misplaced is None) == (inside == (left, top, width, height))
    assert placed(inside, width_px, height_px)[0] in (inside, None)


def entry(**changes: Any) -> Entry:
    boxes = (EntryBox("annotation 1", "handgun", (5, 5, 20, 20)), EntryBox("annotation 2", "knife", (90, 5, 20, 20)))
    fields = {
        "path": "train/a.png",
        "split": "train",
        "bag": "train/a",
        "index": "a.json",
        "entry": "image 1",
        "width_px": 80,
        "height_px": 64,
    }
    return Entry(**{**fields, "boxes": boxes, "looked_for": ("handgun", "knife", "scissors"), **changes})


def test_a_category_with_a_box_left_out_was_not_looked_for() -> None:
    problems = Problems()
    boxes, looked_for = content_of(entry(), 80, 64, problems)
    assert boxes == [{"category": "handgun", "bbox_xywh": [5, 5, 20, 20]}]
    assert looked_for == ["handgun", "scissors"]
    assert [problem.kind for problem in problems.kept] == ["box_outside"]


@pytest.mark.parametrize("size", [(64, 80), (160, 128), (80, 63)])
def test_nothing_counts_where_the_picture_has_another_size_than_its_index_says(size: tuple[int, int]) -> None:
    problems = Problems()
    assert content_of(entry(), *size, problems) == ([], [])
    assert [problem.kind for problem in problems.kept] == ["size_differs"]


def test_an_index_without_sizes_is_believed() -> None:
    assert content_of(entry(width_px=None, height_px=None), 200, 64, Problems())[1] == ["handgun", "knife", "scissors"]


ABOUT = {"scan_id": "ab", "product_line": "cabin", "author": "pidray 123", "tool": "import:coco", "taxonomy_version": "t-1"}


def test_an_annotation_is_known_by_what_it_says_and_what_it_replaces() -> None:
    first = annotation_row(ABOUT, [], ["knife"], None)
    assert first is not None
    assert annotation_row({**ABOUT, "author": "pidray 456"}, [], ["knife"], None) == {**first, "author": "pidray 456"}
    assert annotation_row(ABOUT, [], ["knife"], first) is None
    second = annotation_row(ABOUT, [], ["handgun", "knife"], first)
    assert second is not None
    assert second["supersedes"] == first["annotation_id"]
    back = annotation_row(ABOUT, [], ["knife"], second)
    assert back is not None
    assert len({row["annotation_id"] for row in (first, second, back)}) == 3


@pytest.mark.parametrize(
    ("one", "other"), [("Multi-tool_Knife", "multi tool knife"), ("HandCuffs", "handcuffs"), ("swiss army knife", "SwissArmyKnife")]
)
def test_names_are_compared_without_case_and_punctuation(one: str, other: str) -> None:
    assert compared(one) == compared(other)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("categories: {Gun: Handgun}", "no id of a category"),
        ("categories: {Gun: 5}", "categories"),
        ("categories: {}", "categories"),
        ("Gun: handgun", "categories: Field required"),
        ("categories: {Gun: handgun}\nmore: 1", "more"),
        ("categories: {No: handgun}", "categories"),
        ("categories: {Gun: handgun, Gun: knife}", "the key 'Gun' is there twice"),
        ("categories: {Gun: handgun, gun_: knife}", "differ only in case"),
        ("categories: {'--': handgun}", "neither letter nor digit"),
        ("[]", "must hold one mapping"),
        ("categories: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_a_mapping_that_is_none_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(WrongArguments, match=says):
        read_mapping(tmp_path / "m.yaml")


def test_a_mapping_changes_only_what_it_names() -> None:
    changed = preset_named("pidray").categories.overridden(CategoryMapping({"gun": "firearm", "Bullet": "explosive"}))
    assert changed.compiled() == preset_named("pidray").categories.compiled() | {"gun": "firearm", "bullet": "explosive"}


def test_the_presets_map_to_the_shipped_taxonomy() -> None:
    taxonomy = read_taxonomy(ROOT / "product_lines" / "taxonomy.yaml")
    for preset in PRESETS.values():
        preset.categories.check_known([category.id for category in taxonomy.categories], taxonomy.taxonomy_version)
        assert bool(preset.categories.categories) == (preset.name not in FORMATS)


def test_a_category_that_the_taxonomy_does_not_have_is_named() -> None:
    with pytest.raises(DataWrong, match="Gun → pistol"):
        CategoryMapping({"Gun": "pistol"}).check_known(["handgun"], "t-1")


def test_the_page_has_the_tables_of_the_code() -> None:
    page = (ROOT / "docs" / "imports.md").read_text()
    assert page == filled(page), "run: python -m scanloop.imports.reference docs/imports.md"
    assert all(f"| `{kind}` |" in page for kind in KINDS)


def test_problems_are_kept_one_by_one_and_counted_beyond() -> None:
    problems = Problems(Problem("id_odd", "a.json", f"image {number}", "a number", "none") for number in range(5))
    assert list(decode_problems(encode_problems(problems.kept))) == problems.kept
    problems.kept *= MAX_KEPT // 5
    problems.report("id_odd", "a.json", "image 6", "a number", "none")
    assert (problems.counts["id_odd"], len(problems.kept)) == (6, MAX_KEPT)


def test_a_problem_is_one_printable_line() -> None:
    problem = Problem("name_odd", "a\x1b[31m\n.png", "image 1", "a name", "\u202egnp.a" * 100)
    assert problem.line.isprintable()
    assert len(problem.line) < 700
