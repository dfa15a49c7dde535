"""Detections as a DICOS Threat Detection Report.

Source: NEMA IIC 1 (DICOS), Threat Detection Report IOD; pydicom's dictionary for the tags of group 4010.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TDR_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.501.3"
"""DICOS Threat Detection Report Storage."""
_XRAY_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.501.2.2"
_DICOS_VERSION = "V03"
_START_OF_PROCESSING, _END_OF_PROCESSING, _PROCESSING_TIME_MS = 0x40101080, 0x40101081, 0x40101082
"""Of one threat; not in pydicom's dictionary yet, required by DICOS V03 as an independent toolkit reads it."""
_IMPLEMENTATION_UID = "2.25.211790413570946226412180301861459214917"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class ReportFacts:
    """What a report says beside the threats."""

    scan_id: str
    """SHA-256 of the scan's bytes, hex."""
    bag: str
    """The object of inspection, as its scanner calls it."""
    bag_issuer: str
    """Who gave it that name."""
    study_uid: str
    """StudyInstanceUID of the scan, empty if it has none."""
    sop_class_uid: str
    """SOPClassUID of the scan, empty if it has none."""
    sop_instance_uid: str
    """SOPInstanceUID of the scan, empty if it has none."""
    site: str
    """Where the device stands."""
    device_id: str
    """The device that answers."""
    algorithm: tuple[str, ...]
    """What detected: maker, version, then parameters as `-name=value`."""
    decided_at: datetime
    """When, UTC."""
    processing_ms: float
    """How long it took, up to then."""


def threat_report(records: Sequence[dict[str, Any]], facts: ReportFacts) -> Dataset:
    """Build the report. `records`: alarms as {category, score, bbox_xywh in pixels of the scan's planes}; none means the bag is clear.

    Each threat has its box three ways: ThreatROIBase and ThreatROIExtents (4010,1004/1005), x, y, z in whole pixels with one slice;
    ThreatROIBitmap (4010,1006), one bit a pixel of that region, least significant first, x fastest; BoundingPolygon (4010,101D), its exact
    corners. UIDs are made from the scan and the release, so answering again gives the same ones; a scan that has no UIDs, because it was
    no DICOS file, is referenced by UIDs made from its SHA-256.
    """
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence
    from pydicom.uid import UID

    identity = f"{facts.scan_id}/{facts.device_id}/{'/'.join(facts.algorithm)}"
    when_date, when_time = facts.decided_at.strftime("%Y%m%d"), facts.decided_at.strftime("%H%M%S.%f")
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = UID(TDR_SOP_CLASS), _uid(f"report/{identity}")
    report.Modality, report.DICOSVersion = "TDR", _DICOS_VERSION
    for keyword in ("InstanceCreation", "Study", "Series", "Content"):
        setattr(report, f"{keyword}Date", when_date)
        setattr(report, f"{keyword}Time", when_time)
    report.StudyInstanceUID = facts.study_uid or _uid(f"study/{facts.scan_id}")
    report.SeriesInstanceUID, report.FrameOfReferenceUID = _uid(f"series/{identity}"), _uid(f"frame/{facts.scan_id}")
    report.StudyID, report.InstanceNumber, report.PositionReferenceIndicator = facts.scan_id[:16], 1, ""
    report.PatientID, report.IssuerOfPatientID, report.TypeOfPatientID = (
        facts.bag[:64] or _UNKNOWN,
        facts.bag_issuer[:64] or _UNKNOWN,
        "TEXT",
    )
    report.PatientSex, report.OtherPatientIDsSequence = "U", DicomSequence()
    report.InstitutionName, report.InstitutionAddress, report.InstitutionalDepartmentName = facts.site[:64], _UNKNOWN, ""
    report.Manufacturer, report.ManufacturerModelName = facts.algorithm[0], "edge device"
    report.DeviceSerialNumber, report.StationName = facts.device_id, facts.device_id
    report.SoftwareVersions = facts.algorithm[1][:64]
    report.DateOfLastCalibration, report.TimeOfLastCalibration = when_date, when_time
    report.OOIType, report.ScanType, report.AcquisitionStatus = "BAGGAGE", "OPERATIONAL", "SUCCESSFUL"
    report.TDRType, report.AbortFlag, report.AdditionalScreeningPerformed = "MACHINE", "SUCCESS", "NO"
    report.ThreatDetectionAlgorithmAndVersion = [part[:64] for part in facts.algorithm]
    report.AlgorithmRoutingCodeSequence = DicomSequence()
    report.AlarmDecision = "ALARM" if records else "CLEAR"
    report.AlarmDecisionTime = facts.decided_at.strftime("%Y%m%d%H%M%S.%f+0000")
    report.NumberOfTotalObjects = report.NumberOfAlarmObjects = len(records)
    report.TotalProcessingTime = float(facts.processing_ms)
    report.add_new("ImageScaleRepresentation", "FD", 1.0)
    report.ReferencedStudySequence = DicomSequence([_scan_reference(facts)])
    report.ThreatSequence = DicomSequence([_threat(number, record, facts) for number, record in enumerate(records, start=1)])
    return report


