"""Threat Detection Reports: written by us, read back by us, by pydicom, and by an independent DICOS toolkit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from scanloop.edge.report_dicos import TDR_SOP_CLASS, ReportFacts, read_report, threat_report, write_report

FACTS = ReportFacts(
    scan_id="ab" * 32,
    bag="B000777",
    bag_issuer="south-terminal",
    study_uid="2.25.12",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.501.2.1",
    sop_instance_uid="2.25.13",
    site="south-terminal",
    device_id="0123456789abcdef",
    algorithm=("Scanloop", "release 3", "-product_line=cabin", "-model=0123456789ab"),
    decided_at=datetime(2026, 3, 1, 8, 15, 30, 250000, UTC),
    processing_ms=41.5,
)
THREATS = [
    {"category": "knife", "score": 0.75, "bbox_xywh": [10.25, 20.5, 30.0, 7.25]},
    {"category": "handgun", "score": 0.5, "bbox_xywh": [0.0, 0.0, 1.0, 1.0]},
]


def test_a_report_reads_back(tmp_path):
    path = tmp_path / "tdr.dcs"
    write_report(threat_report(THREATS, FACTS), path)
    assert read_report(path) == THREATS
    report = dcmread(path)
    assert report.SOPClassUID == TDR_SOP_CLASS == "1.2.840.10008.5.1.4.1.1.501.3"
    assert report.SOPClassUID.name == "DICOS Threat Detection Report Storage"
    assert (report.AlarmDecision, report.TDRType, report.NumberOfAlarmObjects) == ("ALARM", "MACHINE", 2)
    assert (report.PatientID, report.IssuerOfPatientID, report.StudyInstanceUID) == ("B000777", "south-terminal", "2.25.12")
    assert report.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "2.25.13"
    region = report.ThreatSequence[0].PTORepresentationSequence[0].ThreatROIVoxelSequence[0]
    assert list(region.ThreatROIBase) == [10, 20, 0]
    assert list(region.ThreatROIExtents) == [31, 8, 1]
    bits = np.unpackbits(np.frombuffer(region.ThreatROIBitmap, np.uint8), bitorder="little")
    assert bits[: 31 * 8].all()
    assert not bits[31 * 8 :].any()


def test_a_clear_bag_has_a_report_without_threats(tmp_path):
    write_report(threat_report([], FACTS), tmp_path / "tdr.dcs")
    report = dcmread(tmp_path / "tdr.dcs")
    assert (report.AlarmDecision, len(report.ThreatSequence), report.NumberOfTotalObjects) == ("CLEAR", 0, 0)


@pytest.mark.parametrize("threats", [THREATS, []], ids=["alarm", "clear"])
def test_an_independent_toolkit_reads_the_same(tmp_path, threats):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pydicos
    write_report(threat_report(threats, FACTS), tmp_path / "tdr.dcs")
    found = pydicos.dcsread(str(tmp_path / "tdr.dcs"), pydicos.TDRLoader()).get_data()
    assert (found["TDRType"].name, found["ScanType"].name, found["OOIType"].name) == ("enumMachine", "enumOperational", "enumTypeBaggage")
    assert found["AlarmDecision"].name == ("enumAlarm" if threats else "enumClear")
    assert (found["OOIID"], found["InstanceUID"], found["ProcessingTime"]) == ("B000777", "2.25.12", 41.5)
    assert found["ATR"] == {
        "manufacturer": "Scanloop",
        "version": "release 3",
        "parameters": {"product_line": "cabin", "model": "0123456789ab"},
    }
    read = [
        (threat["Assessment"]["description"], threat["Assessment"]["probability"], threat["Assessment"]["flag"].name)
        for threat in found["PTOs"]
    ]
    assert read == [(threat["category"], threat["score"], "enumThreat") for threat in threats]


def test_answering_again_gives_the_same_report_and_another_release_another():
    first, again = threat_report(THREATS, FACTS), threat_report(THREATS, FACTS)
    other = threat_report(THREATS, replace(FACTS, algorithm=("Scanloop", "release 4")))
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert len(first.SOPInstanceUID) <= 64


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["knife", "handgun"]),
            st.floats(0, 1, width=32),
            *(st.floats(0, 2000, width=32) for _ in range(2)),
            *(st.floats(0.5, 500, width=32) for _ in range(2)),
        ),
        max_size=5,
    )
)
def test_any_detections_survive_the_round_trip(tmp_path_factory, detections):
    threats = [{"category": name, "score": score, "bbox_xywh": list(box)} for name, score, *box in detections]
    path = tmp_path_factory.mktemp("tdr") / "tdr.dcs"
    write_report(threat_report(threats, FACTS), path)
    for before, after in zip(threats, read_report(path), strict=True):
        assert (after["category"], after["score"]) == (before["category"], pytest.approx(before["score"]))
        assert after["bbox_xywh"] == pytest.approx(before["bbox_xywh"], abs=1e-3)
