"""A set in its folder, read as an import reads it: nothing outside the folder, everything odd named, the confined process not believed too far."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import research_sets as sets

from scanloop.cli.main import run as scanloop
from scanloop.errors import DataWrong, WrongArguments
from scanloop.imports.check import check_import
from scanloop.imports.entries import Entry
from scanloop.imports.indexes import IndexReader
from scanloop.imports.mapping import CategoryMapping
from scanloop.imports.presets import PRESETS, preset_named
from scanloop.imports.problems import Problem, Problems
from scanloop.imports.receive import ledger_key
from scanloop.imports.source import Source, Surveyed, source_of, survey


@pytest.fixture
def surveyed(tmp_path: Path) -> Callable[..., tuple[dict[str, Entry], list[Problem]]]:
    """Survey a set: path to entry, and the problems."""

    def run(preset: str, folder: Path, **options: Any) -> tuple[dict[str, Entry], list[Problem]]:
        problems = Problems()
        found = survey(source(preset, folder, **options), tmp_path / "work", problems, Surveyed())
        return {entry.path: entry for entry in found}, problems.kept

    return run


def source(preset: str, folder: Path, **options: Any) -> Source:
    return source_of(preset_named(preset), folder, **{"dataset": None, "mapping": None, "splits": (), **options})


def edit(path: Path, change: Callable[[Any], None]) -> None:
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def told(problems: list[Problem]) -> list[tuple[str, str, str]]:
    return [(problem.kind, problem.file, problem.found) for problem in problems]


@pytest.fixture
def pidray(tmp_path: Path) -> Path:
    return sets.pidray(tmp_path / "set", splits=("train",))


TRAIN = "annotations/xray_train.json"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../etc/passwd", "name_outside"),
        ("/etc/passwd", "name_outside"),
        ("..\\..\\secret.png", "name_outside"),
        ("xray_00000.jpg", "picture_missing"),
        ("xray\u0000_00000.png", "name_odd"),
        ("\u202egnp.xray.png", "name_odd"),
        ("a\nb.png", "name_odd"),
        ("CON", "picture_missing"),
        ("xrаy_00000.png", "picture_missing"),
        ("<script>alert(1)</script>.png", "picture_missing"),
        ("'; DROP TABLE scans; --", "picture_missing"),
    ],
)
def test_a_name_that_is_no_picture_is_named_and_the_rest_comes(pidray: Path, surveyed: Any, name: str, kind: str) -> None:
    edit(pidray / TRAIN, lambda index: index["images"][0].update(file_name=name))
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert set(entries) == {"train/xray_00001.png", "train/xray_00002.png"}
    assert [(problem.kind, problem.file) for problem in problems] == [(kind, TRAIN), ("picture_unlisted", "train/xray_00000.png")]
    assert all(problem.line.isprintable() for problem in problems)


@pytest.mark.parametrize("place", ["train/xray_00000.png", "train", "annotations/xray_train.json"])
def test_a_link_out_of_the_folder_is_not_followed(pidray: Path, surveyed: Any, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    (pidray / place).rename(outside)
    (pidray / place).symlink_to(outside)
    if place != "train/xray_00000.png":
        with pytest.raises(DataWrong, match="does not hold the split train"):
            surveyed("pidray", pidray, splits=("train",))
        return
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert "train/xray_00000.png" not in entries
    assert [problem.kind for problem in problems] == ["name_outside", "picture_missing"]


def test_a_link_inside_the_folder_is(pidray: Path, surveyed: Any) -> None:
    (pidray / "train").rename(pidray / "pictures")
    (pidray / "train").symlink_to("pictures")
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert (len(entries), problems) == (3, [])


def test_hidden_leftovers_of_archives_are_passed_over(pidray: Path, surveyed: Any) -> None:
    (pidray / "train" / "._xray_00000.png").write_bytes(b"\0\5\26\7")
    (pidray / "annotations" / "._xray_train.json").write_bytes(b"\0\5\26\7")
    assert surveyed("pidray", pidray, splits=("train",))[1] == []


def test_image_ids_that_start_again_in_every_index_are_no_matter(tmp_path: Path, surveyed: Any) -> None:
    entries, problems = surveyed("pidray", sets.pidray(tmp_path / "all"))
    assert (len(entries), problems) == (12, [])
    assert {entry.split for entry in entries.values()} == {"train", "easy", "hard", "hidden"}


def test_an_annotation_of_an_unknown_category_leaves_nothing_looked_for(pidray: Path, surveyed: Any) -> None:
    edit(pidray / TRAIN, lambda index: index["annotations"][0].update(category_id=99))
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert [problem.kind for problem in problems] == ["category_unknown"]
    assert [bool(entry.looked_for) for entry in entries.values()] == [False, True, True]


@pytest.mark.parametrize(
    ("bbox", "kind"), [([1, 1, float("nan"), 5], "box_unreadable"), ([1, 1, -3, 5], "box_without_area"), ([5, 5, 0, 0], "box_without_area")]
)
def test_a_box_that_is_none_takes_its_category_along(pidray: Path, surveyed: Any, bbox: Any, kind: str) -> None:
    edit(pidray / TRAIN, lambda index: index["annotations"][0].update(bbox=bbox))
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert [(problem.kind, problem.entry) for problem in problems] == [(kind, "image 0, annotation 0")]
    assert entries["train/xray_00000.png"].looked_for == ("hammer", "knife", "scissors")


def test_two_entries_for_a_picture_and_one_box_twice(pidray: Path, surveyed: Any) -> None:
    def twice(index: Any) -> None:
        index["images"].append({**index["images"][0], "id": 77})
        index["annotations"].append({**index["annotations"][0], "id": 99})

    edit(pidray / TRAIN, twice)
    entries, problems = surveyed("pidray", pidray, splits=("train",))
    assert [problem.kind for problem in problems] == ["box_twice", "entry_twice"]
    assert len(entries["train/xray_00000.png"].boxes) == 1


def test_an_index_that_is_none_leaves_its_split_out(tmp_path: Path, surveyed: Any) -> None:
    folder = sets.pidray(tmp_path / "set", splits=("train", "easy"))
    (folder / "annotations" / "xray_test_easy.json").write_text("{")
    entries, problems = surveyed("pidray", folder, splits=("train", "easy"))
    assert {entry.split for entry in entries.values()} == {"train"}
    assert [problem.kind for problem in problems] == ["index_refused"] + 3 * ["picture_unlisted"]


def test_lists_and_labels_that_do_not_fit_each_other(tmp_path: Path, surveyed: Any) -> None:
    folder = sets.opixray(tmp_path / "set")
    (folder / "train" / "train_annotation" / "009001.txt").unlink()
    (folder / "test" / "test_image" / "040001.jpg").unlink()
    (folder / "train" / "train_knife.txt").write_text("009001\n009002\n009002\n009999\n")
    entries, problems = surveyed("opixray", folder)
    assert set(entries) == {"train/train_image/009002.jpg", "test/test_image/040002.jpg"}
    assert sorted((problem.kind, problem.file) for problem in problems) == [
        ("entry_twice", "train/train_knife.txt"),
        ("labels_missing", "train/train_knife.txt"),
        ("picture_missing", "test/test_annotation/040001.txt"),
        ("picture_missing", "train/train_knife.txt"),
    ]


def test_a_list_that_says_less_than_the_labels(tmp_path: Path, surveyed: Any) -> None:
    folder = sets.sixray(tmp_path / "set")
    path = folder / "ImageSet" / "10" / "train.csv"
    path.write_text(path.read_text().replace("P00001,1,1", "P00001,1,-1"))
    entries, problems = surveyed("sixray", folder)
    assert told(problems) == [("list_contradicted", "ImageSet/10/train.csv", "a box of it")]
    assert {box.category for box in entries["20/P00001.jpg"].boxes} == {"handgun", "knife", "hammer"}
    assert entries["3/N0000001.jpg"].looked_for == ("handgun", "knife", "scissors"), "nobody said that there is no hammer"
    assert entries["20/P00001.jpg"].bag == "P00001"


def test_an_xml_with_an_entity_is_refused_alone(tmp_path: Path, surveyed: Any) -> None:
    folder = sets.sixray(tmp_path / "set")
    bad = folder / "Annotation" / "P00001.xml"
    bad.write_text('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>')
    entries, problems = surveyed("sixray", folder)
    assert told(problems) == [("index_refused", "Annotation/P00001.xml", "no VOC file: a document type or an entity is declared in it")]
    assert len(entries) == 5


@pytest.mark.parametrize(("preset", "layout"), [("voc", "listed"), ("voc", "all"), ("text", "all")])
def test_the_formats_without_a_set(tmp_path: Path, surveyed: Any, preset: str, layout: str) -> None:
    root = tmp_path / "set"
    pictures, labels = {"voc": ("JPEGImages", "Annotations"), "text": ("images", "labels")}[preset]
    (root / labels).mkdir(parents=True)
    for number, stem in enumerate(("a", "b", "c")):
        sets.write_picture(root / pictures / f"{stem}.png", number)
    objects = [("Pistol", (5, 6, 30, 40))]
    suffix, text = (".xml", sets.voc_xml("a", objects)) if preset == "voc" else (".txt", sets.lines("a", objects))
    (root / labels / f"a{suffix}").write_text(text)
    (root / labels / f"b{suffix}").write_text(sets.voc_xml("b", []) if preset == "voc" else "")
    if layout == "listed":
        (root / "ImageSets" / "Main").mkdir(parents=True)
        (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    entries, problems = surveyed(preset, root, dataset="mine", mapping=CategoryMapping({"pistol": "handgun"}))
    assert {path: (len(entry.boxes), entry.looked_for) for path, entry in entries.items()} == {
        f"{pictures}/a.png": (1, ("handgun",)),
        f"{pictures}/b.png": (0, ("handgun",)),
    }
    assert told(problems) == ([] if layout == "listed" else [("picture_unlisted", f"{pictures}/c.png", "none")])


@pytest.mark.parametrize(
    ("index", "pictures", "split"),
    [
        ("annotations.json", "images", "all"),
        ("labels.json", "data", "all"),
        ("valid/_annotations.coco.json", "valid", "valid"),
        ("annotations/instances_train.json", "images/train", "train"),
    ],
)
def test_usual_layouts_of_coco(tmp_path: Path, surveyed: Any, index: str, pictures: str, split: str) -> None:
    root = tmp_path / "set"
    sets.write_picture(root / pictures / "a.png", 1)
    sets.write_index(root / index, sets.coco({"a.png": [(1, (2, 3, 10, 10))]}, ["pistol"]))
    entries, problems = surveyed("coco", root, dataset="mine", mapping=CategoryMapping({"Pistol": "handgun"}))
    assert ([(entry.path, entry.split) for entry in entries.values()], problems) == ([(f"{pictures}/a.png", split)], [])


def test_a_format_needs_a_name_and_categories(tmp_path: Path) -> None:
    with pytest.raises(WrongArguments, match="--dataset"):
        source("coco", tmp_path)
    with pytest.raises(WrongArguments, match="lower-case"):
        source("pidray", tmp_path, dataset="../x")
    with pytest.raises(WrongArguments, match="no split 'val'; it has train, easy"):
        source("pidray", tmp_path, splits=("val",))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_folder_without_the_set_says_what_was_expected(tmp_path: Path, surveyed: Any, preset: str) -> None:
    with pytest.raises(DataWrong, match=r"holds nothing of .*: expected"):
        surveyed(preset, tmp_path, dataset="mine", mapping=CategoryMapping({"Gun": "handgun"}))


def test_a_check_places_the_boxes_and_names_what_cannot_be_read(pidray: Path) -> None:
    edit(pidray / TRAIN, lambda index: (index["annotations"][0].update(bbox=[70, 50, 30, 30]), index["images"][1].update(width=81)))
    sets.write_picture(pidray / "train" / "xray_00002.png", 5)
    (pidray / "train" / "xray_00002.png").write_bytes((pidray / "train" / "xray_00002.png").read_bytes()[:100])
    result, problems = check_import(source("pidray", pidray, splits=("train",)), lambda *_: None)
    assert [(problem.kind, problem.found) for problem in problems.kept] == [
        ("box_clipped", "beyond it by 20 px right, 16 px bottom"),
        ("size_differs", "80 x 64"),
        ("picture_unreadable", problems.kept[2].found),
    ]
    assert problems.kept[2].found.startswith("truncated: ")
    assert (result["images"], result["readable"], result["unreadable"], result["boxes"]) == (3, 2, 1, 1)


def test_the_process_that_reads_indexes_has_no_rights_and_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    folder = tmp_path / "set"
    folder.mkdir()
    good = sets.write_index(folder / "good.json", sets.coco({"a.png": []}, ["Gun"]))
    deep, huge = folder / "deep.json", folder / "huge.json"
    deep.write_bytes(b'{"images": ' + b"[" * 3_000_000)
    huge.write_bytes(b'{"annotations": [], "categories": [], "images": [' + b",".join([b'{"id":"%d"}'] * 9_000_000) + b"]}")
    outside = sets.write_index(tmp_path / "outside.json", sets.coco({"a.png": []}, ["Gun"]))
    with IndexReader(tmp_path / "work", [folder]) as reader:
        verdicts = {}
        for path in (deep, huge, good, outside):
            parts = list(reader.indexes("coco", path))
            verdicts[path.name] = parts[-1].refused
            assert parts[-1].is_last
        assert reader._child is not None
        environment = Path(f"/proc/{reader._child.pid}/environ").read_bytes()
    assert b"planted" not in environment
    assert verdicts["good.json"] is None
    assert "no COCO index" in str(verdicts["deep.json"])
    assert "more memory" in str(verdicts["huge.json"]) or "at most 2000000 images" in str(verdicts["huge.json"])
    if reader.confined["file_rules"]:
        assert "cannot be read" in str(verdicts["outside.json"])


def test_an_odd_name_is_cleaned_in_the_ledger_and_never_like_another() -> None:
    plain, odd, other = (ledger_key("pidray", path) for path in ("train/a b.png", "train/a\tb.png", "train/a\u00a0\u00a0b.png"))
    assert plain == "pidray/train/a b.png"
    assert len({plain, odd, other}) == 3
    assert all(key.isprintable() and key.startswith("pidray/") for key in (odd, other))


def test_the_commands_without_a_deployment(
    pidray: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path / "never"))
    assert scanloop(["import", "presets", "--json"]) == 0
    assert {json.loads(line)["preset"] for line in capsys.readouterr().out.splitlines()} == set(PRESETS)
    edit(pidray / TRAIN, lambda index: index["annotations"][0].update(bbox=[70, 50, 30, 30]))
    out = tmp_path / "problems.jsonl"
    assert scanloop(["import", "check", "pidray", str(pidray), "--split=train", f"--out={out}"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["problems"] == {"box_clipped": 1}
    assert "annotations/xray_train.json, image 0, annotation 0: expected inside 80 x 64, found beyond it by 20 px right" in said.err
    assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == ["box_clipped"]
    assert scanloop(["import", "check", "pidray", str(pidray), "--json", "--no-pictures"]) == 0
    *lines, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert ([line["kind"] for line in lines], "readable" in result) == (3 * ["index_missing"], False)
    (tmp_path / "m.yaml").write_text("categories: {Gun: pistol}")
    taxonomy = Path(__file__).parents[3] / "product_lines" / "taxonomy.yaml"
    assert scanloop(["import", "check", "pidray", str(pidray), f"--categories={tmp_path / 'm.yaml'}", f"--taxonomy={taxonomy}"]) == 65
    assert "Gun → pistol" in capsys.readouterr().err
    assert scanloop(["import", "check", "nothing", str(pidray)]) == 64
    assert not (tmp_path / "never").exists()


def test_one_wrong_box_does_not_hide_another_of_the_same_image(pidray: Path) -> None:
    def plant(index: Any) -> None:
        gun = index["annotations"][0]
        more = [
            {**gun, "id": 90, "bbox": [1, 2, 0, 4]},
            {**gun, "id": 91, "bbox": [500, 500, 9, 9]},
            {**gun, "id": "x", "bbox": [70, 50, 40, 9]},
        ]
        index["annotations"] += more

    edit(pidray / TRAIN, plant)
    result, problems = check_import(source("pidray", pidray, splits=("train",)), lambda *_: None)
    assert [(one.kind, one.entry) for one in problems.kept] == [
        ("id_odd", "annotation x"),
        ("box_without_area", "image 0, annotation 90"),
        ("box_outside", "image 0, annotation 91"),
        ("box_clipped", "image 0, annotation x"),
    ]
    assert result["boxes"] == 2
