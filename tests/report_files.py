"""Threat Detection Reports for tests: by pydicom, element by element, and by an independent DICOS toolkit."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scan_files import EXPLICIT, PEOPLE

TDR = "1.2.840.10008.5.1.4.1.1.501.3"
XRAY = "1.2.840.10008.5.1.4.1.1.501.2.2"
CT = "1.2.840.10008.5.1.4.1.1.501.1"


def reference(uid: str, sop_class: str = XRAY) -> dict[str, Any]:
    return {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}


def region(base: Sequence[float], extents: Sequence[float], mask: np.ndarray | bytes | None = None) -> dict[str, Any]:
    """A region of interest; `mask` (D, H, W) or bytes."""
    found: dict[str, Any] = {"ThreatROIBase": list(map(float, base)), "ThreatROIExtents": list(map(float, extents))}
    if mask is not None:
        packed = mask if isinstance(mask, bytes) else np.packbits(mask.ravel(), bitorder="little").tobytes()
        found["ThreatROIBitmap"] = packed + b"\0" * (len(packed) % 2)
    return found


def place(
    uids: Sequence[str] = (), *, polygon: Sequence[float] = (), regions: Sequence[dict[str, Any]] = (), sop_class: str = XRAY
) -> dict[str, Any]:
    """A representation."""
    found: dict[str, Any] = {"ReferencedInstanceSequence": [reference(uid, sop_class) for uid in uids]}
    if len(polygon):
        found["BoundingPolygon"] = list(map(float, polygon))
    if regions:
        found["ThreatROIVoxelSequence"] = list(regions)
    return found


def corners(x: float, y: float, width: float, height: float, z: float = 0.0, depth: float = 0.0) -> list[float]:
    """A polygon round a box."""
    return [x, y, z, x + width, y, z, x + width, y + height, z + depth, x, y + height, z + depth]


def threat(
    number: int, description: str, places: Sequence[dict[str, Any]], *, flag: str | None = "THREAT", probability: float | None = 1.0
) -> dict[str, Any]:
    assessment: dict[str, Any] = {"ThreatCategory": "PI", "ThreatCategoryDescription": description}
    if flag is not None:
        assessment["ATDAssessmentFlag"] = flag
    if probability is not None:
        assessment["ATDAssessmentProbability"] = probability
    return {"PotentialThreatObjectID": number, "ATDAssessmentSequence": [assessment], "PTORepresentationSequence": list(places)}


def tdr(threats: Sequence[dict[str, Any]] = (), *, references: Sequence[str] = (), syntax: str = EXPLICIT, **changes: Any) -> bytes:
    """A report written by pydicom, of the scans that `scan_files.dicos` makes. A change names an element; None removes it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(TDR), UID("2.25.900")
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    alarms = sum(
        any(one.get("ATDAssessmentFlag") in ("THREAT", "HIGH_THREAT") for one in each["ATDAssessmentSequence"]) for each in threats
    )
    elements: dict[str, Any] = {
        "SOPClassUID": TDR,
        "SOPInstanceUID": "2.25.900",
        "Modality": "TDR",
        "ContentDate": "20260302",
        "ContentTime": "091500",
        "Manufacturer": "Veritas",
        "InstitutionName": "south-terminal",
        "OperatorsName": PEOPLE,
        "PatientName": PEOPLE,
        "PatientID": "B000777",
        "IssuerOfPatientID": "south-terminal",
        "StudyInstanceUID": "2.25.12",
        "TDRType": "GROUND TRUTH",
        "AbortFlag": "SUCCESS",
        "AlarmDecision": "ALARM" if threats else "CLEAR",
        "AlarmDecisionTime": "20260302101500.250000+0100",
        "NumberOfTotalObjects": len(threats),
        "NumberOfAlarmObjects": alarms,
        "ReferencedStudySequence": [reference(uid) for uid in references],
        "ThreatSequence": list(threats),
    } | changes
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill(dataset, {name: value for name, value in elements.items() if value is not None})
        dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()


def fill(dataset: Any, elements: dict[str, Any]) -> Any:
    """Set elements; a list of dicts is a sequence, a tuple (VR, value) has another VR than usual."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence

    for name, value in elements.items():
        if isinstance(value, tuple):
            dataset.add_new(tag_for_keyword(name), *value)
        elif name.endswith("Sequence"):
            setattr(dataset, name, DicomSequence([fill(Dataset(), item) for item in value]))
        else:
            setattr(dataset, name, value)
    return dataset


def toolkit_tdr(
    path: Path, threats: Sequence[dict[str, Any]], *, kind: str = "GroundTruth", decision: str = "Alarm", bag: str = "B77"
) -> bytes:
    """A report written by pydicos. `threats`: {number, description, probability, uid, sop_class, base, mask (D, H, W)}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyDICOS
        import pydicos
    moment = {"date": (2026, 3, 1), "time": (8, 15, 30, 0)}
    objects = []
    for one in threats:
        depth, height, width = one["mask"].shape
        x, y, z = one["base"]
        objects.append(
            {
                # Its wrapper calls the first number of a point z, its library calls it x, and the file has it first.
                "Base": {"z": x, "y": y, "x": z},
                "Extent": {"z": width, "y": height, "x": depth},
                "Bitmap": one["mask"].reshape(width, height, depth),
                "ID": one["number"],
                "Assessment": {
                    "flag": pyDICOS.ASSESSMENT_FLAG.enumThreat,
                    "category": pyDICOS.THREAT_CATEGORY.enumProhibitedItem,
                    "ability": pyDICOS.ABILITY_ASSESSMENT.enumNoInterference,
                    "description": one["description"],
                    "probability": one["probability"],
                },
                "ReferencedInstance": {"SopClassUID": one.get("sop_class", CT), "SopInstanceUID": one["uid"]},
                "PTOProcessingTime": {"ProcessingStartTime": moment, "ProcessingEndTime": moment, "fTotalTimeMS": 0},
            }
        )
    report = pydicos.TDRLoader()
    report.set_data(
        {
            "InstanceNumber": 1,
            "InstanceUID": "2.25.12",
            "OOIID": bag,
            "ContentDateAndTime": moment,
            "ProcessingTime": 10.0,
            "ScanType": pyDICOS.SCAN_TYPE.enumOperational,
            "AlarmDecision": getattr(pyDICOS.ALARM_DECISION, f"enum{decision}"),
            "AlarmDecisionDateTime": moment,
            "ImageScaleRepresentation": 10.0,
            "ATR": {"manufacturer": "Maker", "version": "4.2", "parameters": {"mode": "slow"}},
            "TDRType": getattr(pyDICOS.TDR_TYPE, f"enum{kind}"),
            "OOIType": pyDICOS.OBJECT_OF_INSPECTION_TYPE.enumTypeBaggage,
            "PTOs": objects,
        }
    )
    if not threats:
        report.AddReferencedSopInstance(pyDICOS.DcsUniqueIdentifier("2.25.99"), pyDICOS.DcsUniqueIdentifier(CT))
    report.write(path)
    return path.read_bytes()
