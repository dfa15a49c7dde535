"""Threat Detection Reports from the landing zone to annotations, before, with and after their scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from report_files import CT, corners, place, region, tdr, threat, toolkit_tdr
from scan_files import PEOPLE, dicos, picture

from scanloop.catalog import tables as t
from scanloop.cli.main import run as run_command
from scanloop.cli.options import World
from scanloop.errors import NothingToDo
from scanloop.execution import RunIdentity, execute
from scanloop.intake import match_reports as room
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.match_reports import match_reports
from scanloop.intake.plan import plan_ingest
from scanloop.intake.reports import read_mask
from scanloop.intake.shard import ingest_shard
from scanloop.store import open_store

TAXONOMY = [
    {"id": "weapon", "name": "Weapon", "parent": None},
    {"id": "firearm", "name": "Firearm", "parent": "weapon"},
    {"id": "handgun", "name": "Handgun", "parent": "firearm"},
    {"id": "knife", "name": "Kitchen knife", "parent": "weapon"},
    {"id": "pipe_bomb", "name": "Pipe bomb", "parent": None},
]
MASK = np.random.default_rng(5).random((1, 9, 12)) > 0.4
KNIFE = threat(3, "Kitchen Knife", [place(["2.25.1"], polygon=corners(4, 50.5, 12, 8.5), regions=[region((4, 50, 0), (12, 9, 1), MASK)])])
"""In the low band of a view of 40 rows: 10.5 rows from its top."""


class Site:
    """A deployment, a taxonomy, and sites that deliver scans and reports."""

    def __init__(self, world: World, *, with_taxonomy: bool = True) -> None:
        self.world, self.runs = world, 0
        self.landing = open_store(world.settings.landing_url)
        if with_taxonomy:
            self.define()

    def define(self) -> None:
        def body(run: Any) -> dict[str, Any]:
            run.publication.insert(
                "taxonomies", [{"taxonomy_version": "t-1", "categories": TAXONOMY}], action="taxonomy.added", subject="taxonomy_version"
            )
            return {}

        self.job("test.define", body)

    def job(self, name: str, body: Any, *, part: str = "", lease: str | None = None) -> dict[str, Any]:
        self.runs += 1
        identity = RunIdentity(f"run-{self.runs}", name, part, 1, "test")
        world = self.world
        return execute(body, identity, settings=world.settings, store=world.store, catalog=world.catalog, lease=lease)

    def scan(self, name: str, *, site: str = "south-terminal", serial: str = "0042", seed: int = 1, **changes: Any) -> str:
        content = dicos(picture(seed), InstitutionName=site, DeviceSerialNumber=serial, **changes)
        return self.landing.put(f"{site}/{serial}/2026-03-01/{name}.dcs", content).sha256 or ""

    def report(self, name: str, content: bytes, *, site: str = "south-terminal", folder: str = "truth") -> str:
        return self.landing.put(f"{site}/{folder}/2026-03-02/{name}.dcs", content).sha256 or ""

    def ingest(self, shards: int = 4) -> dict[str, int]:
        total: dict[str, int] = {}
        for shard in self.job("ingest.plan", lambda run: plan_ingest(run, shards))["shards"]:
            counts = self.job("ingest.shard", lambda run, shard=shard: ingest_shard(run, Shard.parse(shard)), part=shard)
            total = {name: total.get(name, 0) + count for name, count in counts.items() if name not in ("shard", "left")}
        return total | self.job("ingest.acknowledge", acknowledge)

    def match(self) -> dict[str, Any]:
        return self.job("ingest.reports", match_reports, lease="reports")

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with self.world.catalog.read() as connection:
            return [dict(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()]

    def only(self, table: sa.Table) -> dict[str, Any]:
        (row,) = self.rows(table)
        return row


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def test_a_report_is_received_exactly_once(site: Site) -> None:
    content = tdr([KNIFE], references=["2.25.1"])
    first = site.report("a", content)
    site.report("b", content, folder="elsewhere")
    counts = site.ingest()
    assert [counts[name] for name in ("reports", "duplicates", "quarantined", "scans")] == [1, 1, 0, 0]
    assert sorted(row["outcome"] for row in site.rows(t.deliveries)) == ["duplicate", "report"]
    assert {row["report_id"] for row in site.rows(t.deliveries)} == {first}
    site.report("c", content)
    assert site.ingest()["duplicates"] == 1
    row = site.only(t.threat_reports)
    assert (row["report_id"], row["tdr_type"], row["state"], row["wanted"]) == (first, "ground_truth", "waiting", ["2.25.1"])
    assert (row["site_id"], row["bag_id"]) == ("south-terminal", "south-terminal/south-terminal/b000777")
    assert site.world.store.verify(row["raw_key"], first)
    assert list(site.landing.list()) == []


@pytest.mark.parametrize("order", ["before", "with", "after"])
def test_a_report_finds_its_scan_whenever_it_comes(site: Site, order: str) -> None:
    content = tdr([KNIFE], references=["2.25.1"])
    if order == "before":
        site.report("r", content)
        site.ingest()
        with pytest.raises(NothingToDo, match="1 waiting reports"):
            site.match()
    scan_id = site.scan("s")
    if order == "after":
        site.ingest()
        with pytest.raises(NothingToDo, match="0 waiting reports"):
            site.match()
    if order != "before":
        site.report("r", content)
    site.ingest()
    result = site.match()
    assert result == {"matched": 1, "waiting": 0, "annotations": 1, "problems": {}, "unknown_categories": {}, "left": False}
    with pytest.raises(NothingToDo):
        site.match()
    report, note = site.only(t.threat_reports), site.only(t.annotations)
    assert (report["state"], report["matches"]) == ("matched", [{"uid": "2.25.1", "scan_id": scan_id}])
    assert (note["scan_id"], note["author_kind"], note["tool"], note["product_line"]) == (scan_id, "report", "dicos-tdr:ground_truth", "")
    assert (note["author"], note["taxonomy_version"], note["report_id"]) == ("ground truth of south-terminal", "t-1", report["report_id"])
    assert note["looked_for"] == ["firearm", "handgun", "knife", "pipe_bomb"], "everything but what a knife is a kind of"
    (box,) = note["boxes"]
    assert (box["category"], box["bbox_xywh"], box["threat"], box["score"]) == ("knife", [4.0, 10.5, 12.0, 8.5], 3, 1.0)
    assert box["polygons"] == [[[4, 10.5, 0], [16, 10.5, 0], [16, 19, 0], [4, 19, 0]]]
    assert box["masks"][0]["base"] == [4, 10, 0]
    assert (read_mask(site.world.store, box["masks"][0]["key"], box["masks"][0]["extents"]) == MASK).all()


def test_a_clear_ground_truth_says_that_nothing_is_there(site: Site) -> None:
    site.scan("s")
    site.report("r", tdr([], references=["2.25.1"]))
    site.ingest()
    site.match()
    note = site.only(t.annotations)
    assert (note["boxes"], note["looked_for"]) == ([], ["firearm", "handgun", "knife", "pipe_bomb", "weapon"])


@pytest.mark.parametrize(
    ("content", "looked_for", "boxes"),
    [
        (tdr([KNIFE], references=["2.25.1"], TDRType="OPERATOR"), ["knife"], 1),
        (tdr([KNIFE], references=["2.25.1"], TDRType="MACHINE", ThreatDetectionAlgorithmAndVersion=["Eye", "2"]), ["knife"], 1),
        (tdr([], references=["2.25.1"], TDRType="MACHINE"), [], 0),
        (tdr([threat(1, "knife", [])], references=["2.25.1"]), [], 0),
        (tdr([KNIFE, threat(4, "handgun", [])], references=["2.25.1"]), ["knife"], 1),
        (tdr([KNIFE], references=["2.25.1"], NumberOfAlarmObjects=2), ["knife"], 1),
        (tdr([KNIFE], references=["2.25.1"], AbortFlag="ABORT"), ["knife"], 1),
        (tdr([], references=["2.25.1"], AlarmDecision="ALARM"), [], 0),
        (tdr([threat(1, "knife", KNIFE["PTORepresentationSequence"], flag="NO_THREAT")], references=["2.25.1"], AlarmDecision="CLEAR"), "all", 0),
        (tdr([threat(1, "knife", KNIFE["PTORepresentationSequence"], flag="UNKNOWN")], references=["2.25.1"]), [], 0),
    ],
    ids=["operator", "machine", "clear machine", "unplaced", "one unplaced", "one not listed", "aborted", "bare alarm", "denied", "undecided"],
)  # fmt: skip
def test_only_whole_ground_truth_proves_absence(site: Site, content: bytes, looked_for: Any, boxes: int) -> None:
    site.scan("s")
    site.report("r", content)
    site.ingest()
    site.match()
    note = site.only(t.annotations)
    assert note["looked_for"] == ([] if not looked_for else sorted(one["id"] for one in TAXONOMY) if looked_for == "all" else looked_for)
    assert len(note["boxes"]) == boxes
    authors = {"operator": "operator", "machine": "Eye 2" if boxes else "machine", "ground_truth": "ground truth of south-terminal"}
    assert note["author"] == authors[note["tool"].partition(":")[2]]


def test_categories_are_known_by_id_or_name_and_others_are_kept_and_counted(site: Site) -> None:
    site.scan("s")
    at = place(["2.25.1"], polygon=corners(1, 1, 5, 5))
    names = ("PIPE BOMB", "pipe_bomb", "Firearm", "Crème brûlée torch")
    site.report("r", tdr([threat(number, name, [at]) for number, name in enumerate(names)], references=["2.25.1"]))
    site.ingest()
    result = site.match()
    found = [box["category"] for box in site.only(t.annotations)["boxes"]]
    assert found[:3] == ["pipe_bomb", "pipe_bomb", "firearm"]
    assert result["unknown_categories"] == {found[3]: 1}
    assert found[3].startswith("cr-me-br-l-e-torch-")
    assert site.only(t.annotations)["looked_for"] == ["firearm", "pipe_bomb"], "what the unknown one is nobody knows"


def test_free_text_of_people_is_kept_only_where_it_names_a_category(site: Site) -> None:
    site.scan("s")
    at = place(["2.25.1"], polygon=corners(1, 1, 5, 5))
    site.report("r", tdr([threat(1, PEOPLE, [at]), threat(2, "kitchen knife", [at])], references=["2.25.1"], TDRType="OPERATOR"))
    site.ingest()
    site.match()
    assert [box["category"] for box in site.only(t.annotations)["boxes"]] == ["pi", "knife"]
    with site.world.catalog.read() as connection:
        for table in (t.threat_reports, t.annotations, t.deliveries, t.audit_log, t.runs):
            for row in connection.execute(sa.select(table)):
                assert "DOE" not in str(row)


def test_a_report_about_two_views_waits_for_both(site: Site) -> None:
    views = [place([uid], polygon=corners(x, 2, 5, 6)) for uid, x in (("2.25.1", 1), ("2.25.2", 20))]
    site.report("r", tdr([threat(1, "knife", views)], references=["2.25.1", "2.25.2"]))
    first = site.scan("one")
    site.ingest()
    assert (site.match()["matched"], site.only(t.threat_reports)["state"]) == (0, "waiting")
    second = site.scan("two", serial="0043", seed=2, SOPInstanceUID="2.25.2")
    site.ingest()
    assert site.match()["matched"] == 1
    assert {note["scan_id"]: note["boxes"][0]["bbox_xywh"][0] for note in site.rows(t.annotations)} == {first: 1, second: 20}


def test_a_view_in_which_a_threat_is_not_placed_is_not_called_clean(site: Site) -> None:
    site.scan("one")
    hidden = site.scan("two", seed=2, SOPInstanceUID="2.25.2")
    site.report("r", tdr([KNIFE], references=["2.25.1", "2.25.2"]))
    site.ingest()
    site.match()
    (note,) = (row for row in site.rows(t.annotations) if row["scan_id"] == hidden)
    assert (note["boxes"], note["looked_for"]) == ([], [])


def test_the_uid_of_another_site_is_not_matched(site: Site) -> None:
    site.scan("s", site="north-terminal")
    site.report("r", tdr([KNIFE], references=["2.25.1"]))
    site.ingest()
    with pytest.raises(NothingToDo):
        site.match()
    assert site.rows(t.annotations) == []


def test_a_report_that_names_another_site_than_its_folder_says_nothing(site: Site) -> None:
    site.scan("s")
    site.report("r", tdr([KNIFE], references=["2.25.1"]), site="north-terminal")
    site.ingest()
    assert (site.only(t.threat_reports)["state"], site.only(t.threat_reports)["problem"]) == ("void", "site_differs")
    with pytest.raises(NothingToDo):
        site.match()


def test_one_uid_for_many_files_is_ambiguous_until_the_bag_tells(site: Site) -> None:
    scan_id = site.scan("one")
    site.scan("two", seed=2)
    site.scan("three", seed=3, PatientID="B2", StudyInstanceUID="2.25.77")
    site.report("r", tdr([KNIFE], references=["2.25.1"]))
    site.report("other", tdr([], references=["2.25.1"], PatientID="B2", StudyInstanceUID="2.25.77"))
    site.report("none", tdr([], references=["2.25.1"], PatientID="B3", StudyInstanceUID="2.25.78"))
    site.ingest()
    result = site.match()
    assert (result["matched"], result["problems"]) == (1, {"ambiguous": 1, "bag_differs": 1})
    assert sorted((row["state"], row["problem"]) for row in site.rows(t.threat_reports)) == [
        ("matched", ""),
        ("waiting", "ambiguous"),
        ("waiting", "bag_differs"),
    ]
    with pytest.raises(NothingToDo):
        site.match()
    with site.world.catalog.begin() as connection:
        connection.execute(
            sa.update(t.scans).where(t.scans.c.bag_id.endswith("777"), t.scans.c.scan_id != scan_id).values(state="quarantined")
        )
    assert site.match()["matched"] == 1


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_report_is_compared_with_all_its_scans_however_few_fit_into_a_run(site: Site, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(room, "MAX_PAIRS", most)
    site.scan("one")
    site.scan("two", seed=2)
    alone = site.scan("three", seed=3, SOPInstanceUID="2.25.3")
    for number in range(2):
        site.report(f"r{number}", tdr([], references=["2.25.1"], ContentTime=f"09150{number}"))
    site.report("other", tdr([], references=["2.25.3"]))
    site.ingest()
    for _ in range(6):
        try:
            site.match()
        except NothingToDo:
            continue
    assert [note["scan_id"] for note in site.rows(t.annotations)] == [alone]
    assert sorted(row["problem"] for row in site.rows(t.threat_reports)) == ["", "ambiguous", "ambiguous"]


def test_a_place_outside_the_scan_is_said_and_not_guessed(site: Site) -> None:
    site.scan("s")
    site.report("r", tdr([threat(1, "knife", [place(["2.25.1"], polygon=corners(25, 5, 20, 5))])], references=["2.25.1"]))
    site.report("band", tdr([threat(1, "knife", [place(["2.25.1"], polygon=corners(5, 30, 20, 20))])], references=["2.25.1"]))
    site.ingest()
    assert site.match()["problems"] == {"outside": 2}
    assert site.rows(t.annotations) == []


def test_a_report_about_a_study_speaks_about_all_its_scans(site: Site) -> None:
    site.scan("one")
    site.scan("two", seed=2, SOPInstanceUID="2.25.2")
    site.scan("other bag", seed=3, PatientID="B2", SOPInstanceUID="2.25.3", StudyInstanceUID="2.25.77")
    site.report("r", tdr([], references=["2.25.12"]))
    site.ingest()
    assert site.match()["annotations"] == 2
    late = site.scan("late", seed=4, SOPInstanceUID="2.25.4")
    site.ingest()
    assert site.match()["annotations"] == 1
    assert late in {note["scan_id"] for note in site.rows(t.annotations)}
    assert {len(note["looked_for"]) for note in site.rows(t.annotations)} == {5}


def test_a_place_in_a_study_of_several_scans_is_not_guessed(site: Site) -> None:
    unplaced = threat(1, "knife", [place(polygon=corners(4, 5, 6, 7))])
    site.scan("one")
    site.report("single", tdr([unplaced]))
    site.scan("two", seed=2, SOPInstanceUID="2.25.2", PatientID="B2", StudyInstanceUID="2.25.77")
    site.scan("three", seed=3, SOPInstanceUID="2.25.3", PatientID="B2", StudyInstanceUID="2.25.77")
    site.report("double", tdr([unplaced], PatientID="B2", StudyInstanceUID="2.25.77"))
    site.ingest()
    site.match()
    assert sorted(len(note["boxes"]) for note in site.rows(t.annotations)) == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"AbortFlag": "ABORT", "AlarmDecision": "UNKNOWN"}, "aborted"),
        ({"AlarmDecision": "UNKNOWN"}, "undecided"),
        ({"StudyInstanceUID": None, "PatientID": None}, "no_reference"),
    ],
)
def test_what_says_nothing_is_void(site: Site, changes: dict[str, Any], problem: str) -> None:
    site.report("r", tdr([], **changes))
    site.ingest()
    assert (site.only(t.threat_reports)["state"], site.only(t.threat_reports)["problem"]) == ("void", problem)


def test_reports_wait_for_a_taxonomy(world: World) -> None:
    site = Site(world, with_taxonomy=False)
    site.scan("s")
    site.report("r", tdr([KNIFE], references=["2.25.1"]))
    site.ingest()
    with pytest.raises(NothingToDo, match="no taxonomy"):
        site.match()
    site.define()
    assert site.match()["matched"] == 1


def test_a_report_of_an_independent_toolkit_about_a_volume(site: Site, tmp_path: Path) -> None:
    slices = {f"slice_{number}": picture(number)["high"] for number in range(4)}
    volume = {"SOPClassUID": CT, "Modality": "CT", "Rows": 40, "NumberOfFrames": 4, "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME"]}
    mask = np.random.default_rng(1).random((2, 3, 4)) > 0.5
    facts = {"number": 1, "description": "handgun", "probability": 0.5, "uid": "2.25.1", "base": (1, 2, 1), "mask": mask}
    content = dicos(slices, PatientID="B77", **volume)
    scan_id = site.landing.put("south-terminal/ct/2026-03-01/v.dcs", content).sha256
    site.report("r", toolkit_tdr(tmp_path / "tdr.dcs", [facts]))
    site.ingest()
    assert site.match()["matched"] == 1
    note = site.only(t.annotations)
    (box,) = note["boxes"]
    assert (note["scan_id"], box["category"], box["score"]) == (scan_id, "handgun", 0.5)
    assert (box["bbox_xywh"], box["z"]) == ([1, 2, 4, 3], [1, 3])
    assert (read_mask(site.world.store, box["masks"][0]["key"], box["masks"][0]["extents"]) == mask).all()


def test_a_report_that_was_quarantined_before_is_read_again_when_released(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanloop.intake.release import release
    from scanloop.scans import answers, sandbox
    from scanloop.scans.errors import ScanRefused

    def refuse(*_: Any) -> Any:
        raise ScanRefused("unsupported_kind", "as an older version would")

    content = tdr([KNIFE], references=["2.25.1"])
    with monkeypatch.context() as older:
        older.setattr(sandbox, "report_of", refuse)
        digest = site.report("r", content)
        site.report("again", content)
        assert site.ingest()["quarantined"] == 2
    assert answers.report_of is not refuse
    site.job("quarantine.release", lambda run: release(run, digest[:12]))
    site.ingest()
    assert site.only(t.threat_reports)["report_id"] == digest
    assert sorted(row["outcome"] for row in site.rows(t.deliveries)) == ["duplicate", "report"]
    with pytest.raises(NothingToDo):
        site.job("ingest.plan", lambda run: plan_ingest(run, 1))


def test_commands_show_reports(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("SCANLOOP_HOME", str(site.world.settings.home))
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", site.world.settings.database_url)

    def said(*words: str) -> str:
        assert run_command(list(words)) == 0
        return capsys.readouterr().out

    content = tdr([KNIFE], references=["2.25.1", "2.25.2"])
    digest = site.report("r", content)
    site.ingest()
    (row,) = map(json.loads, said("report", "list", "--state=waiting", "--json").splitlines())
    assert (row["report_id"], row["threats"], row["wanted"]) == (digest, 1, ["2.25.1", "2.25.2"])
    assert said("report", "list", "--state=matched", "--json") == ""
    site.scan("s")
    site.ingest()
    site.match()
    shown = json.loads(said("report", "show", digest[:10], "--json"))
    assert (shown["state"], len(shown["annotations"])) == ("waiting", 1)
    assert "2.25.2" in said("report", "show", digest[:10])
    assert "1 of 2" in said("report", "list")
    bag = json.loads(said("bag", "show", "south-terminal/south-terminal/b000777", "--json"))
    assert [report["report_id"] for report in bag["reports"]] == [digest]
    file = tmp_path / "r.dcs"
    file.write_bytes(content)
    found = json.loads(said("scan", "inspect", str(file), "--json", f"--out={tmp_path / 'out'}"))
    assert (found["kind"], found["tdr_type"], len(found["written"])) == ("threat report", "ground_truth", 2)
    assert json.loads((tmp_path / "out" / "r.boxes.json").read_text())[0]["bbox_xyz"] == {"from": [4.0, 50.5, 0.0], "to": [16.0, 59.0, 0.0]}
    import imagecodecs

    assert (imagecodecs.png_decode((tmp_path / "out" / "r.mask-0.png").read_bytes()) == MASK[0] * 255).all()
    assert "Kitchen Knife" in said("scan", "inspect", str(file))
