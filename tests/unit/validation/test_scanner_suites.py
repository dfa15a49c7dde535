"""Suites kept as files: every one is sound, fits whom it is for, and what is wrong in a new one is said."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanloop.errors import WrongArguments
from scanloop.simulator.scanners import SCANNER_MODELS
from scanloop.validation.catalogue import build_suites, read_suite_file, scanner_suites, suite_for
from scanloop.validation.suites import ScannerSuite

SUITES = {suite.name: suite for suite in scanner_suites()}
FOLDER = resources.files("scanloop.validation.scanner_suites")
FILES = {path.name.removesuffix(".yaml"): path.read_text() for path in FOLDER.iterdir() if path.name.endswith(".yaml")}
TWO = [{"name": "high"}, {"name": "low"}]
COLOURS = [{"name": name} for name in ("red", "green", "blue")]


def scan(manufacturer: str, model: str, planes: list[dict[str, Any]] = TWO, modality: str = "DX", **attributes: Any) -> dict[str, Any]:
    return {"manufacturer": manufacturer, "model": model, "planes": planes, "modality": modality, "attributes": attributes}


def built(new: dict[str, Any], name: str | None = None) -> dict[str, ScannerSuite]:
    """The package's suites and a new one, in a file with a name."""
    files = [*(read_suite_file(known, text) for known, text in FILES.items()), read_suite_file(name or new["suite"], yaml.safe_dump(new))]
    return {one.name: one for one in build_suites(files)}


NEW = {
    "suite": "veritas_v_620",
    "says": "Veritas V 620, one view",
    "for": {"kind": "projection", "manufacturer": "Veritas", "model": "V 620"},
}
NEW |= {"extends": "projection"}


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_names_are_unique_and_checks_say_what_holds_in_plain_words(suite: ScannerSuite) -> None:
    checks = [check for part in suite.suites for check in part.checks]
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.says[0].islower()
        assert not check.says.endswith(".")


@pytest.mark.parametrize("scanner", SCANNER_MODELS, ids=lambda scanner: scanner.model)
def test_every_simulated_model_has_a_suite_with_its_sizes_bits_and_views(scanner: Any) -> None:
    suite = suite_for(scan(scanner.manufacturer, scanner.model))
    assert suite.is_of_a_model
    checks = {check.name: check.arguments for part in suite.suites for check in part.checks}
    assert checks["depth_is_enough"]["value_set"] == [scanner.bits]
    assert set(checks["height_is_plausible"]["value_set"]) == {view.rows_px for view in scanner.views}
    assert set(checks["width_is_plausible"]["value_set"]) == {view.columns_px for view in scanner.views}
    assert set(checks["view_is_of_the_model"]["value_set"]) == {view.name for view in scanner.views}
    is_dicos = scanner.file_format.startswith("dicos")
    assert ("calibration_is_known" in checks) == ("object_type_is_known" in checks) == is_dicos


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (scan("Veritas", "V 620"), "projection"),
        (scan("  OKARI", "linescan-200"), "okari_linescan_200"),
        (scan("Okari", "LineScan 300"), "projection"),
        (scan("Veritas", "V 620", [{"name": "density", "depth_px": 40}], "CT"), "volume"),
        (scan("unknown", "unknown", COLOURS), "picture"),
        (scan("Okari", "LineScan 200", COLOURS), "okari_linescan_200"),
        (scan("Okari", "LineScan 200", COLOURS, "OT"), "picture"),
        (scan("Okari", "LineScan 200", [{"name": "grey"}], dataset="pidray"), "picture"),
        (scan("unknown", "unknown", [{"name": "high"}]), "projection"),
    ],
    ids=["unknown", "spelling", "other model", "volume", "colours", "colours of a known model", "capture", "imported", "one energy"],
)
def test_a_scan_has_the_suite_of_its_model_or_of_its_kind(about: dict[str, Any], name: str) -> None:
    assert suite_for(about).name == name


def test_one_file_makes_a_new_model_and_changes_no_other_suite() -> None:
    suites = built(NEW | {"changes": {"rows_measure": {"between": [None, 12]}}, "drops": ["suite_is_of_the_model"]})
    new = suites.pop("veritas_v_620")
    assert suites == SUITES
    assert next(check for check in new.pixels.checks if check.name == "rows_measure").arguments == {"column": "dead_rows", "max_value": 12}
    assert new.pixels.version != SUITES["projection"].pixels.version
    assert [check.name for check in new.history.checks] == [check.name for check in SUITES["projection"].history.checks]
    assert suite_for(scan("Veritas", "V-620"), (*suites.values(), new)) is new


def test_the_documented_suite_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "validation.md").read_text()
    example = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    new = built(example)[example["suite"]]
    assert suite_for(scan("MIRADOR", "mx-640"), (*SUITES.values(), new)) is new
    assert new.limits.min_history == 50
    (gain,) = (check for check in new.history.checks if check.name == "gain_holds")
    assert (gain.arguments["min_value"], gain.arguments["max_value"]) == (-0.04, 0.04)


def test_a_change_of_severity_is_another_version() -> None:
    changed = built(NEW | {"changes": {"gain_holds": {"severity": "warns"}}})["veritas_v_620"].history
    assert changed.blocking(("gain_holds", "no_new_dead_rows")) == ("no_new_dead_rows",)
    assert changed.version != built(NEW)["veritas_v_620"].history.version


CHECK = {"name": "a_check", "says": "something holds", "column": "bits", "between": [1, 2]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suite": "other", "file": "veritas_v_620"}, "calls itself other"),
        ({"drops": ["no_such_check"]}, "changes no_such_check, which projection does not have"),
        ({"changes": {"no_such_check": {"says": "it holds well"}}}, "changes no_such_check"),
        ({"changes": {"rows_measure": {"between": [4, 1]}}}, "into what is no check"),
        ({"extends": "nothing_here"}, "extends nothing_here, which is no other suite"),
        ({"extends": "veritas_v_620"}, "which is no other suite"),
        ({"pixels": [CHECK | {"column": "colour"}]}, "about colour, which pixels does not have"),
        ({"history": [CHECK]}, "about bits, which history does not have"),
        ({"pixels": [CHECK, CHECK]}, "has the check a_check twice"),
        ({"pixels": [CHECK | {"among": [1]}]}, "expected one of known, equal, between, among"),
        ({"pixels": [CHECK | {"between": [None, None]}]}, "least value"),
        ({"pixels": [CHECK | {"severity": "fatal"}]}, "severity"),
        ({"pixels": [CHECK | {"expectation": "ExpectAnything"}]}, "expectation"),
        ({"limits": {"min_history": 1}}, "min_history"),
        ({"for": {"kind": "projection", "model": "V 620"}}, "a manufacturer and a model"),
        ({"for": {"kind": "projection", "manufacturer": "okari", "model": "LINESCAN 200"}}, "not the only one for projection okari"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_in_a_file_is_said(change: dict[str, Any], said: str) -> None:
    content = NEW | {name: value for name, value in change.items() if name != "file"}
    with pytest.raises(WrongArguments, match=said):
        built(content, name=change.get("file"))