def write_report(report: Dataset, path: Path) -> None:
    """Write `report` as a DICOS file, explicit VR little endian."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = report.SOPClassUID, report.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID(_IMPLEMENTATION_UID), "SCANLOOP"
    meta.add_new(0x00020004, "CS", _DICOS_VERSION)
    report.file_meta = meta
    report.save_as(path, enforce_file_format=True)


def read_report(path: Path) -> list[dict[str, Any]]:
    """The threats of a report that `write_report` wrote: {category, score, bbox_xywh}."""
    from pydicom import dcmread

    records = []
    for threat in dcmread(path).ThreatSequence:
        assessment, place = threat.ATDAssessmentSequence[0], threat.PTORepresentationSequence[0]
        corners = np.array(place.BoundingPolygon, dtype=np.float64).reshape(-1, 3)
        (left, top), (right, bottom) = corners.min(axis=0)[:2], corners.max(axis=0)[:2]
        records.append(
            {
                "category": str(assessment.ThreatCategoryDescription),
                "score": float(assessment.ATDAssessmentProbability),
                "bbox_xywh": [float(left), float(top), float(right - left), float(bottom - top)],
            }
        )
    return records


def _scan_reference(facts: ReportFacts) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

    reference = Dataset()
    reference.ReferencedSOPClassUID = UID(facts.sop_class_uid or _XRAY_SOP_CLASS)
    reference.ReferencedSOPInstanceUID = UID(facts.sop_instance_uid) if facts.sop_instance_uid else _uid(f"scan/{facts.scan_id}")
    return reference


def _threat(number: int, record: dict[str, Any], facts: ReportFacts) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence

    x, y, width, height = record["bbox_xywh"]
    left, top = math.floor(x), math.floor(y)
    columns, rows = max(1, math.ceil(x + width) - left), max(1, math.ceil(y + height) - top)
    region = Dataset()
    region.ThreatROIBase = [float(left), float(top), 0.0]
    region.ThreatROIExtents = [float(columns), float(rows), 1.0]
    bits = np.packbits(np.ones(columns * rows, dtype=np.uint8), bitorder="little").tobytes()
    region.ThreatROIBitmap = bits + b"\0" * (len(bits) % 2)
    place = Dataset()
    place.ReferencedInstanceSequence = DicomSequence([_scan_reference(facts)])
    place.ThreatROIVoxelSequence = DicomSequence([region])
    place.BoundingPolygon = [
        c for px, py in ((x, y), (x + width, y), (x + width, y + height), (x, y + height)) for c in (float(px), float(py), 0.0)
    ]
    assessment = Dataset()
    assessment.ThreatCategory, assessment.ThreatCategoryDescription = "PI", record["category"]
    assessment.ATDAbilityAssessment, assessment.ATDAssessmentFlag = "NO_INTERFERENCE", "THREAT"
    assessment.ATDAssessmentProbability = float(record["score"])
    threat = Dataset()
    threat.PotentialThreatObjectID = number
    threat.PTORepresentationSequence = DicomSequence([place])
    threat.ATDAssessmentSequence = DicomSequence([assessment])
    started_at = facts.decided_at - timedelta(milliseconds=facts.processing_ms)
    for tag, moment in ((_START_OF_PROCESSING, started_at), (_END_OF_PROCESSING, facts.decided_at)):
        threat.add_new(tag, "DT", moment.strftime("%Y%m%d%H%M%S.%f"))
    threat.add_new(_PROCESSING_TIME_MS, "FL", float(facts.processing_ms))
    return threat


def _uid(name: str) -> str:
    """A UID from a name: 2.25 and a UUID of version 5. Source: ITU-T X.667."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'https://scanloop.example/{name}').int}"
