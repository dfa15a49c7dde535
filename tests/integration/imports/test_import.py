"""Research sets become scans and annotations, once, whatever is odd about them; and from there a snapshot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import research_sets as sets
from small_world import define, rows_of, run_job_of

from scanloop.cli.main import run as scanloop
from scanloop.cli.options import World, load_definition
from scanloop.errors import DataWrong
from scanloop.execution import RunIdentity, execute_in_chunks
from scanloop.imports import run as run_module
from scanloop.imports.mapping import CategoryMapping
from scanloop.imports.presets import preset_named
from scanloop.imports.problems import decode_problems
from scanloop.imports.run import JOB, import_job
from scanloop.imports.source import source_of
from scanloop.intake.landing import Shard
from scanloop.intake.release import release
from scanloop.intake.shard import ingest_shard
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import Sandbox
from scanloop.validation.run import validate_scans

Import = Callable[..., dict[str, Any]]
MAPPED = CategoryMapping({"Hammer": None, "Scissors": None, "Scissor": None})
"""The taxonomy of these tests is smaller than the presets'."""


@pytest.fixture
def line(run_body: Any) -> str:
    """A product line for handguns and knives that learns from colours."""
    define(run_body, training={"planes": ["red", "green", "blue"]})
    return "cabin"


@pytest.fixture
def bring(world: World, line: str) -> Import:
    """Import a set as the command does; `bring(preset, folder, run_id=…)`."""

    def run(
        preset: str,
        folder: Path,
        *,
        run_id: str = "import-1",
        dataset: str | None = None,
        splits: tuple[str, ...] = (),
        mapping: Any = None,
    ) -> dict[str, Any]:
        source = source_of(preset_named(preset), folder, dataset=dataset, mapping=mapping or mapped(preset), splits=splits)
        body, total = import_job(source)
        identity = RunIdentity(run_id, JOB, source.dataset, 1, "test", line)
        parts = {"settings": world.settings, "store": world.store, "catalog": world.catalog}
        definition = load_definition(world.catalog, line)
        return execute_in_chunks(body, total, identity, **parts, definition=definition, lease=f"{line}/import/{source.dataset}")

    return run


def mapped(preset: str) -> CategoryMapping | None:
    known = preset_named(preset).categories.categories
    return (
        CategoryMapping({name: None for name in MAPPED.categories if name in known} | ({"scissors": None} if "scissors" in known else {}))
        if known
        else None
    )


def problems_of(world: World, result: dict[str, Any]) -> list[Any]:
    return list(decode_problems(world.store.get(result["problems_key"]))) if result["problems_key"] else []


def notes_of(world: World) -> dict[str, dict[str, Any]]:
    """Bag to its newest imported annotation."""
    bags = {row["scan_id"]: row["bag_id"] for row in rows_of(world, "scans")}
    notes = rows_of(world, "annotations")
    replaced = {row["supersedes"] for row in notes}
    return {bags[row["scan_id"]]: row for row in notes if row["annotation_id"] not in replaced}


def dump(world: World) -> dict[str, Any]:
    """What an import leaves in the catalog, without runs and times."""
    names = ("sites", "scanners", "bags", "scans", "deliveries", "quarantine", "annotations")
    return {
        name: [{column: value for column, value in row.items() if column not in ("run_id", "created_at")} for row in rows_of(world, name)]
        for name in names
    }


def test_a_coco_set_becomes_scans_and_annotations(world: World, bring: Import, tmp_path: Path) -> None:
    result = bring("pidray", sets.pidray(tmp_path / "set", splits=("train", "hidden")))
    assert {name: result[name] for name in ("images", "scans", "annotations", "boxes", "clean")} == {
        "images": 6, "scans": 6, "annotations": 6, "boxes": 6, "clean": 2,
    }  # fmt: skip
    assert [problem.kind for problem in problems_of(world, result)] == ["index_missing", "index_missing"]
    scan = next(row for row in rows_of(world, "scans") if row["bag_id"] == "pidray/pidray/train-xray-00001")
    assert (scan["source_format"], scan["scan_type"], scan["is_projected"], scan["acquired_at"]) == ("png", "operational", False, None)
    assert (scan["attributes"]["dataset"], scan["attributes"]["split"]) == ("pidray", "train")
    assert [(plane["name"], plane["bits"]) for plane in scan["planes"]] == [("red", 8), ("green", 8), ("blue", 8)]
    note = notes_of(world)["pidray/pidray/train-xray-00001"]
    assert note["boxes"] == [
        {"category": "handgun", "bbox_xywh": [5.0, 5.0, 20.0, 16.0]},
        {"category": "knife", "bbox_xywh": [30.0, 20.5, 18.25, 24.0]},
    ]
    assert (note["author_kind"], note["tool"], note["author"]) == ("report", "import:coco", f"pidray {result['version']}")
    clean = notes_of(world)["pidray/pidray/train-xray-00002"]
    assert (clean["boxes"], clean["looked_for"]) == ([], ["handgun", "knife"])


