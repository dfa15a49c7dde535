"""Product line files: what is wrong is said with its file and its field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scanloop.catalog.definitions import read_folder
from scanloop.errors import WrongArguments
from scanloop.product_lines import ProductLine, read_product_line
from scanloop.taxonomy.tree import read_taxonomy

ROOT = Path(__file__).resolve().parents[3]
GOOD = {"product_line": "cabin", "title": "Cabin", "taxonomy": "t-1", "categories": ["knife", "handgun"], "selection": {"budget_scans": 10}}
TAXONOMY = {"taxonomy_version": "t-1", "categories": [{"id": "knife", "name": "Knife"}, {"id": "handgun", "name": "Handgun"}]}


def _file(folder: Path, content: object, name: str = "cabin.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_product_lines_of_this_checkout_are_good() -> None:
    _, lines = read_folder(ROOT / "product_lines")
    assert [line.product_line for line in lines] == ["cabin_baggage", "hold_baggage"]


def test_a_version_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    one = read_product_line(_file(tmp_path, GOOD))
    same = read_product_line(_file(tmp_path, "# a remark\n" + yaml.safe_dump(dict(reversed(GOOD.items())))))
    other = read_product_line(_file(tmp_path, {**GOOD, "title": "Cabin bags"}))
    assert one.version == same.version != other.version
    assert ProductLine.model_validate(one.model_dump(mode="json")).version == one.version


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"colour": "red"}, "colour", "not permitted"),
        ({"gate": {"min_ap": 0.5}}, "gate.min_ap", "not permitted"),
        ({"gate": {"min_ap50": 2}}, "gate.min_ap50", "less than or equal to 1"),
        ({"gate": {"approval": "always"}}, "gate", "at least one name in approvers"),
        ({"categories": []}, "categories", "at least 1"),
        ({"categories": ["knife", "knife"]}, "categories", "named twice"),
        ({"training": {"size_px": 333}}, "training.size_px", "multiple of 32"),
        ({"training": {"planes": ["high", "zeff"]}}, "training.planes.1", "'high', 'low', 'material', 'red', 'green' or 'blue'"),
        ({"snapshot": {"splits": {"train": 0.5, "val": 0.1, "test": 0.1}}}, "snapshot", "sum to 1"),
        ({"snapshot": {"splits": {"train": 1.6, "val": -0.85, "test": 0.25}}}, "snapshot", "none below 0"),
        ({"training": {"planes": []}}, "training.planes", "at least 1"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate", "finite"),
        ({"training": {"iterations": True}}, "training.iterations", "truth value"),
        ({"training": {"learning_rate": True}}, "training.learning_rate", "truth value"),
        ({"selection": {}}, "selection.budget_scans", "required"),
        ({"product_line": "Not A Key"}, "product_line", "pattern"),
        ({"release": {"channel": "../up"}}, "release.channel", "pattern"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_field(tmp_path: Path, change: dict[str, object], field: str, said: str) -> None:
    path = _file(tmp_path, {**GOOD, **change})
    with pytest.raises(WrongArguments) as error:
        read_product_line(path)
    assert error.value.message.startswith(f"{path}: {field}: ")
    assert said in error.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("product_line: [unclosed\n", "is not valid YAML at line 2, column 1"),
        ("a: b: c\n", "is not valid YAML at line 1, column 5"),
        ("- a list\n", "must hold one mapping, found list"),
        ("", "must hold one mapping, found NoneType"),
        ("!!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_text_that_is_no_definition(tmp_path: Path, text: str, said: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(WrongArguments) as error:
        read_product_line(path)
    assert str(path) in error.value.message
    assert said in error.value.message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"title: \xff\xfe")
    with pytest.raises(WrongArguments, match="is not valid YAML"):
        read_product_line(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongArguments, match="cannot be read: No such file"):
        read_product_line(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("categories", "said"),
    [
        ([{"id": "knife", "name": "Knife", "parent": "blade"}], "names the parent 'blade', which does not come before it"),
        ([{"id": "knife", "name": "Knife"}, {"id": "knife", "name": "Again"}], "'knife' is named twice"),
    ],
)
def test_a_taxonomy_that_is_no_tree(tmp_path: Path, categories: object, said: str) -> None:
    with pytest.raises(WrongArguments, match=said):
        read_taxonomy(_file(tmp_path, {"taxonomy_version": "t-1", "categories": categories}))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "defines no product line"),
        ({"a.yaml": GOOD, "b.yaml": {**GOOD, "title": "Other"}}, "b.yaml: product line 'cabin' is defined in another file too"),
        ({"a.yaml": {**GOOD, "taxonomy": "t-2"}}, "a.yaml: taxonomy: expected 't-1', found 't-2'"),
        ({"a.yaml": {**GOOD, "categories": ["spoon"]}}, "a.yaml: categories: 'spoon' is not in taxonomy t-1"),
    ],
    ids=["empty", "twice", "other taxonomy", "unknown category"],
)
def test_a_folder_whose_files_do_not_fit_together(tmp_path: Path, files: dict[str, object], said: str) -> None:
    _file(tmp_path, TAXONOMY, "taxonomy.yaml")
    for name, content in files.items():
        _file(tmp_path, content, name)
    with pytest.raises(WrongArguments) as error:
        read_folder(tmp_path)
    assert said in error.value.message


def test_scanners_are_covered_by_pattern() -> None:
    line = ProductLine.model_validate({**GOOD, "scanners": {"include": ["acme-*", "rapid-6-0007"]}})
    assert [line.covers(scanner) for scanner in ("acme-x-1", "rapid-6-0007", "rapid-6-0008", "Acme-x-1")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("title: [", "line 1"),
        ("title: Cabin\ntitle: Hold\n", "line 2, column 1: the key 'title' is there twice"),
        ("title: 2026-02-30", "day is out of range"),
        ("title: " + "[" * 100_000, "nested too deeply"),
        ("title: \0", "not allowed"),
        ("- title", "must hold one mapping"),
    ],
    ids=("unclosed", "twice", "impossible date", "deep", "null byte", "list"),
)
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(WrongArguments, match=r"^[^\n]*$") as error:
        read_product_line(path)
    assert error.value.message.startswith(str(path))
    assert said in error.value.message


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("hold.yml", {"product_line": "hold"}, "definitions end in .yaml"),
        ("hold.yaml", {"training": {"recipe": "x"}}, "Known: rtmdet_tiny"),
        ("hold.yaml", {"training": {"patience": 2}}, "training: Training options: patience needs a validate_interval"),
        ("hold.yaml", {"training": {"pretrained": "weights.pth"}}, "training: Training option pretrained"),
        ("hold.yaml", {"training": {"planes": ["high", "high"]}}, "training: Training option planes: Value error, a plane is named twice"),
    ],
)
def test_a_folder_is_read_whole_or_refused(tmp_path: Path, name: str, change: dict[str, object], said: str) -> None:
    _file(tmp_path, TAXONOMY, "taxonomy.yaml")
    _file(tmp_path, GOOD)
    _file(tmp_path, {**GOOD, "product_line": "hold", **change}, name)
    with pytest.raises(WrongArguments, match=said):
        read_folder(tmp_path)
