"""Threat Detection Reports: what is understood of them, from two toolkits, and what is refused."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_files import CT, corners, place, reference, region, tdr, threat, toolkit_tdr
from scan_files import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, PEOPLE, dicos

from scanloop.scans import answers, limits
from scanloop.scans import sandbox as room
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import REASONS, ScanRefused
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.scans.threat_report import Reference, ReportContent, pack_mask, unpack_mask

MASK = np.random.default_rng(3).random((3, 4, 5)) > 0.5
ONE_PLACE = [place(["2.25.1"], polygon=corners(1.5, 2.5, 10, 20), regions=[region((1, 2, 0), (5, 4, 3), MASK)])]
FULL = tdr([threat(7, "Knife", ONE_PLACE, probability=0.75)], references=["2.25.1"])


def read(content: bytes) -> ReportContent:
    found = read_scan(content)
    assert isinstance(found, ReportContent)
    return found


def refused(content: bytes) -> ScanRefused:
    with pytest.raises(ScanRefused) as refusal:
        read_scan(content)
    assert refusal.value.reason_code in REASONS
    return refusal.value


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN])
def test_everything_that_a_report_says_is_read_in_every_encoding(syntax: str) -> None:
    report = read(tdr([threat(7, "Knife", ONE_PLACE, probability=0.75)], references=["2.25.1"], syntax=syntax))
    assert (report.tdr_type, report.decision, report.is_aborted) == ("ground_truth", "alarm", False)
    assert str(report.decided_at) == "2026-03-02 09:15:00.250000+00:00"
    assert (report.site, report.issuer, report.bag, report.study_uid) == ("south-terminal", "south-terminal", "B000777", "2.25.12")
    assert report.bag_id("south-terminal") == "south-terminal/south-terminal/b000777"
    assert [one.sop_instance_uid for one in report.references] == ["2.25.1"]
    assert (report.total_objects, report.alarm_objects) == (1, 1)
    (found,) = report.threats
    assert found.number == 7
    assert [(one.category, one.description, one.flag, one.probability) for one in found.assessments] == [("PI", "Knife", "threat", 0.75)]
    (where,) = found.representations
    assert where.polygon == ((1.5, 2.5, 0.0), (11.5, 2.5, 0.0), (11.5, 22.5, 0.0), (1.5, 22.5, 0.0))
    assert (where.regions[0].base, where.regions[0].extents) == ((1, 2, 0), (5, 4, 3))
    assert (where.regions[0].volume() == MASK).all()


def test_an_independent_toolkit_says_the_same(tmp_path: Path) -> None:
    facts = {"number": 7, "description": "Handgun", "probability": 0.75, "uid": "2.25.99", "base": (10, 20, 30), "mask": MASK}
    report = read(toolkit_tdr(tmp_path / "tdr.dcs", [facts, facts | {"number": 8, "base": (1, 2, 3)}]))
    assert (report.tdr_type, report.decision, report.bag, report.site) == ("ground_truth", "alarm", "B77", "")
    assert report.references == (Reference(CT, "2.25.99"),)
    assert report.algorithm == ("Maker", "4.2", "-mode=slow")
    for found, base in zip(report.threats, [(10, 20, 30), (1, 2, 3)], strict=True):
        (where,) = found.representations
        assert where.references == (Reference(CT, "2.25.99"),)
        assert (where.regions[0].base, where.regions[0].extents) == (base, (5, 4, 3))
        assert (where.regions[0].volume() == MASK).all()
        assert [(one.description, one.flag, one.probability) for one in found.assessments] == [("Handgun", "threat", 0.75)]


@pytest.mark.parametrize(
    ("kind", "tdr_type"), [("Machine", "machine"), ("Aggregate", "aggregate"), ("ModAggregate", "aggregate"), ("Undefined", "other")]
)
def test_a_clear_report_of_an_independent_toolkit(tmp_path: Path, kind: str, tdr_type: str) -> None:
    report = read(toolkit_tdr(tmp_path / "tdr.dcs", [], kind=kind, decision="Clear"))
    assert (report.tdr_type, report.decision, report.threats) == (tdr_type, "clear", ())
    assert report.references == (Reference(CT, "2.25.99"),)
    assert bool(report.algorithm) == (kind == "Machine"), "only of a machine is it kept what it runs"


def test_nothing_about_people_is_read() -> None:
    content = tdr(
        [threat(1, "knife", ONE_PLACE)],
        TDRType="OPERATOR",
        OperatorIdentificationSequence=[{"InstitutionName": PEOPLE}],
        ContentCreatorName=PEOPLE,
        ThreatDetectionAlgorithmAndVersion=[PEOPLE],
        StationName="DOE JANE",
    )
    report = read(content)
    assert report.tdr_type == "operator"
    assert "DOE" not in str(report)


def test_several_representations_regions_and_assessments_are_kept_apart() -> None:
    second = threat(
        2, "knife", [place(["2.25.1"], regions=[region((0, 0, 0), (2, 2, 1)), region((5, 5, 0), (1, 1, 1))]), place(["2.25.2"])]
    )
    second["ATDAssessmentSequence"].append({"ThreatCategory": "OTHER", "ATDAssessmentFlag": "NO_THREAT"})
    first, found = read(tdr([threat(1, "handgun", []), second], TDRType="GROUND_TRUTH")).threats
    assert first.representations == ()
    assert [len(where.regions) for where in found.representations] == [2, 0]
    assert [[one.sop_instance_uid for one in where.references] for where in found.representations] == [["2.25.1"], ["2.25.2"]]
    assert [one.flag for one in found.assessments] == ["threat", "no_threat"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AbortFlag": "ABORT"}, {"is_aborted": True}),
        ({"AbortFlag": None}, {"is_aborted": False}),
        ({"AlarmDecision": "CLEAR"}, {"decision": "clear"}),
        ({"AlarmDecision": ""}, {"decision": "unknown"}),
        ({"AlarmDecision": "PERHAPS"}, {"decision": "unknown"}),
        ({"TDRType": "SOMETHING"}, {"tdr_type": "other"}),
        ({"NumberOfTotalObjects": ("IS", "3")}, {"total_objects": 3}),
        ({"AlarmDecisionTime": None}, {"decided_at": read(FULL).decided_at.replace(microsecond=0)}),  # type: ignore[union-attr]
        ({"StudyInstanceUID": "no uid"}, {"study_uid": ""}),
        ({"InstitutionName": "unknown"}, {"site": ""}),
    ],
)
def test_what_toolkits_do_otherwise(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    report = read(tdr([threat(1, "knife", ONE_PLACE)], **changes))
    assert {name: getattr(report, name) for name in expected} == expected


@pytest.mark.parametrize(
    "given", [("DS", ["1", "2", "0"]), ("FD", [1.0, 2.0, 0.0]), ("OB", struct.pack("<3f", 1, 2, 0)), ("OW", struct.pack("<3f", 1, 2, 0))]
)
def test_numbers_are_read_whatever_their_vr_says(given: tuple[str, Any]) -> None:
    odd = region((0, 0, 0), (2, 2, 1)) | {"ThreatROIBase": given}
    report = read(tdr([threat(1, "knife", [place(regions=[odd])])]))
    assert report.threats[0].representations[0].regions[0].base == (1, 2, 0)


def test_sequences_and_numbers_that_a_toolkit_made_unknown_are_read() -> None:
    content = tdr(
        [threat(1, "knife", [place(regions=[region((1, 2, 0), (2, 2, 1)) | {"ThreatROIBase": ("OB", struct.pack("<3f", 1, 2, 0))}])])]
    )
    unknown = content.replace(b"\x10\x40\x04\x10OB", b"\x10\x40\x04\x10UN")
    assert unknown != content
    assert read(unknown) == read(content)


def test_placeholders_are_no_places() -> None:
    nothing = [place(polygon=[0.0] * 6, regions=[region((0, 0, 0), (0, 0, 0))])]
    flat = [place(regions=[region((1, 2, 0), (3, 4, 0), np.ones((1, 4, 3), bool))])]
    first, second = read(
        tdr([threat(1, "knife", nothing, probability=-1.0), threat(2, "knife", flat, flag=None, probability=None)])
    ).threats
    assert (first.representations[0].polygon, first.representations[0].regions) == ((), ())
    assert first.assessments[0].probability is None
    assert second.representations[0].regions[0].extents == (3, 4, 1), "toolkits give views regions without depth"
    assert second.assessments[0].flag == ""


NAN, INFINITE = float("nan"), float("inf")
BAD = {
    "bitmap too short": (place(regions=[region((0, 0, 0), (50, 40, 1), b"\1" * 100)]), "malformed"),
    "bitmap too long": (place(regions=[region((0, 0, 0), (4, 4, 1), b"\1" * 100)]), "malformed"),
    "bitmap of no region": (place(regions=[region((0, 0, 0), (0, 4, 1), b"\1\1")]), "malformed"),
    "bitmap of broken extents": (place(regions=[region((0, 0, 0), (2.5, 4, 1), b"\1\1")]), "malformed"),
    "extents absurd": (place(regions=[region((0, 0, 0), (1e9, 4, 1))]), "malformed"),
    "extents beyond the limit": (place(regions=[region((0, 0, 0), (60000, 60000, 60000), b"\1\1")]), "too_large"),
    "extents negative": (place(regions=[region((0, 0, 0), (-4, 4, 1))]), "malformed"),
    "extents not a number": (place(regions=[region((0, 0, 0), (NAN, 4, 1))]), "malformed"),
    "base negative": (place(regions=[region((-1, 0, 0), (4, 4, 1))]), "malformed"),
    "base infinite": (place(regions=[region((INFINITE, 0, 0), (4, 4, 1))]), "malformed"),
    "base of two numbers": (place(regions=[region((0, 0), (4, 4, 1))]), "malformed"),
    "base missing": (place(regions=[{"ThreatROIExtents": [1.0, 1.0, 1.0]}]), "malformed"),
    "polygon not a number": (place(polygon=[0, 0, 0, NAN, 1, 1]), "malformed"),
    "polygon negative": (place(polygon=[-5, 0, 0, 1, 1, 1]), "malformed"),
    "polygon of four numbers": (place(polygon=[0, 0, 0, 1]), "malformed"),
    "polygon of words": ({"BoundingPolygon": ("LO", ["a", "b", "c", "d", "e", "f"])}, "malformed"),
    "polygon of a million corners": ({"BoundingPolygon": ("OB", bytes(12_000_000))}, "too_large"),
    "polygon of many words": ({"BoundingPolygon": ("UC", ["1"] * 30_000)}, "too_large"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_places_are_refused_with_a_reason(kind: str) -> None:
    where, code = BAD[kind]
    assert refused(tdr([threat(1, "knife", [where])])).reason_code == code


@pytest.mark.parametrize("probability", [NAN, -0.5, 1.5, INFINITE])
def test_a_probability_is_one(probability: float) -> None:
    assert refused(tdr([threat(1, "knife", ONE_PLACE, probability=probability)])).reason_code == "malformed"


def test_more_than_a_report_may_hold_is_refused() -> None:
    small = place(regions=[region((0, 0, 0), (1, 1, 1))])
    assert refused(tdr([threat(1, "knife", [])] * (limits.MAX_THREATS + 1))).reason_code == "too_large"
    assert refused(tdr([threat(1, "knife", [small] * (limits.MAX_PLACES // 2 + 1))] * 2)).reason_code == "too_large"
    assert refused(tdr([], references=[f"2.25.{number}" for number in range(limits.MAX_REFERENCES + 1)])).reason_code == "too_large"
    halves = [place(polygon=np.arange(3 * (limits.MAX_POLYGON_POINTS // 2 + 1)) % 7)] * 2
    assert refused(tdr([threat(1, "knife", halves)])).reason_code == "too_large"


def test_an_element_that_is_there_twice_is_refused() -> None:
    once = b"\x10\x40\x10\x10US\2\0\1\0"
    assert FULL.replace(once, b"").count(once) == 0
    assert refused(tdr([threat(1, "knife", ONE_PLACE)]).replace(once, once * 2)).reason_code in ("malformed", "truncated")


def test_a_report_cut_anywhere_is_never_accepted_unless_nothing_is_lost() -> None:
    content, whole = tdr([threat(1, "knife", ONE_PLACE)]), read(tdr([threat(1, "knife", ONE_PLACE)]))
    for length in range(len(content)):
        try:
            found = read_scan(content[:length])
        except ScanRefused:
            continue
        assert isinstance(found, ReportContent)
        assert replace(found, total_objects=1, alarm_objects=1) == whole, "all but what it announces, which follows from the rest"


def test_mangled_reports_raise_nothing_but_a_refusal() -> None:
    generator = random.Random("scanloop reports")
    for _ in range(400):
        mutant = bytearray(FULL)
        for _ in range(generator.choice((1, 1, 2, 8))):
            at = generator.randrange(200, len(mutant))
            match generator.randrange(4):
                case 0:
                    mutant[at] ^= 1 << generator.randrange(8)
                case 1:
                    mutant[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\xfe\xff\0\xe0"))
                case 2:
                    del mutant[at : at + generator.randrange(1, 9)]
                case _:
                    mutant[at:at] = generator.randbytes(generator.randrange(1, 9))
        try:
            read_scan(bytes(mutant))
        except ScanRefused as refusal:
            assert refusal.reason_code in REASONS  # noqa: PT017  the other outcome, a whole report, is as good


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.randoms(use_true_random=False))
def test_masks_survive_packing(width: int, height: int, depth: int, draw: random.Random) -> None:
    volume = np.array([draw.random() < 0.5 for _ in range(width * height * depth)]).reshape(depth, height, width)
    packed = pack_mask(volume)
    assert len(packed) == -(-volume.size // 8)
    assert (unpack_mask(packed, (width, height, depth)) == volume).all()


_COORDINATES = st.floats(0, 4000, width=32, allow_subnormal=False)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(_COORDINATES, _COORDINATES, _COORDINATES), min_size=2, max_size=9, unique=True),
    st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 99)),
    st.sampled_from([EXPLICIT, IMPLICIT]),
)
def test_any_polygon_and_region_survives_the_file(
    polygon: list[tuple[float, float, float]], base: tuple[int, int, int], syntax: str
) -> None:
    where = place(["2.25.1"], polygon=[part for point in polygon for part in point], regions=[region(base, (5, 4, 3), MASK)])
    (found,) = read(tdr([threat(1, "knife", [where])], syntax=syntax)).threats[0].representations
    assert found.polygon == tuple(polygon)
    assert found.regions[0].base == base
    assert (found.regions[0].volume() == MASK).all()


def test_the_confined_process_says_exactly_the_same(tmp_path: Path) -> None:
    files = {"report": FULL, "scan": dicos(), "clear": tdr([]), "short": tdr([threat(1, "knife", [BAD["bitmap too short"][0]])])}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with Sandbox(tmp_path) as sandbox:
        found = dict(zip(files, sandbox.read_all(Received(tmp_path / name) for name in files), strict=True))
        assert sandbox.starts == 1
    assert found["report"] == read(FULL)
    assert found["clear"] == read(files["clear"])
    assert isinstance(found["short"], ScanRefused)
    assert found["short"].reason_code == "malformed"
    assert not isinstance(found["scan"], (ScanRefused, ReportContent))


LIAR = """
import json, sys
print(json.dumps({{"confined": {{}}}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    open(request["out"], "wb").write(bytes({size}))
    print(json.dumps({{"report": json.load(open({report!r}))}}), flush=True)
"""


def _lie(**changes: Any) -> dict[str, Any]:
    return read(FULL).as_dict() | changes


def _threat_with(**changes: Any) -> list[dict[str, Any]]:
    (found,) = read(FULL).as_dict()["threats"]
    found["representations"][0]["regions"][0] |= changes
    return [found]


LIES = {
    "too few bits": (_lie(), 7),
    "too many bits": (_lie(), 9),
    "masks out of order": (_lie(threats=_threat_with(mask=1)), 8),
    "a type that is none": (_lie(tdr_type="oracle"), 8),
    "not a number": (_lie(threats=_threat_with(base=[NAN, 0, 0])), 8),
    "beyond any picture": (_lie(threats=_threat_with(base=[1e9, 0, 0])), 8),
    "a region of nothing": (_lie(threats=_threat_with(extents=[0, 1, 1])), 8),
    "too many threats": (_lie(threats=_threat_with(mask=None) * 600), 0),
    "more than is listened to": (_lie(bag="x" * limits.MAX_ANSWER_BYTES), 8),
    "a field too many": (_lie(operator=PEOPLE), 8),
    "a text too long": (_lie(site="x" * 1000), 8),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_process_that_lies_about_a_report_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    report, size = LIES[kind]
    (tmp_path / "lie").write_text(json.dumps(report))
    monkeypatch.setattr(room, "_READER", ("-c", LIAR.format(size=size, report=str(tmp_path / "lie"))))
    (tmp_path / "file").write_bytes(FULL)
    with Sandbox(tmp_path) as sandbox, pytest.raises(ScanRefused) as refusal:
        sandbox.read(tmp_path / "file")
    assert refusal.value.reason_code in ("reader_died", "malformed", "too_large")


def test_an_answer_without_an_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = """
import json, sys
print(json.dumps({"confined": {}}), flush=True)
sys.stdin.readline()
while True:
    sys.stdout.write("x" * 65536)
"""
    monkeypatch.setattr(room, "_READER", ("-c", endless))
    (tmp_path / "file").write_bytes(FULL)
    with Sandbox(tmp_path) as sandbox, pytest.raises(ScanRefused, match="answered with more than") as refusal:
        sandbox.read(tmp_path / "file")
    assert refusal.value.reason_code == "reader_died"


def test_an_algorithm_that_a_process_gives_a_person_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(bytes(8))
    answer = answers.ReportAnswer.model_validate(_lie(tdr_type="operator", algorithm=[PEOPLE]))
    assert answers.report_of(answer, tmp_path / "out").algorithm == ()


def test_references_are_told_from_one_another() -> None:
    report = read(
        tdr([], ReferencedStudySequence=[reference("2.25.1"), reference("2.25.1"), reference("nonsense"), reference("2.25.2", "x")])
    )
    assert report.references == (Reference("1.2.840.10008.5.1.4.1.1.501.2.2", "2.25.1"), Reference("", "2.25.2"))
