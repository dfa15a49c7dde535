"""DICOM and DICOS X-ray files as scans.

One file is one view. Its energies are either the file's only plane, named by ImageType (0008,0008), or, where ImageType value 2 is MULTI ENERGY,
bands of equal height stacked in the rows, named from top to bottom by values 4 and on. A file with several frames keeps one energy a frame, named
the same way.

Counts are proportional to beam intensity and bright is air, as PixelIntensityRelationship (0028,1040) LIN and its Sign (0028,1041) +1 say; sign -1 is
turned round. Bits beyond BitsStored (0028,0101) are ignored (PS3.5 section 8.1.1).

Only an allow-list of elements is ever converted, so personal data stay in the received bytes.

Source: NEMA IIC 1 (DICOS); DICOM PS3.3 C.7.6.3, C.8.11.3.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from scanloop.scans.content import ScanContent, ScanMetadata, clean_text
from scanloop.scans.dicom_structure import ENCAPSULATED, PIXEL_DATA, PREAMBLE_BYTES, Structure, read_structure
from scanloop.scans.errors import ScanRefused
from scanloop.scans.frames import decode_compressed, decode_native
from scanloop.scans.limits import check_plane_sizes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOS_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.501.2.1", "1.2.840.10008.5.1.4.1.1.501.2.2"})
"""DICOS X-ray image for presentation and for processing."""
DICOM_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"})
"""Computed and digital radiography, which some scanners label their files with."""
ENERGIES = {
    "HIGH ENERGY": "high",
    "LOW ENERGY": "low",
    "Z_EFFECTIVE": "zeff",
    "COMPTON": "compton",
    "PHOTOELECTRIC": "photoelectric",
    "DENSITY": "density",
}
"""Value of ImageType to plane name."""
_MAX_VALUE_BYTES = 2048
"""More of a text than this is not converted: none of the elements may be that long."""
_NOT_PROJECTED = frozenset({"", "NONE", "NO"})
_BINARY_VRS = frozenset({"US", "UL", "SS", "SL", "UV", "SV"})
_TAGS = {
    "SpecificCharacterSet": 0x00080005,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "AcquisitionDate": 0x00080022,
    "ContentDate": 0x00080023,
    "AcquisitionDateTime": 0x0008002A,
    "AcquisitionTime": 0x00080032,
    "ContentTime": 0x00080033,
    "Manufacturer": 0x00080070,
    "InstitutionName": 0x00080080,
    "TimezoneOffsetFromUTC": 0x00080201,
    "SeriesDescription": 0x0008103E,
    "ManufacturerModelName": 0x00081090,
    "PatientID": 0x00100020,
    "IssuerOfPatientID": 0x00100021,
    "KVP": 0x00180060,
    "DeviceSerialNumber": 0x00181000,
    "SoftwareVersions": 0x00181020,
    "DateOfLastCalibration": 0x00181200,
    "StudyInstanceUID": 0x0020000D,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelIntensityRelationship": 0x00281040,
    "PixelIntensityRelationshipSign": 0x00281041,
    "TIPType": 0x40101039,
    "OOIType": 0x40101042,
    "ScanType": 0x40101048,
}
"""Every element that is ever read, by keyword."""


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes are a DICOM preamble."""
    return head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM"


def read_dicom(content: bytes) -> ScanContent:
    """Read a DICOM or DICOS X-ray file.

    Raises:
        ScanRefused: it is incomplete, contradictory, too large, or no X-ray view.
    """
    structure = read_structure(content)
    header = _Header(structure)
    sop_class = header.text("SOPClassUID")
    if sop_class not in DICOS_CLASSES | DICOM_CLASSES:
        raise ScanRefused("unsupported_kind", "Expected a DICOS or DICOM X-ray image; the SOP class is another.")
    bits = header.integer("BitsStored")
    frames = _frames(structure, header, bits)
    planes = _planes(header, frames)
    return ScanContent(
        planes=planes,
        bits=dict.fromkeys(planes, bits),
        metadata=_metadata(header, structure),
        source_format="dicos" if sop_class in DICOS_CLASSES else "dicom",
    )


