"""What a DICOM dataset says about the acquisition: bag, scanner, site, time, and a few facts that are no personal data.

Source: NEMA IIC 1 (DICOS), which re-uses the patient for the object of inspection; DICOM PS3.5 section 6.2 (dates and times).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from scanloop.scans.content import STUDY_ISSUER, ScanMetadata
from scanloop.scans.dicom_elements import Elements
from scanloop.scans.people import without_person

_NOT_PROJECTED = frozenset({"", "NONE", "NO"})
_OBJECTS = frozenset({"BAGGAGE", "CARGO", "PERSON", "VEHICLE", "PARCEL", "OTHER", "ANIMAL", "BIO SAMPLE"})
_NOT_SAID = "unknown"
"""What toolkits write where an element must not be empty."""
Facts = dict[str, str | int | float]


def read_metadata(elements: Elements, transfer_syntax: str, *, modality: str, view: str, facts: Facts) -> ScanMetadata:
    """Metadata of a scan of `modality`. `view` is used as it is; `facts` join the attributes."""
    issuer, bag = said(elements, "IssuerOfPatientID"), said(elements, "PatientID")
    study = elements.text("StudyInstanceUID")
    if not bag and study:
        issuer, bag = STUDY_ISSUER, study
    scan_type = elements.text("ScanType").lower()
    return ScanMetadata(
        manufacturer=said(elements, "Manufacturer"),
        model=said(elements, "ManufacturerModelName"),
        serial=said(elements, "DeviceSerialNumber"),
        site=said(elements, "InstitutionName"),
        issuer=issuer,
        bag=bag,
        view=without_person(view),
        acquired_at=_acquired_at(elements),
        scan_type=scan_type if re.fullmatch(r"[a-z_ ]{1,16}", scan_type) else "operational",
        is_projected=elements.text("TIPType").upper() not in _NOT_PROJECTED,
        modality=modality,
        attributes=_attributes(elements, transfer_syntax) | facts,
    )


def said(elements: Elements, keyword: str) -> str:
    """A text, empty where a toolkit only filled in that it is unknown."""
    text = elements.text(keyword)
    return "" if text.lower() == _NOT_SAID else without_person(text)


def _attributes(elements: Elements, transfer_syntax: str) -> Facts:
    software, kvp = elements.text("SoftwareVersions"), elements.text("KVP")
    calibrated = elements.text("DateOfLastCalibration")
    found: dict[str, str | int | float | None] = {
        "software": software if re.fullmatch(r"[\w .\\-]{0,31}\d[\w .\\-]{0,31}", software) else None,
        "sop_class_uid": uid_or_none(elements.text("SOPClassUID")),
        "sop_instance_uid": uid_or_none(elements.text("SOPInstanceUID")),
        "study_uid": uid_or_none(elements.text("StudyInstanceUID")),
        "series_uid": uid_or_none(elements.text("SeriesInstanceUID")),
        "kvp": float(kvp) if re.fullmatch(r"\d{1,4}(\.\d{1,4})?", kvp) else None,
        "calibrated_on": calibrated if re.fullmatch(r"\d{8}", calibrated) else None,
        "object_type": kind if (kind := elements.text("OOIType")) in _OBJECTS else None,
        "transfer_syntax": transfer_syntax,
    }
    return {name: value for name, value in found.items() if value is not None}


def uid_or_none(uid: str) -> str | None:
    """`uid` if it is one."""
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else None


def _moment(day: str, time: str, offset: str) -> datetime | None:
    """A DICOM date and time as UTC; without an offset it is UTC. None if it is no time."""
    found = re.fullmatch(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?", (day + time).replace(":", ""))
    zone = re.fullmatch(r"([+-])(\d{2})(\d{2})", offset)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[1:4])
    shift = timedelta(hours=int(zone[2]), minutes=int(zone[3])) * (-1 if zone[1] == "-" else 1) if zone else timedelta()
    try:
        moment = datetime.strptime(found[1], "%Y%m%d").replace(hour=hour, minute=minute, second=min(second, 59), tzinfo=timezone(shift))
        return moment.replace(microsecond=int((found[5] or "0").ljust(6, "0"))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def decided_at(elements: Elements) -> datetime | None:
    """When a report came to its decision, UTC: AlarmDecisionTime (4010,102B), or the date and time of its content."""
    if whole := re.fullmatch(r"([0-9.]{8,21})([+-]\d{4})?", elements.text("AlarmDecisionTime")):
        offset = whole[2] or elements.text("TimezoneOffsetFromUTC")
        if moment := _moment(whole[1], "", offset):
            return moment
    return _moment(elements.text("ContentDate"), elements.text("ContentTime"), elements.text("TimezoneOffsetFromUTC"))


def _acquired_at(elements: Elements) -> datetime | None:
    offset = elements.text("TimezoneOffsetFromUTC")
    if whole := re.fullmatch(r"([0-9.]{8,21})([+-]\d{4})?", elements.text("AcquisitionDateTime")):
        return _moment(whole[1], "", whole[2] or offset)
    for kind in ("Acquisition", "Content"):
        if moment := _moment(elements.text(f"{kind}Date"), elements.text(f"{kind}Time"), offset):
            return moment
    return None