def test_an_imported_set_is_validated_and_frozen_into_a_snapshot(world: World, bring: Import, run_body: Any, tmp_path: Path) -> None:
    from scanloop.snapshots.manifest import load_snapshot

    bring("pidray", sets.pidray(tmp_path / "set", splits=("train", "easy"), each=7, clean=4))
    assert run_body("validation.run", validate_scans, run_id="validate", lease="validation")["quarantined"] == 0
    made = run_job_of(run_body, "snapshot.create", "snap")
    records = list(load_snapshot(world.store, made["snapshot_id"]).rows())
    assert len(records) == made["counts"]["accepted"] == 22
    assert {record.scanner_model for record in records} == {"Research set PIDray"}
    assert sum(record.is_clean_bag for record in records) >= 4
    assert {record.looked_for for record in records} == {("handgun", "knife")}
    assert {box.category for record in records for box in record.boxes} == {"handgun", "knife"}


def test_a_product_line_that_learns_from_energies_leaves_colours_out(world: World, bring: Import, run_body: Any, tmp_path: Path) -> None:
    from scanloop.snapshots.collect import labelled_scans, records_of

    define(run_body, "define-2", training={"planes": ["high", "material"]})
    assert bring("opixray", sets.opixray(tmp_path / "set"))["is_learnable"] is False
    run_body("validation.run", validate_scans, run_id="validate", lease="validation")
    definition = load_definition(world.catalog, "cabin")
    with world.catalog.read() as connection:
        collected = records_of(labelled_scans(connection, definition), definition)
    assert (collected.records, collected.left_out) == ([], {"no planes that the detector reads": 4})


@pytest.mark.parametrize(("include", "learnable"), [("research-set-*", True), ("acme-*", False)])
def test_a_product_line_for_other_scanners_is_told(
    world: World, bring: Import, run_body: Any, tmp_path: Path, include: str, learnable: bool
) -> None:
    from scanloop.catalog.loop import loop_status

    define(run_body, "define-2", training={"planes": ["red", "green", "blue"]}, scanners={"include": [include]})
    assert bring("opixray", sets.opixray(tmp_path / "set"))["is_learnable"] is learnable
    run_body("validation.run", validate_scans, run_id="validate", lease="validation")
    with world.catalog.read() as connection:
        assert [status.accepted_scans for status in loop_status(connection)] == [4 if learnable else 0]


def test_the_same_import_again_changes_nothing(world: World, bring: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "CHUNK", 2)
    folder = sets.pidray(tmp_path / "set", splits=("train", "hidden"))
    first = bring("pidray", folder)
    before = dump(world)
    shutil.move(folder, tmp_path / "elsewhere")
    again = bring("pidray", tmp_path / "elsewhere", run_id="import-2")
    assert dump(world) == before
    assert (again["scans"], again["duplicates"], again["annotations"], again["unchanged"]) == (0, 0, 0, first["annotations"])
    assert again["version"] == first["version"]


