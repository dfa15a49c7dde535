"""Small scan files of every kind, for tests: whole, and with one thing wrong."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

PEOPLE = "DOE^JANE^SECRET"
"""Personal data put into every file; it must show up nowhere."""


def picture(seed: int = 0, height_px: int = 40, width_px: int = 32, gain: float = 0.97, bits: int = 16) -> dict[str, np.ndarray]:
    """Two planes of a made-up bag: random blocks of random thickness, air around them."""
    generator = np.random.default_rng(seed)
    thickness = np.zeros((height_px, width_px))
    for _ in range(6):
        top, left = generator.integers(2, height_px // 2), generator.integers(2, width_px // 2)
        thickness[top : top + height_px // 3, left : left + width_px // 3] += generator.uniform(0.1, 0.8)
    full = (1 << bits) - 1
    planes = {}
    for name, factor in (("high", 1.0), ("low", 1.35)):
        counts = gain * full * np.exp(-factor * thickness) + generator.normal(0, full / 900, thickness.shape)
        planes[name] = np.clip(counts, 0, full).astype(np.uint16)
    return planes


def sidecar(**changes: Any) -> bytes:
    """A sidecar; a change of None leaves the field out."""
    fields = {
        "manufacturer": "Argus",
        "model": "Line 2",
        "serial": "SN-7",
        "site": "north-terminal",
        "bag_id": "B000123",
        "issuer": "north-terminal",
        "view": "top",
        "acquired_at": "2026-03-01T08:15:30+01:00",
        "planes": ["high", "low"],
        "scan_type": "operational",
        "software": "4.1.2",
        "operator": PEOPLE,
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def png(planes: dict[str, np.ndarray] | None = None) -> bytes:
    """A 16-bit grey PNG with the planes stacked from top to bottom."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.vstack(list((planes or picture()).values()))))


def jpeg(planes: dict[str, np.ndarray] | None = None) -> bytes:
    """An 8-bit grey JPEG with the planes stacked from top to bottom; it keeps them nearly."""
    import imagecodecs

    stacked = np.vstack(list((planes or picture()).values()))
    return bytes(imagecodecs.jpeg8_encode((stacked >> 8).astype(np.uint8), level=98))


def tiff(planes: dict[str, np.ndarray] | None = None, **options: Any) -> bytes:
    """A TIFF with one page a plane, written by tifffile."""
    import tifffile

    target = io.BytesIO()
    bigtiff, byteorder = options.pop("bigtiff", False), options.pop("byteorder", "<")
    with tifffile.TiffWriter(target, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for pixels in (planes or picture()).values():
            writer.write(
                pixels,
                photometric=options.get("photometric", "minisblack"),
                metadata=None,
                **{k: v for k, v in options.items() if k != "photometric"},
            )
    return target.getvalue()


EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
SYNTAXES = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN, RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000)


def compress(pixels: np.ndarray, syntax: str) -> bytes:
    """One frame in the encoding of an encapsulated transfer syntax."""
    import imagecodecs

    if syntax == RLE:
        return _rle(pixels)
    codec = {JPEG_LOSSLESS: "ljpeg_encode", JPEG_LS: "jpegls_encode", JPEG_2000: "jpeg2k_encode"}[syntax]
    options = {"level": 0, "codecformat": "j2k"} if syntax == JPEG_2000 else {}
    return bytes(getattr(imagecodecs, codec)(np.ascontiguousarray(pixels), **options))


def _rle(pixels: np.ndarray) -> bytes:
    """RLE Lossless with literal runs only: most significant bytes first, then least (PS3.5 annex G)."""
    segments = []
    for plane in (pixels >> 8, pixels & 0xFF):
        content = plane.astype(np.uint8).tobytes()
        packed = b"".join(bytes([len(part) - 1]) + part for part in (content[at : at + 128] for at in range(0, len(content), 128)))
        segments.append(packed + b"\0" * (len(packed) % 2))
    header = np.zeros(16, "<u4")
    header[:3] = (2, 64, 64 + len(segments[0]))
    return header.tobytes() + b"".join(segments)


def dicos(
    planes: dict[str, np.ndarray] | None = None, syntax: str = EXPLICIT, *, preamble: bytes = b"", bits: int = 16, **changes: Any
) -> bytes:
    """A DICOS X-ray file with stacked energies, written by pydicom. A change names an element; None removes it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID

    content = planes or picture(bits=bits)
    stacked = np.vstack(list(content.values()))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.501.2.2")
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=preamble.ljust(128, b"\0"))
    elements: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "ImageType": ["ORIGINAL", "MULTI ENERGY", "PROJECTION", "HIGH ENERGY", "LOW ENERGY"],
        "ContentDate": "20260301",
        "ContentTime": "081530.250",
        "Modality": "DX",
        "Manufacturer": "Veritas",
        "InstitutionName": "south-terminal",
        "ManufacturerModelName": "V 620",
        "DeviceSerialNumber": "0042",
        "SeriesDescription": "side",
        "PatientID": "B000777",
        "IssuerOfPatientID": "south-terminal",
        "PatientName": PEOPLE,
        "OperatorsName": PEOPLE,
        "PatientComments": PEOPLE,
        "SoftwareVersions": "2.0.1",
        "StudyInstanceUID": "2.25.12",
        "KVP": "160",
        "ScanType": "OPERATIONAL",
        "OOIType": "BAGGAGE",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stacked.shape[0],
        "Columns": stacked.shape[1],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelIntensityRelationship": "LIN",
        "PixelIntensityRelationshipSign": 1,
    } | changes
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" not in changes:
        if syntax in (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN):
            dataset.PixelData = stacked.astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes()
        else:
            dataset.PixelData = encapsulate([compress(stacked, syntax)])
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = syntax not in (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN)
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()