class _Header:
    """The allow-listed elements of a dataset, converted without trusting their VR."""

    def __init__(self, structure: Structure) -> None:
        from pydicom.charset import convert_encodings
        from pydicom.filereader import read_dataset
        from pydicom.tag import Tag

        self._order: str = "little" if structure.is_little_endian else "big"
        self._dataset: Dataset = read_dataset(
            BytesIO(structure.dataset),
            structure.is_implicit,
            structure.is_little_endian,
            stop_when=lambda tag, _vr, _length: tag >= PIXEL_DATA,
            specific_tags=[Tag(tag) for tag in _TAGS.values()],
        )
        declared = self._raw("SpecificCharacterSet")[1].decode("ascii", "replace").strip(" \0")
        try:
            self._encodings = convert_encodings([part.strip() for part in declared.split("\\")] if declared else None)
        except LookupError:
            self._encodings = ["iso8859"]

    def _raw(self, keyword: str) -> tuple[str, bytes]:
        """VR as the file (or the dictionary) says it, and the bytes."""
        from pydicom.datadict import dictionary_VR

        tag = _TAGS[keyword]
        if tag not in self._dataset:
            return "", b""
        element = self._dataset.get_item(tag)
        value = getattr(element, "value", None)
        if not isinstance(value, bytes):
            # pydicom has converted a few elements on its own (character set); only plain text can be meant.
            return "LO", "\\".join(map(str, value if isinstance(value, (list, tuple)) else [value])).encode() if value else b""
        return str(getattr(element, "VR", None) or dictionary_VR(tag)), value

    def text(self, keyword: str) -> str:
        """A text as one clean line; several values keep their backslashes. Empty if absent."""
        from pydicom.charset import decode_bytes

        return clean_text(decode_bytes(self._raw(keyword)[1][:_MAX_VALUE_BYTES].rstrip(b" \0"), self._encodings, {0x0A, 0x0C, 0x0D}))

    def values(self, keyword: str) -> list[str]:
        """A text of several values."""
        return [part.strip() for part in self.text(keyword).split("\\")] if self.text(keyword) else []

    def integer(self, keyword: str, default: int | None = None) -> int:
        """A number, written as text or as binary whatever the dictionary says.

        Raises:
            ScanRefused: absent without default, several values, or no number.
        """
        vr, value = self._raw(keyword)
        stripped = value.strip(b" \0")
        if not stripped and vr not in _BINARY_VRS:
            if default is None:
                raise ScanRefused("malformed", f"{keyword} is missing.")
            return default
        if vr not in _BINARY_VRS and re.fullmatch(rb"[+-]?[0-9]{1,12}", stripped):
            return int(stripped)
        if len(value) in (2, 4, 8):
            return int.from_bytes(value, self._order, signed=vr in ("SS", "SL", "SV"))  # type: ignore[arg-type]
        raise ScanRefused("malformed", f"{keyword} is {len(value)} bytes of VR {vr} and no number.")