def test_a_corrected_index_replaces_the_annotations_that_it_corrects(world: World, bring: Import, tmp_path: Path) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train",))
    bring("pidray", folder)
    path = folder / "annotations" / "xray_train.json"
    original = path.read_text()
    index = json.loads(original)
    index["annotations"][0]["bbox"] = [6, 6, 22, 20]
    path.write_text(json.dumps(index))
    corrected = bring("pidray", folder, run_id="import-2")
    assert (corrected["replaced"], corrected["unchanged"]) == (1, 2)
    newest = notes_of(world)["pidray/pidray/train-xray-00000"]
    assert newest["boxes"] == [{"category": "handgun", "bbox_xywh": [6.0, 6.0, 22.0, 20.0]}]
    assert newest["supersedes"] in {row["annotation_id"] for row in rows_of(world, "annotations")}
    path.write_text(original)
    back = bring("pidray", folder, run_id="import-3")
    assert (back["replaced"], back["unchanged"]) == (1, 2)
    assert notes_of(world)["pidray/pidray/train-xray-00000"]["boxes"] == [{"category": "handgun", "bbox_xywh": [4.0, 5.0, 20.0, 16.0]}]


def test_a_list_that_knows_more_than_the_labels_keeps_images_from_being_clean(world: World, bring: Import, tmp_path: Path) -> None:
    folder = sets.sixray(tmp_path / "set")
    (folder / "Annotation" / "P00003.xml").unlink()
    result = bring("sixray", folder)
    notes = notes_of(world)
    assert notes["sixray/sixray/p00001"]["boxes"][0] == {"category": "handgun", "bbox_xywh": [5.0, 6.0, 25.0, 24.0]}
    assert notes["sixray/sixray/n0000001"]["looked_for"] == ["handgun", "knife"]
    assert (notes["sixray/sixray/p00003"]["boxes"], notes["sixray/sixray/p00003"]["looked_for"]) == ([], ["handgun"])
    assert [(problem.kind, problem.file) for problem in problems_of(world, result)] == [("listed_without_box", "ImageSet/10/test.csv")]
    assert "sixray/sixray/n0000099" not in notes


@pytest.mark.parametrize(("preset", "images", "boxes"), [("opixray", 4, 3), ("hixray", 2, 0), ("clcxray", 6, 3)])
def test_the_other_presets(world: World, bring: Import, tmp_path: Path, preset: str, images: int, boxes: int) -> None:
    result = bring(preset, sets.SETS[preset](tmp_path / "set"))
    assert (result["images"], result["scans"], result["boxes"], result["problems"]) == (images, images, boxes, {})
    assert {row["source_format"] for row in rows_of(world, "scans")} == {"jpeg"}
    assert len(rows_of(world, "annotations")) == (0 if preset == "hixray" else images)


def test_a_picture_that_cannot_be_read_is_quarantined_and_has_no_annotation(world: World, bring: Import, tmp_path: Path) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train",))
    broken = folder / "train" / "xray_00000.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    result = bring("pidray", folder)
    assert (result["scans"], result["quarantined"], result["annotations"]) == (2, 1, 2)
    held = rows_of(world, "quarantine")
    assert [(row["reason_code"], row["landing_key"], row["site_id"]) for row in held] == [
        ("truncated", "pidray/train/xray_00000.png", "pidray")
    ]
    found = [problem for problem in problems_of(world, result) if problem.kind == "picture_unreadable"]
    assert [(problem.file, problem.found.partition(":")[0]) for problem in found] == [("train/xray_00000.png", "truncated")]


def test_a_report_under_the_name_of_a_picture_is_none(world: World, bring: Import, tmp_path: Path) -> None:
    from report_files import tdr

    folder = sets.pidray(tmp_path / "set", splits=("train",))
    (folder / "train" / "xray_00000.png").write_bytes(tdr())
    result = bring("pidray", folder)
    assert (result["scans"], result["annotations"]) == (2, 2)
    assert ("picture_unreadable", "train/xray_00000.png") in {(problem.kind, problem.file) for problem in problems_of(world, result)}


def test_nothing_is_written_where_a_category_is_not_mapped(world: World, bring: Import, tmp_path: Path) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train",))
    path = folder / "annotations" / "xray_train.json"
    path.write_text(path.read_text().replace('"Baton"', '"<script>alert(1)</script>"'))
    with pytest.raises(DataWrong, match=r"neither mapped nor left out: <script>alert\(1\)</script> \(1 boxes\)"):
        bring("pidray", folder)
    assert list(world.store.list("imports/")) == []
    assert rows_of(world, "scans") == []


