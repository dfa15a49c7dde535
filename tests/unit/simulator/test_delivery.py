"""Deliveries: the same order gives the same bytes, bag k depends on nothing else, and the accidents are there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import imagecodecs
import pytest
from typer.testing import CliRunner

from scanloop.cli.simulate import app
from scanloop.errors import WrongArguments
from scanloop.scans.decode import read_scan
from scanloop.scans.sidecar import read_sidecar
from scanloop.scans.threat_report import ReportContent
from scanloop.simulator.delivery import (
    CUT_PREFIX,
    REPORTS_FOLDER,
    RESENT_PREFIX,
    STRAY_NAME,
    DeliveryOrder,
    accidents,
    deliver,
    make,
    report_of,
)
from scanloop.store import Store, StoredObject, open_store

ORDER = DeliveryOrder(sites=2, bags=4, seed=13, clean_fraction=0.3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store, dict[str, int]]:
    folder = tmp_path_factory.mktemp("delivery")
    landing, truth = open_store((folder / "landing").as_uri()), open_store((folder / "truth").as_uri())
    return landing, truth, deliver(landing, truth, ORDER)


def objects(store: Store) -> dict[str, bytes]:
    return {item.key: store.get(item.key) for item in store.list("")}


def pictures(landing: Store) -> dict[str, bytes]:
    return {key: content for key, content in objects(landing).items() if not key.endswith((".json", STRAY_NAME))}


def test_counts_are_what_lies_there(world) -> None:
    landing, truth, counts = world
    found = objects(landing)
    sidecars = [key for key in found if key.endswith(".json")]
    assert counts["delivered"] == len(found) - len(sidecars) == 2 * 4 + 3
    assert counts["sidecars"] == len(sidecars)
    assert counts["scans"] == len(objects(truth)) == 8
    assert (counts["bags"], counts["sites"], counts["duplicates"], counts["broken"]) == (4, 2, 1, 2)
    assert counts["threats"] == sum(len(json.loads(content)["boxes"]) for content in objects(truth).values())


def test_one_file_comes_twice_under_two_names(world) -> None:
    (resent,) = [key for key in pictures(world[0]) if f"/{RESENT_PREFIX}" in key]
    assert world[0].get(resent) == world[0].get(resent.replace(RESENT_PREFIX, ""))


def test_one_file_is_cut_off_and_comes_whole_too(world) -> None:
    (cut,) = [key for key in pictures(world[0]) if f"/{CUT_PREFIX}" in key]
    part, whole = world[0].get(cut), world[0].get(cut.replace(CUT_PREFIX, ""))
    assert 0 < len(part) < len(whole)
    assert whole.startswith(part)


def test_a_text_strays_in(world) -> None:
    (stray,) = [content for key, content in objects(world[0]).items() if key.endswith(STRAY_NAME)]
    assert b"Please ignore" in stray


def test_keys_are_site_machine_day_file(world) -> None:
    for key in pictures(world[0]):
        site, serial, day, _name = key.split("/")
        assert site in ("north-terminal", "harbour")
        assert serial[:2] in ("HX", "CV", "TS", "OK")
        assert day == "2025-01-13"


def test_exports_have_sidecars_and_dicos_files_none(world) -> None:
    found = objects(world[0])
    for key in pictures(world[0]):
        if key.endswith(".dcs"):
            assert f"{key}.json" not in found
        else:
            assert read_sidecar(found[f"{key}.json"]).planes == ("high", "low")
    assert {Path(key).suffix for key in pictures(world[0])} == {".dcs", ".tif", ".png"}


def test_truth_lies_under_the_digest_of_each_whole_file(world) -> None:
    landing, truth, _ = world
    for key, content in pictures(landing).items():
        known = truth.head(f"{hashlib.sha256(content).hexdigest()}.json")
        assert (known is None) == (f"/{CUT_PREFIX}" in key)


def test_truth_says_what_was_simulated(world) -> None:
    for number in range(ORDER.bags):
        for item in make(ORDER, number):
            digest = hashlib.sha256(item.file.content).hexdigest()
            facts = json.loads(world[1].get(f"{digest}.json"))
            assert facts["scan_id"] == digest
            assert facts["bag_id"] == item.acquisition.bag_id
            assert [box["category"] for box in facts["boxes"]] == [box.category for box in item.scan.boxes]


def test_delivering_again_changes_nothing(world) -> None:
    landing, truth, counts = world
    before = objects(landing), objects(truth)
    assert deliver(landing, truth, ORDER) == counts
    assert (objects(landing), objects(truth)) == before


def test_a_bag_does_not_depend_on_how_many_follow(world) -> None:
    more = DeliveryOrder(sites=2, bags=500, seed=13, clean_fraction=0.3)
    for one, other in zip(make(ORDER, 3), make(more, 3), strict=True):
        assert one.file == other.file
        assert one.folder == other.folder


@pytest.mark.parametrize("change", [{"seed": 14}, {"round_number": 2}])
def test_another_seed_or_round_has_other_bags(change: dict[str, int]) -> None:
    other = DeliveryOrder(**{"sites": 2, "bags": 4, "seed": 13, **change})
    numbers = {next(make(order, 0)).acquisition.bag_number for order in (ORDER, other)}
    contents = {next(make(order, 0)).file.content for order in (ORDER, other)}
    assert len(numbers) == len(contents) == 2


@pytest.mark.parametrize("bags", [1, 2, 50])
def test_accidents_never_befall_the_same_scan(bags: int) -> None:
    for seed in range(40):
        resent, cut = accidents(DeliveryOrder(1, bags, seed))
        assert resent != cut
        assert max(resent[0], cut[0]) < bags


class Watched:
    """A store that remembers the order of writes."""

    def __init__(self, store: Store) -> None:
        self._store, self.written = store, []

    def put(self, key: str, data: bytes) -> StoredObject:
        self.written.append(key)
        return self._store.put(key, data)


def test_truth_comes_first_and_sidecars_before_their_pictures(tmp_path: Path) -> None:
    landing = Watched(open_store((tmp_path / "landing").as_uri()))
    truth = open_store((tmp_path / "truth").as_uri())
    seen: list[int] = []

    def on_bag(done: int) -> None:
        seen.append(done)
        assert len(list(truth.list(""))) == 2 * done

    deliver(landing, truth, DeliveryOrder(2, 2, 3), on_bag)  # type: ignore[arg-type]
    assert seen == [1, 2]
    for place, key in enumerate(landing.written):
        if key.endswith((".tif", ".png")):
            assert landing.written[place - 1] == f"{key}.json"


@pytest.mark.parametrize(
    "wrong",
    [{"sites": 0}, {"bags": 0}, {"seed": -1}, {"clean_fraction": 1.5}, {"threats": ("sword",)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_orders_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(WrongArguments):
        DeliveryOrder(**{"sites": 1, "bags": 1, "seed": 0, **wrong})


def test_the_command_prints_the_counts_and_fills_the_landing_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path))
    words = ["deliver", "--sites", "1", "--bags", "2", "--seed", "3", "--round", "5", "--threats", "knife", "--clean-fraction", "0"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    counts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert counts["delivered"] == 7
    assert counts["threats"] >= 4
    boxes = [box for path in (tmp_path / "truth").glob("*.json") for box in json.loads(path.read_text())["boxes"]]
    assert {box["category"] for box in boxes} == {"knife"}
    assert len(list((tmp_path / "landing").glob("north-terminal/*/2025-02-10/*.dcs"))) == 6


def test_the_command_refuses_an_unknown_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path))
    with pytest.raises(WrongArguments, match="sword"):
        CliRunner().invoke(app, ["deliver", "--threats", "sword"], catch_exceptions=False)
    assert not (tmp_path / "landing").exists()


def test_the_picture_draws_the_true_boxes_and_nothing_else(tmp_path: Path) -> None:
    out, plain = tmp_path / "sheet.png", tmp_path / "plain.png"
    words = ["picture", "--bags", "1", "--seed", "3", "--clean-fraction", "0"]
    result = CliRunner().invoke(app, [*words, "--out", str(out)], catch_exceptions=False)
    assert json.loads(result.stdout)["size_bytes"] == out.stat().st_size
    CliRunner().invoke(app, [*words, "--no-boxes", "--out", str(plain)], catch_exceptions=False)
    drawn, bare = (imagecodecs.png_decode(path.read_bytes()) for path in (out, plain))
    red = (drawn == (220, 20, 40)).all(axis=2)
    assert not (bare == (220, 20, 40)).all(axis=2).any()
    top, _side = make(DeliveryOrder(2, 1, 3, clean_fraction=0.0), 0)
    for x, y, width, height in (box.bbox_xywh for box in top.scan.boxes):
        assert red[y - 1, x - 1 : x + width + 1].all()
        assert red[y - 1 : y + height + 1, x + width].all()


def test_the_picture_has_two_bags_a_row(tmp_path: Path) -> None:
    sheets = []
    for bags in (1, 2, 3):
        out = tmp_path / f"{bags}.png"
        CliRunner().invoke(app, ["picture", "--bags", str(bags), "--out", str(out)], catch_exceptions=False)
        sheets.append(imagecodecs.png_decode(out.read_bytes()).shape)
    assert sheets[1][1] > 1.8 * sheets[0][1]
    assert (sheets[2][0], sheets[2][1]) == (2 * sheets[1][0], sheets[1][1])


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    words = ["picture", "--bags", "1", "--out", str(tmp_path / "no" / "such" / "folder.png")]
    with pytest.raises(WrongArguments, match="No such file"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_reports_come_when_asked_for_and_tell_the_truth(world, tmp_path: Path) -> None:
    plain, _, without = world
    order = replace(ORDER, reports=1.0)
    landing, truth = (open_store((tmp_path / name).as_uri()) for name in ("landing", "truth"))
    counts = deliver(landing, truth, order)
    found = {key: content for key, content in objects(landing).items() if f"/{REPORTS_FOLDER}/" in key}
    assert {key: content for key, content in objects(landing).items() if key not in found} == objects(plain), "nothing else changes"
    assert counts == without | {"reports": len(found), "delivered": without["delivered"] + len(found)}
    assert 0 < len(found) < 4, "only machines that write DICOS have reports"
    for number in range(4):
        report = report_of(order, number)
        if report is None:
            continue
        assert found.pop(report[0]) == report[1]
        said = read_scan(report[1])
        assert isinstance(said, ReportContent)
        items = list(make(order, number))
        assert [one.sop_instance_uid for one in said.references] == [item.acquisition.uid("instance") for item in items]
        for item in items:
            boxes = [
                (threat.assessments[0].description, place.regions[0])
                for threat in said.threats
                for place in threat.representations
                if place.references[0].sop_instance_uid == item.acquisition.uid("instance")
            ]
            placed = {(name, (*region.base[:2], *region.extents[:2])) for name, region in boxes}
            assert placed >= {(box.category, box.bbox_xywh) for box in item.scan.boxes}
            for _, region in boxes:
                mask = region.volume()[0]
                assert mask.any(axis=0)[[0, -1]].all(), "a tight box"
                assert mask.any(axis=1)[[0, -1]].all()
    assert found == {}
