"""DICOS Threat Detection Reports (TDR): what a machine, an operator or the ground truth says about a bag.

Only what is asked for below is read, so who an operator is stays in the received bytes. Numbers are taken as text or binary whatever their VR says.
A z extent of 0 is one slice, as toolkits write it for views; a region without width or height, and a polygon without extent, are placeholders.

ThreatSequence (4010,1011)
    PotentialThreatObjectID (4010,1010)
    ATDAssessmentSequence (4010,1038)
        ThreatCategory (4010,1012), ThreatCategoryDescription (4010,1013), ATDAssessmentFlag (4010,1015), ATDAssessmentProbability (4010,1016)
    PTORepresentationSequence (4010,1037)
        ReferencedInstanceSequence (0008,114A), BoundingPolygon (4010,101D)
        ThreatROIVoxelSequence (4010,1001)
            ThreatROIBase (4010,1004), ThreatROIExtents (4010,1005), ThreatROIBitmap (4010,1006)

ImageScaleRepresentation (4010,1075) relates pixels to the real world and changes no coordinate here.

Source: NEMA IIC 1 (DICOS), Threat Detection Report IOD; pydicom's dictionary for the tags of group 4010.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from scanloop.scans.content import clean_text
from scanloop.scans.dicom_elements import Elements, Value
from scanloop.scans.dicom_metadata import decided_at, said, uid_or_none
from scanloop.scans.dicom_structure import Item
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_PLACES, MAX_POLYGON_POINTS, MAX_REFERENCES, MAX_THREATS
from scanloop.scans.people import without_person
from scanloop.scans.threat_report import (
    CODE,
    OF_PEOPLE,
    Assessment,
    Point,
    Reference,
    Region,
    ReportContent,
    Representation,
    Threat,
    mask_bytes,
    voxel_count,
)

TDR_CLASS = "1.2.840.10008.5.1.4.1.1.501.3"
"""DICOS Threat Detection Report Storage."""
_TYPES = {
    "MACHINE": "machine",
    "OPERATOR": "operator",
    "GROUND TRUTH": "ground_truth",
    "AGGREGATE": "aggregate",
    "MOD AGGREGATE": "aggregate",
}
_DECISIONS = {"ALARM": "alarm", "CLEAR": "clear", "NO ALARM": "clear"}
_FLAGS = {"HIGH THREAT": "high_threat", "THREAT": "threat", "NO THREAT": "no_threat", "": ""}
_NOT_ABORTED = frozenset({"", "SUCCESS"})
_NO_PROBABILITY = -1.0
"""What toolkits write where none is known."""
_MAX_ALGORITHM = 16
_MAX_COUNT = 65535
_PAD_BYTES = 8
"""Zeros that may follow a bitmap, to whole words."""
_BINARY = {"FL": "f", "FD": "d", "OF": "f", "OD": "d", "US": "H", "SS": "h", "UL": "I", "SL": "i"}
_LONGEST_NUMBER = 32


def read_report(elements: Elements) -> ReportContent:
    """Read a report.

    Raises:
        ScanRefused: it contradicts itself, holds no number where one is due, or more than a report may.
    """
    for keyword in ("TDRType", "AlarmDecision"):  # the last that every report has: a file that was cut off lacks them
        if not elements.has(keyword):
            raise ScanRefused("malformed", f"{keyword} is missing: the file is no whole report.")
    kind = _TYPES.get(_term(elements.text("TDRType")), "other")
    threats = elements.items("ThreatSequence")
    _at_most(MAX_THREATS, len(threats), "threats")
    return ReportContent(
        tdr_type=kind,
        decision=_DECISIONS.get(_term(elements.text("AlarmDecision")), "unknown"),
        is_aborted=_term(elements.text("AbortFlag")) not in _NOT_ABORTED,
        decided_at=decided_at(elements),
        algorithm=() if kind in OF_PEOPLE else _algorithm(elements),
        report_uid=uid_or_none(elements.text("SOPInstanceUID")) or "",
        study_uid=uid_or_none(elements.text("StudyInstanceUID")) or "",
        references=_references(elements, elements.items("ReferencedStudySequence")),
        site=said(elements, "InstitutionName"),
        issuer=said(elements, "IssuerOfPatientID"),
        bag=said(elements, "PatientID"),
        total_objects=_count(elements, "NumberOfTotalObjects"),
        alarm_objects=_count(elements, "NumberOfAlarmObjects"),
        threats=tuple(_threat(elements, item, index) for index, item in enumerate(threats)),
    )


def _term(text: str) -> str:
    """A defined term; toolkits differ in spaces and underscores."""
    return " ".join(text.upper().replace("_", " ").split())


def _at_most(most: int, found: int, noun: str) -> None:
    if found > most:
        raise ScanRefused("too_large", f"Expected at most {most} {noun} in a report, found {found}.")


def _algorithm(elements: Elements) -> tuple[str, ...]:
    parts = (without_person(clean_text(part, 64)) for part in elements.values("ThreatDetectionAlgorithmAndVersion"))
    return tuple(part for part in parts if part)[:_MAX_ALGORITHM]


def _count(elements: Elements, keyword: str) -> int | None:
    found = elements.integers(keyword)
    if found and not 0 <= found[0] <= _MAX_COUNT:
        raise ScanRefused("malformed", f"Expected {keyword} from 0 to {_MAX_COUNT}.")
    return found[0] if found else None


def _references(elements: Elements, items: Sequence[Item]) -> tuple[Reference, ...]:
    _at_most(MAX_REFERENCES, len(items), "references")
    found = (
        Reference(
            uid_or_none(elements.text_of(elements.value_in(item, "ReferencedSOPClassUID"))) or "",
            uid_or_none(elements.text_of(elements.value_in(item, "ReferencedSOPInstanceUID"))) or "",
        )
        for item in items
    )
    return tuple(dict.fromkeys(reference for reference in found if reference.sop_instance_uid))


def _threat(elements: Elements, item: Item, index: int) -> Threat:
    number = elements.integers_of(elements.value_in(item, "PotentialThreatObjectID"), "PotentialThreatObjectID")
    places = elements.items("PTORepresentationSequence", item)
    assessments = elements.items("ATDAssessmentSequence", item)
    _at_most(MAX_PLACES, len(places), "representations")
    _at_most(MAX_THREATS, len(assessments), "assessments")
    return Threat(
        number[0] if number and 0 <= number[0] <= 0xFFFFFFFF else index,
        tuple(_assessment(elements, assessment) for assessment in assessments),
        tuple(_representation(elements, place) for place in places),
    )


def _assessment(elements: Elements, item: Item) -> Assessment:
    code = _term(elements.text_of(elements.value_in(item, "ThreatCategory")))
    flag = _term(elements.text_of(elements.value_in(item, "ATDAssessmentFlag")))
    probability = _numbers(elements, elements.value_in(item, "ATDAssessmentProbability"), "ATDAssessmentProbability", 1)
    return Assessment(
        code if CODE.fullmatch(code) else "",
        without_person(elements.text_of(elements.value_in(item, "ThreatCategoryDescription"))),
        _FLAGS.get(flag, "unknown"),
        probability[0] if probability and probability[0] != _NO_PROBABILITY else None,
    )


def _representation(elements: Elements, item: Item) -> Representation:
    numbers = _numbers(elements, elements.value_in(item, "BoundingPolygon"), "BoundingPolygon", 3 * MAX_POLYGON_POINTS)
    if len(numbers) % 3:
        raise ScanRefused("malformed", f"Expected BoundingPolygon to hold three numbers a corner, found {len(numbers)}.")
    polygon = tuple((numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3))
    if len(set(polygon)) < 2:
        polygon = ()
    items = elements.items("ThreatROIVoxelSequence", item)
    _at_most(MAX_PLACES, len(items), "regions")
    regions = tuple(region for region in (_region(elements, one) for one in items) if region is not None)
    return Representation(_references(elements, elements.items("ReferencedInstanceSequence", item)), polygon, regions)


def _region(elements: Elements, item: Item) -> Region | None:
    """A region of interest; None for a placeholder."""
    base, extents = (_point(elements, item, keyword) for keyword in ("ThreatROIBase", "ThreatROIExtents"))
    vr, bitmap = elements.value_in(item, "ThreatROIBitmap")
    if extents is None or min(extents[:2]) == 0:
        if bitmap.strip(b"\0"):
            raise ScanRefused("malformed", "A bitmap has no region that it could fill.")
        return None
    if base is None:
        raise ScanRefused("malformed", "A region of interest has extents and no base.")
    sides: Point = (extents[0], extents[1], extents[2] or 1.0)
    if not bitmap:
        return Region(base, sides)
    needed = mask_bytes(sides)
    if vr == "OW" and elements.order == ">":
        bitmap = np.frombuffer(bitmap[: len(bitmap) // 2 * 2], ">u2").astype("<u2").tobytes()
    if len(bitmap) < needed:
        raise ScanRefused(
            "malformed", f"A region of {' x '.join(f'{side:g}' for side in sides)} needs {needed} bytes; {len(bitmap)} are there."
        )
    if len(bitmap) > needed + _PAD_BYTES or bitmap[needed:].strip(b"\0"):
        raise ScanRefused("malformed", f"A bitmap of {len(bitmap)} bytes is more than its region's {needed}.")
    mask = bytearray(bitmap[:needed])
    mask[-1] &= 0xFF >> (-voxel_count(sides) % 8)
    return Region(base, sides, bytes(mask))


def _point(elements: Elements, item: Item, keyword: str) -> Point | None:
    numbers = _numbers(elements, elements.value_in(item, keyword), keyword, 3)
    if not numbers:
        return None
    if len(numbers) != 3 or min(numbers) < 0:
        raise ScanRefused("malformed", f"Expected {keyword} to hold three numbers, none below 0.")
    return numbers[0], numbers[1], numbers[2]


def _numbers(elements: Elements, value: Value, keyword: str, most: int) -> list[float]:
    """Finite numbers, binary or decimal; empty where the element is absent or empty. Raises ScanRefused if they are none, or more than `most`."""
    vr, content = value
    if vr in ("OB", "OW"):
        vr = "FL"
    if not content.strip(b" \0") and vr not in _BINARY:
        return []
    if kind := _BINARY.get(vr):
        size = struct.calcsize(elements.order + kind)
        _at_most(most, len(content) // size, f"numbers in {keyword}")
        if len(content) % size:
            raise ScanRefused("malformed", f"{keyword} is {len(content)} bytes of VR {vr} and no list of numbers.")
        found = [float(part[0]) for part in struct.iter_unpack(elements.order + kind, content)]
    else:
        parts = content.strip(b" \0").split(b"\\", most + 1)
        _at_most(most, len(parts), f"numbers in {keyword}")
        try:
            found = [float(part[: _LONGEST_NUMBER + 1].decode("ascii")) for part in parts if len(part) <= _LONGEST_NUMBER]
        except ValueError:
            found = []
        if len(found) != len(parts):
            raise ScanRefused("malformed", f"{keyword} is text and no list of numbers.")
    if not all(math.isfinite(number) for number in found):
        raise ScanRefused("malformed", f"{keyword} holds what is no finite number.")
    return found