def test_a_category_that_the_taxonomy_does_not_have_is_refused(bring: Import, tmp_path: Path) -> None:
    with pytest.raises(DataWrong, match="Gun → pistol"):
        bring(
            "pidray",
            sets.pidray(tmp_path / "set", splits=("train",)),
            mapping=CategoryMapping({"Gun": "pistol", "Hammer": None, "Scissors": None}),
        )


def test_the_same_picture_twice_is_one_scan(world: World, bring: Import, tmp_path: Path) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train", "easy"))
    shutil.copy(folder / "train" / "xray_00000.png", folder / "easy" / "xray_easy00001.png")
    result = bring("pidray", folder)
    assert result["scans"] == result["images"] == 5
    found = [problem for problem in problems_of(world, result) if problem.kind == "picture_twice"]
    assert [(problem.file, problem.found) for problem in found] == [("easy/xray_easy00001.png", "the bytes of train/xray_00000.png")]


def test_a_scan_with_a_trusted_answer_is_not_chosen_for_labelling(world: World, bring: Import, run_body: Any, tmp_path: Path) -> None:
    from scanloop.catalog.loop import loop_status
    from scanloop.curation.pool import candidates_of

    bring("sixray", sets.sixray(tmp_path / "set"))
    run_body("validation.run", validate_scans, run_id="validate", lease="validation")
    definition = load_definition(world.catalog, "cabin")
    with world.catalog.read() as connection:
        assert candidates_of(connection, definition) == []
        assert [status.accepted_scans for status in loop_status(connection)] == [6]


def test_what_an_import_did_is_as_recorded(world: World, bring: Import, tmp_path: Path) -> None:
    from scanloop.execution.replay import row_violations

    folder = sets.pidray(tmp_path / "set", splits=("train",))
    bring("pidray", folder)
    path = folder / "annotations" / "xray_train.json"
    path.write_text(path.read_text().replace("[4, 5, 20, 16]", "[4, 5, 21, 17]"))
    assert bring("pidray", folder, run_id="import-2")["replaced"] == 1
    assert list(row_violations(world.catalog, world.store)) == []


def test_a_picture_let_out_of_quarantine_gets_its_annotation_from_the_next_import(
    world: World, bring: Import, run_body: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train",))
    with monkeypatch.context() as failing:
        failing.setattr(Sandbox, "read_all", lambda _, files: (ScanRefused("reader_died", "A parser of before could not.") for _ in files))
        assert bring("pidray", folder)["quarantined"] == 3
    held = rows_of(world, "quarantine")[0]["quarantine_id"]
    run_body("quarantine.release", lambda run: release(run, held), run_id="let-out")
    assert run_body("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id="ingest-1", part="00/01")["reread"] == 1
    (scan,) = rows_of(world, "scans")
    assert (scan["scan_id"], scan["attributes"]["dataset"], scan["attributes"]["split"]) == (held, "pidray", "train")
    again = bring("pidray", folder, run_id="import-2")
    assert (again["scans"], again["annotations"]) == (0, 1)
    assert [row["scan_id"] for row in rows_of(world, "annotations")] == [held]


def test_the_command(environment: dict[str, str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train",))
    (tmp_path / "m.yaml").write_text("categories: {Hammer: null, Scissors: null}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "problems.jsonl"
    command = ["import", "run", "pidray", str(folder), f"--product-line={line}", f"--categories={tmp_path / 'm.yaml'}", "--run-id=by-hand"]
    assert scanloop([*command, f"--out={out}"]) == 0
    said = capsys.readouterr()
    first = json.loads(said.out)
    assert (first["scans"], first["annotations"], first["problems"]) == (3, 3, {"index_missing": 3})
    assert "easy: expected annotations/xray_test_easy.json" in said.err or "easy: expected pictures in easy" in said.err
    assert len(out.read_text().splitlines()) == 3
    assert scanloop([*command, "--json"]) == 0
    *lines, result = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert ([text["kind"] for text in lines], result) == (["index_missing"] * 3, first), "the same run has done its work"
    assert scanloop([*command[:-2], "--run-id=other"]) == 65
    assert "not in the taxonomy t-1: Hammer → hammer" in capsys.readouterr().err