def _frames(structure: Structure, header: _Header, bits: int) -> list[np.ndarray]:
    """Every frame (H, W) uint16 with bright air, after all arithmetic has been checked."""
    height_px, width_px = header.integer("Rows"), header.integer("Columns")
    count = header.integer("NumberOfFrames", 1)
    allocated = header.integer("BitsAllocated")
    check_plane_sizes(count, height_px, width_px, allocated)
    if header.integer("SamplesPerPixel", 1) != 1 or header.text("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise ScanRefused("unsupported_pixels", "Expected one sample a pixel and MONOCHROME1 or MONOCHROME2.")
    if allocated not in (8, 16) or not 1 <= bits <= allocated or header.integer("HighBit", bits - 1) != bits - 1:
        raise ScanRefused(
            "unsupported_pixels", f"Expected 8 or 16 bits allocated and the stored ones lowest, found {allocated} and {bits}."
        )
    if header.integer("PixelRepresentation", 0) != 0:
        raise ScanRefused("unsupported_pixels", "Expected counts, found signed numbers.")
    if header.text("PixelIntensityRelationship") not in ("", "LIN"):
        raise ScanRefused("unsupported_pixels", "Expected counts proportional to intensity (LIN).")
    if PIXEL_DATA not in structure.spans:
        raise ScanRefused("malformed", "There is no PixelData.")
    frame_bytes = height_px * width_px * (allocated // 8)
    if structure.transfer_syntax in ENCAPSULATED:
        codec = ENCAPSULATED[structure.transfer_syntax]
        frames = [decode_compressed(part, codec, height_px, width_px, allocated) for part in _compressed_frames(structure, count)]
    else:
        start, end = structure.spans[PIXEL_DATA]
        if not 0 <= end - start - count * frame_bytes <= (count * frame_bytes) % 2:
            code = "truncated" if end - start < count * frame_bytes else "malformed"
            needed = f"{count} frames of {height_px} x {width_px} x {allocated} bits need {count * frame_bytes} bytes"
            raise ScanRefused(code, f"{needed}, found {end - start}.")
        cuts = (structure.dataset[start + at * frame_bytes : start + (at + 1) * frame_bytes] for at in range(count))
        frames = [decode_native(cut, height_px, width_px, allocated, is_little_endian=structure.is_little_endian) for cut in cuts]
    full = np.uint16((1 << bits) - 1)
    inverted = header.integer("PixelIntensityRelationshipSign", 1) in (-1, 0xFFFF)
    return [(full - (frame & full)) if inverted else frame & full for frame in frames]


def _compressed_frames(structure: Structure, count: int) -> list[bytes]:
    """The bytes of each frame: one fragment each, all fragments of the only frame, or as the offset table says (PS3.5 A.4)."""
    if not structure.fragments:
        raise ScanRefused("malformed", "Encapsulated PixelData has no offset table item.")
    (table_start, table_end), *fragments = structure.fragments
    content = structure.dataset
    if count == 1 and fragments:
        return [b"".join(content[start:end] for start, end in fragments)]
    if len(fragments) == count:
        return [content[start:end] for start, end in fragments]
    offsets = np.frombuffer(content[table_start : table_start + (table_end - table_start) // 4 * 4], "<u4").tolist()
    origin = table_end
    groups: dict[int, list[bytes]] = {offset: [] for offset in offsets}
    for start, end in fragments:
        owner = max((offset for offset in offsets if origin + offset <= start - 8), default=None)
        if owner is not None:
            groups[owner].append(content[start:end])
    if len(groups) != count or not all(groups.values()):
        raise ScanRefused("malformed", f"{len(fragments)} fragments cannot be told apart into {count} frames.")
    return [b"".join(groups[offset]) for offset in sorted(groups)]


def _planes(header: _Header, frames: list[np.ndarray]) -> dict[str, np.ndarray]:
    kind = header.values("ImageType")
    stacked = len(kind) > 1 and kind[1] == "MULTI ENERGY"
    bands = kind[3:] if stacked else [value for value in kind[1:] if value in ENERGIES][:1] or ["HIGH ENERGY"]
    names = [ENERGIES.get(band, "") for band in bands]
    if not names or "" in names or len(set(names)) != len(names):
        raise ScanRefused("unsupported_pixels", "ImageType says MULTI ENERGY and does not name the energies it holds.")
    if len(frames) == len(names):
        return dict(zip(names, frames, strict=True))
    if len(frames) != 1 or len(frames[0]) % len(names):
        raise ScanRefused("malformed", f"{len(frames)} frames of {len(frames[0])} rows cannot hold {len(names)} energies.")
    return dict(zip(names, np.split(frames[0], len(names)), strict=True))


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


def _acquired_at(header: _Header) -> datetime | None:
    offset = header.text("TimezoneOffsetFromUTC")
    if whole := re.fullmatch(r"([0-9.]{8,21})([+-]\d{4})?", header.text("AcquisitionDateTime")):
        return _moment(whole[1], "", whole[2] or offset)
    for kind in ("Acquisition", "Content"):
        if moment := _moment(header.text(f"{kind}Date"), header.text(f"{kind}Time"), offset):
            return moment
    return None


def _uid_or_none(uid: str) -> str | None:
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else None


def _metadata(header: _Header, structure: Structure) -> ScanMetadata:
    software, uid, kvp = header.text("SoftwareVersions"), header.text("StudyInstanceUID"), header.text("KVP")
    calibrated = header.text("DateOfLastCalibration")
    found: dict[str, str | int | float | None] = {
        "software": software if re.fullmatch(r"[\w .\\-]{0,31}\d[\w .\\-]{0,31}", software) else None,
        "sop_class_uid": _uid_or_none(header.text("SOPClassUID")),
        "sop_instance_uid": _uid_or_none(header.text("SOPInstanceUID")),
        "study_uid": _uid_or_none(uid),
        "kvp": float(kvp) if re.fullmatch(r"\d{1,4}(\.\d{1,4})?", kvp) else None,
        "calibrated_on": calibrated if re.fullmatch(r"\d{8}", calibrated) else None,
        "object_type": kind if (kind := header.text("OOIType")) in ("BAGGAGE", "CARGO", "PERSON", "VEHICLE", "PARCEL", "OTHER") else None,
        "transfer_syntax": structure.transfer_syntax,
    }
    scan_type = header.text("ScanType").lower()
    return ScanMetadata(
        manufacturer=header.text("Manufacturer"),
        model=header.text("ManufacturerModelName"),
        serial=header.text("DeviceSerialNumber"),
        site=header.text("InstitutionName"),
        issuer=header.text("IssuerOfPatientID"),
        bag=header.text("PatientID"),
        view=header.text("SeriesDescription"),
        acquired_at=_acquired_at(header),
        scan_type=scan_type if re.fullmatch(r"[a-z_ ]{1,16}", scan_type) else "operational",
        is_projected=header.text("TIPType").upper() not in _NOT_PROJECTED,
        attributes={name: value for name, value in found.items() if value is not None},
    )
