"""The few elements of a DICOM dataset that are ever read, converted without trusting their VR.

Only the allow-list of tags below is converted, so personal data stay in the received bytes.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

from scanloop.scans.content import clean_text
from scanloop.scans.dicom_structure import Item, Structure
from scanloop.scans.errors import ScanRefused

_MAX_VALUE_BYTES = 2048
"""More of a text than this is not converted: none of the elements may be that long."""
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
"""VR to the format of one number."""
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_UNIT = re.compile(r"(?:[A-Za-z0-9_ %/.*()-]|\^(?=[-0-9])){1,16}")
_DECIMAL = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?")
_TAGS = {
    "SpecificCharacterSet": (0x00080005, "CS"),
    "ImageType": (0x00080008, "CS"),
    "SOPClassUID": (0x00080016, "UI"),
    "SOPInstanceUID": (0x00080018, "UI"),
    "AcquisitionDate": (0x00080022, "DA"),
    "ContentDate": (0x00080023, "DA"),
    "AcquisitionDateTime": (0x0008002A, "DT"),
    "AcquisitionTime": (0x00080032, "TM"),
    "ContentTime": (0x00080033, "TM"),
    "Modality": (0x00080060, "CS"),
    "Manufacturer": (0x00080070, "LO"),
    "InstitutionName": (0x00080080, "LO"),
    "TimezoneOffsetFromUTC": (0x00080201, "SH"),
    "SeriesDescription": (0x0008103E, "LO"),
    "ManufacturerModelName": (0x00081090, "LO"),
    "FrameType": (0x00089007, "CS"),
    "PatientID": (0x00100020, "LO"),
    "IssuerOfPatientID": (0x00100021, "LO"),
    "SliceThickness": (0x00180050, "DS"),
    "KVP": (0x00180060, "DS"),
    "SpacingBetweenSlices": (0x00180088, "DS"),
    "DeviceSerialNumber": (0x00181000, "LO"),
    "SoftwareVersions": (0x00181020, "LO"),
    "DateOfLastCalibration": (0x00181200, "DA"),
    "StudyInstanceUID": (0x0020000D, "UI"),
    "SeriesInstanceUID": (0x0020000E, "UI"),
    "InstanceNumber": (0x00200013, "IS"),
    "ImagePositionPatient": (0x00200032, "DS"),
    "ImageOrientationPatient": (0x00200037, "DS"),
    "InConcatenationNumber": (0x00209162, "US"),
    "InConcatenationTotalNumber": (0x00209163, "US"),
    "SamplesPerPixel": (0x00280002, "US"),
    "PhotometricInterpretation": (0x00280004, "CS"),
    "PlanarConfiguration": (0x00280006, "US"),
    "NumberOfFrames": (0x00280008, "IS"),
    "Rows": (0x00280010, "US"),
    "Columns": (0x00280011, "US"),
    "PixelSpacing": (0x00280030, "DS"),
    "BitsAllocated": (0x00280100, "US"),
    "BitsStored": (0x00280101, "US"),
    "HighBit": (0x00280102, "US"),
    "PixelRepresentation": (0x00280103, "US"),
    "PixelIntensityRelationship": (0x00281040, "CS"),
    "PixelIntensityRelationshipSign": (0x00281041, "SS"),
    "RescaleIntercept": (0x00281052, "DS"),
    "RescaleSlope": (0x00281053, "DS"),
    "RescaleType": (0x00281054, "LO"),
    "ReferencedStudySequence": (0x00081110, "SQ"),
    "ReferencedInstanceSequence": (0x0008114A, "SQ"),
    "ReferencedSOPClassUID": (0x00081150, "UI"),
    "ReferencedSOPInstanceUID": (0x00081155, "UI"),
    "ThreatROIVoxelSequence": (0x40101001, "SQ"),
    "ThreatROIBase": (0x40101004, "FL"),
    "ThreatROIExtents": (0x40101005, "FL"),
    "ThreatROIBitmap": (0x40101006, "OB"),
    "PotentialThreatObjectID": (0x40101010, "US"),
    "ThreatSequence": (0x40101011, "SQ"),
    "ThreatCategory": (0x40101012, "CS"),
    "ThreatCategoryDescription": (0x40101013, "LT"),
    "ATDAssessmentFlag": (0x40101015, "CS"),
    "ATDAssessmentProbability": (0x40101016, "FL"),
    "BoundingPolygon": (0x4010101D, "FL"),
    "AbortFlag": (0x40101024, "CS"),
    "TDRType": (0x40101027, "CS"),
    "ThreatDetectionAlgorithmAndVersion": (0x40101029, "LO"),
    "AlarmDecisionTime": (0x4010102B, "DT"),
    "AlarmDecision": (0x40101031, "CS"),
    "NumberOfTotalObjects": (0x40101033, "US"),
    "NumberOfAlarmObjects": (0x40101034, "US"),
    "PTORepresentationSequence": (0x40101037, "SQ"),
    "ATDAssessmentSequence": (0x40101038, "SQ"),
    "TIPType": (0x40101039, "CS"),
    "OOIType": (0x40101042, "CS"),
    "ScanType": (0x40101048, "CS"),
}
"""Every element that is ever read, by keyword: tag, and the VR where the file says none."""
FRAME_TAGS = {_TAGS[keyword][0]: keyword for keyword in (
    "FrameType", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept",
    "RescaleSlope", "RescaleType",
)}  # fmt: skip
"""Those that functional groups may say for a frame."""

Value = tuple[str, bytes]
"""VR and bytes."""


def is_code(text: str) -> bool:
    """Whether a text is of the form of a defined term (VR CS, PS3.5 section 6.2), which free texts are not."""
    return _CODE.fullmatch(text) is not None


class Elements:
    """The allow-listed elements of a dataset."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self.order = "<" if structure.is_little_endian else ">"
        self._encodings: list[str] | None = None

    def has(self, keyword: str) -> bool:
        """Whether the dataset has the element, empty or not."""
        return _TAGS[keyword][0] in self._structure.spans

    def raw(self, keyword: str) -> Value:
        """VR as the file (or the dictionary) says it, and the bytes; both empty where the element is absent."""
        tag, usual = _TAGS[keyword]
        span = self._structure.spans.get(tag)
        if span is None:
            return "", b""
        vr = self._structure.vrs[tag]
        return usual if vr in ("", "UN") else vr, self._structure.dataset[span[0] : span[1]]

    def items(self, keyword: str, within: Item | None = None) -> Sequence[Item]:
        """Items of a sequence at the top level, or in another item. Empty if absent."""
        held = self._structure.sequences if within is None else within.items
        return held.get(_TAGS[keyword][0], ())

    def value_in(self, item: Item, keyword: str) -> Value:
        """As `raw`, of an element in an item."""
        tag, usual = _TAGS[keyword]
        vr, start, end = item.values.get(tag, ("", 0, 0))
        return usual if vr in ("", "UN") else vr, self._structure.dataset[start:end]

    def frame_values(self) -> list[dict[str, Value]]:
        """What functional groups say: first for all frames, then for each frame that has an item."""
        found: list[dict[str, Value]] = [{} for _ in range(1 + self._structure.frame_groups)]
        for frame, tag, vr, start, end in self._structure.functional:
            if keyword := FRAME_TAGS.get(tag):
                found[frame + 1][keyword] = (_TAGS[keyword][1] if vr in ("", "UN") else vr, self._structure.dataset[start:end])
        return found

    def text(self, keyword: str) -> str:
        """A text as one clean line; several values keep their backslashes. Empty if absent."""
        return self.text_of(self.raw(keyword))

    def text_of(self, value: Value) -> str:
        """The same of a value at hand."""
        content = value[1][:_MAX_VALUE_BYTES].rstrip(b" \0")
        if content.isascii() and b"\x1b" not in content:
            return clean_text(content.decode("ascii"))
        from pydicom.charset import decode_bytes

        return clean_text(decode_bytes(content, self._character_sets(), {0x0A, 0x0C, 0x0D}))

    def unit_of(self, value: Value) -> str:
        """A unit, such as HU or g/cm^3, of a value at hand; empty if the text is none."""
        text = self.text_of(value)
        return text if _UNIT.fullmatch(text) else ""

    def _character_sets(self) -> list[str]:
        from pydicom.charset import convert_encodings

        if self._encodings is None:
            declared = self.raw("SpecificCharacterSet")[1].decode("ascii", "replace").strip(" \0")
            try:
                self._encodings = convert_encodings([part.strip() for part in declared.split("\\")] if declared else None)
            except LookupError:
                self._encodings = ["iso8859"]
        return self._encodings

    def values(self, keyword: str) -> list[str]:
        """A text of several values."""
        return self.values_of(self.raw(keyword))

    def values_of(self, value: Value) -> list[str]:
        """The same of a value at hand."""
        text = self.text_of(value)
        return [part.strip() for part in text.split("\\")] if text else []

    def integer(self, keyword: str, default: int | None = None) -> int:
        """A number, written as text or as binary whatever the dictionary says.

        Raises:
            ScanRefused: absent without default, several values, or no number.
        """
        found = self.integers(keyword)
        if not found:
            if default is None:
                raise ScanRefused("malformed", f"{keyword} is missing.")
            return default
        return found[0]

    def integers(self, keyword: str) -> list[int]:
        """What a number may mean, likeliest first: toolkits write binary where text is due, and some bytes can be read both ways.

        Empty if the element is absent or empty. Raises ScanRefused if it is no number.
        """
        return self.integers_of(self.raw(keyword), keyword)

    def integers_of(self, at_hand: Value, keyword: str) -> list[int]:
        """The same of a value at hand."""
        vr, value = at_hand
        stripped = value.strip(b" \0")
        if not value or (not stripped and vr not in _BINARY):
            return []
        found: list[int] = []
        if vr not in _BINARY and re.fullmatch(rb"[+-]?[0-9]{1,12}", stripped):
            found.append(int(stripped))
        if len(value) in (2, 4, 8) and not (found and value[-1:] == b" "):
            found.append(int.from_bytes(value, "little" if self.order == "<" else "big", signed=vr in ("SS", "SL", "SV")))
        if not found:
            raise ScanRefused("malformed", f"{keyword} is {len(value)} bytes of VR {vr} and no number.")
        return found

    def numbers(self, keyword: str) -> list[float] | None:
        """Decimal numbers; None if absent or if any is none."""
        return self.numbers_of(self.raw(keyword))

    def numbers_of(self, value: Value) -> list[float] | None:
        """The same of a value at hand."""
        vr, content = value
        if kind := _BINARY.get(vr):
            size = struct.calcsize(self.order + kind)
            found: Sequence[float] = (
                [part[0] for part in struct.iter_unpack(self.order + kind, content)] if len(content) % size == 0 else []
            )
        else:
            texts = self.values_of(value)
            found = [float(text) for text in texts] if all(_DECIMAL.fullmatch(text) for text in texts) else []
        return [float(number) for number in found] if found and all(math.isfinite(number) for number in found) else None
