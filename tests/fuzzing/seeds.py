"""Valid files of every format and transfer syntax, as small as they can be: what mutants are made from."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from report_files import corners, place, region, tdr, threat
from scan_files import PEOPLE, png, sidecar, tiff

from fuzzing.tree import PIXEL_DATA, DicomFile, Element, encapsulated, parse, sequence, text, us
from scanloop.scans.dicom_structure import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, EXTENDED_LITTLE, IMPLICIT_LITTLE

DICOS_XRAY, DICOS_CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.501.2.2", "1.2.840.10008.5.1.4.1.1.501.1", "1.2.840.10008.5.1.4.1.1.7.3"
REPORT = "1.2.840.10008.5.1.4.1.1.501.3"
HEIGHT_PX, WIDTH_PX = 6, 5


@dataclass(frozen=True)
class Seed:
    """A file that is read, and how it may be changed."""

    name: str
    """Format and what is special."""
    content: bytes
    """The file."""
    sidecar: bytes | None = None
    """Its sidecar."""
    tree: DicomFile | None = None
    """DICOM: the same as a tree."""

    @property
    def family(self) -> str:
        """The format, to count by."""
        return self.name.split(" ")[0]


def pixels(seed: int = 1, bits: int = 16, *, height_px: int = 2 * HEIGHT_PX, width_px: int = WIDTH_PX) -> np.ndarray:
    """A picture of two bands, (H, W), uint16 or uint8."""
    numbers = np.random.default_rng(seed).integers(0, 1 << bits, (height_px, width_px))
    numbers[: height_px // 2, 1:4] //= 3
    return numbers.astype(np.uint16 if bits > 8 else np.uint8)


def _encode(codec: str, frame: np.ndarray, **options: Any) -> bytes:
    import imagecodecs

    return bytes(getattr(imagecodecs, f"{codec}_encode")(np.ascontiguousarray(frame), **options))


def _rle(frame: np.ndarray) -> bytes:
    planes = [frame >> 8, frame & 0xFF] if frame.dtype == np.uint16 else [frame]
    segments = []
    for plane in planes:
        content = plane.astype(np.uint8).tobytes()
        packed = b"".join(bytes([len(part) - 1]) + part for part in (content[at : at + 16] for at in range(0, len(content), 16)))
        segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = [64 + sum(map(len, segments[:index])) for index in range(len(segments))]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def _deflate(frame: np.ndarray) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflater.compress(frame.astype("<u2").tobytes()) + deflater.flush()


FRAMES: dict[str, tuple[str, int, Callable[[np.ndarray], bytes]]] = {
    "native encapsulated": ("1.2.840.10008.1.2.1.98", 16, lambda frame: frame.astype("<u2").tobytes()),
    "rle": ("1.2.840.10008.1.2.5", 16, _rle),
    "deflated frames": ("1.2.840.10008.1.2.8.1", 16, _deflate),
    "jpeg": ("1.2.840.10008.1.2.4.50", 8, lambda frame: _encode("jpeg8", frame, level=95)),
    "jpeg lossless": ("1.2.840.10008.1.2.4.57", 16, lambda frame: _encode("ljpeg", frame)),
    "jpeg lossless sv1": ("1.2.840.10008.1.2.4.70", 16, lambda frame: _encode("ljpeg", frame)),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", 16, lambda frame: _encode("jpegls", frame)),
    "jpeg-ls near": ("1.2.840.10008.1.2.4.81", 16, lambda frame: _encode("jpegls", frame, level=2)),
    "jpeg 2000": ("1.2.840.10008.1.2.4.90", 16, lambda frame: _encode("jpeg2k", frame, level=0, codecformat="j2k")),
    "jpeg 2000 lossy": ("1.2.840.10008.1.2.4.91", 16, lambda frame: _encode("jpeg2k", frame, level=80, codecformat="j2k")),
    "jpeg 2000 boxed": ("1.2.840.10008.1.2.4.90", 16, lambda frame: _encode("jpeg2k", frame, level=0, codecformat="jp2")),
    "htj2k": ("1.2.840.10008.1.2.4.201", 16, lambda frame: _encode("htj2k", frame, reversible=True)),
    "jpeg xl parts": ("1.2.840.10008.1.2.4.110", 16, lambda frame: _in_parts(_encode("jpegxl", frame, lossless=True, usecontainer=True))),
    "jpeg xl": ("1.2.840.10008.1.2.4.110", 16, lambda frame: _encode("jpegxl", frame, lossless=True)),
}
"""Name to transfer syntax, bits, and how a frame is compressed."""


def _meta(syntax: str, sop_class: str) -> list[Element]:
    return [
        Element(0x00020001, "OB", b"\0\1"),
        text(0x00020002, "UI", sop_class),
        text(0x00020003, "UI", "2.25.1"),
        text(0x00020010, "UI", syntax),
        text(0x00020016, "AE", PEOPLE[:16]),
    ]


def xray(syntax: str, data: Element, *, bits: int = 16, rows: int = 2 * HEIGHT_PX, **changes: Element | None) -> DicomFile:
    """A DICOS X-ray view with its two energies stacked. A change names an element by what it is, and replaces or removes it."""
    elements: dict[str, Element | None] = {
        "charset": text(0x00080005, "CS", "ISO_IR 192"),
        "image type": text(0x00080008, "CS", r"ORIGINAL\MULTI ENERGY\PROJECTION\HIGH ENERGY\LOW ENERGY"),
        "sop class": text(0x00080016, "UI", DICOS_XRAY),
        "sop instance": text(0x00080018, "UI", "2.25.1"),
        "date": text(0x00080023, "DA", "20260301"),
        "time": text(0x00080033, "TM", "081530.250"),
        "modality": text(0x00080060, "CS", "DX"),
        "manufacturer": text(0x00080070, "LO", "Veritas"),
        "site": text(0x00080080, "LO", "south-terminal"),
        "operator": text(0x00081070, "PN", PEOPLE),
        "view": text(0x0008103E, "LO", "side"),
        "model": text(0x00081090, "LO", "V 620"),
        "references": sequence(0x00081140, [text(0x00081150, "UI", DICOS_XRAY)], is_open=True),
        "person": text(0x00100010, "PN", PEOPLE),
        "bag": text(0x00100020, "LO", "B000777"),
        "issuer": text(0x00100021, "LO", "south-terminal"),
        "kvp": text(0x00180060, "DS", "160"),
        "serial": text(0x00181000, "LO", "0042"),
        "software": text(0x00181020, "LO", "2.0.1"),
        "study": text(0x0020000D, "UI", "2.25.12"),
        "samples": us(0x00280002, 1),
        "photometric": text(0x00280004, "CS", "MONOCHROME2"),
        "planar": None,
        "frames": None,
        "rows": us(0x00280010, rows),
        "columns": us(0x00280011, WIDTH_PX),
        "allocated": us(0x00280100, 8 if bits <= 8 else 16),
        "stored": us(0x00280101, bits),
        "high bit": us(0x00280102, bits - 1),
        "representation": us(0x00280103, 0),
        "relationship": text(0x00281040, "CS", "LIN"),
        "sign": Element(0x00281041, "SS", b"\1\0"),
        "intercept": None,
        "slope": None,
        "unit": None,
        "object": text(0x40101042, "CS", "BAGGAGE"),
        "scan type": text(0x40101048, "CS", "OPERATIONAL"),
        "offsets": None,
        "lengths": None,
        "data": data,
    } | changes
    found = [element for element in elements.values() if element is not None]
    return DicomFile(syntax, found, _meta(syntax, DICOS_XRAY))


def _native(numbers: np.ndarray) -> Element:
    return Element(PIXEL_DATA, "OW", numbers.astype("<u2").tobytes())


def ct(syntax: str, data: Element, depth: int = 3) -> DicomFile:
    """A DICOS CT section: signed numbers, what all frames share, and a place for each."""
    shared = [
        sequence(0x00289110, [text(0x00180050, "DS", "2.0"), text(0x00280030, "DS", r"0.9\0.9")]),
        sequence(0x00289145, [text(0x00281052, "DS", "-10"), text(0x00281053, "DS", "0.5"), text(0x00281054, "LO", "HU")]),
        sequence(0x00209116, [text(0x00200037, "DS", r"1\0\0\0\1\0")]),
    ]
    frames = [
        [
            sequence(0x00209113, [text(0x00200032, "DS", rf"0\0\{2 * index}")], is_open=True),
            sequence(0x00189329, [text(0x00089007, "CS", r"ORIGINAL\HIGH ENERGY\VOLUME")]),
        ]
        for index in range(depth)
    ]
    file = xray(
        syntax,
        data,
        rows=HEIGHT_PX,
        **{
            "image type": text(0x00080008, "CS", r"ORIGINAL\PRIMARY\VOLUME"),
            "sop class": text(0x00080016, "UI", DICOS_CT),
            "modality": text(0x00080060, "CS", "CT"),
            "frames": text(0x00280008, "IS", str(depth)),
            "representation": us(0x00280103, 1),
            "unit": sequence(0x52009229, shared),
            "slope": None,
            "offsets": sequence(0x52009230, *frames, is_open=True),
        },
    )
    file.meta = _meta(syntax, DICOS_CT)
    file.dataset.sort(key=lambda element: element.tag)
    return file


def report(syntax: str) -> DicomFile:
    """A Threat Detection Report of a machine: one threat in two places, one of them with a mask. Its last element is one that no report lacks."""

    def floats(tag: int, *numbers: float) -> Element:
        return Element(tag, "FL", struct.pack(f"<{len(numbers)}f", *numbers))

    scan = [text(0x00081150, "UI", DICOS_XRAY), text(0x00081155, "UI", "2.25.1")]
    masked = sequence(0x40101001, [floats(0x40101004, 1, 2, 0), floats(0x40101005, 3, 4, 1), Element(0x40101006, "OB", b"\x6d\x0b")])
    places = [[sequence(0x0008114A, scan), masked], [sequence(0x0008114A, scan, is_open=True), floats(0x4010101D, 0, 0, 0, 2.5, 3.5, 0)]]
    assessment = [text(0x40101012, "CS", "PI"), text(0x40101013, "LT", "knife"), text(0x40101015, "CS", "THREAT"), floats(0x40101016, 0.75)]
    threat = [us(0x40101010, 7), sequence(0x40101037, *places, is_open=True), sequence(0x40101038, assessment)]
    dataset = [
        text(0x00080016, "UI", REPORT),
        text(0x00080018, "UI", "2.25.9"),
        text(0x00080023, "DA", "20260301"),
        text(0x00080033, "TM", "081530.250"),
        text(0x00080080, "LO", "south-terminal"),
        text(0x00081070, "PN", PEOPLE),
        sequence(0x00081072, [text(0x00080080, "LO", PEOPLE)]),
        sequence(0x00081110, scan),
        text(0x00100010, "PN", PEOPLE),
        text(0x00100020, "LO", "B000777"),
        text(0x0020000D, "UI", "2.25.12"),
        sequence(0x40101011, threat),
        text(0x40101024, "CS", "SUCCESS"),
        text(0x40101027, "CS", "MACHINE"),
        text(0x40101029, "LO", r"Maker\4.2"),
        text(0x4010102B, "DT", "20260301081530.250000+0000"),
        text(0x40101031, "CS", "ALARM"),
    ]
    return DicomFile(syntax, dataset, _meta(syntax, REPORT))


def _dicom_seeds() -> dict[str, DicomFile]:
    stacked = pixels()
    seeds = {
        "explicit": xray(EXPLICIT_LITTLE, _native(stacked)),
        "implicit": xray(IMPLICIT_LITTLE, _native(stacked)),
        "big": xray(EXPLICIT_BIG, _native(stacked)),
        "deflated": xray(DEFLATED_LITTLE, _native(stacked)),
        "extended": xray(EXTENDED_LITTLE, _native(stacked)),
        "12 bits inverted": xray(EXPLICIT_LITTLE, _native(stacked >> 4), bits=12, sign=Element(0x00281041, "SS", b"\xff\xff")),
        "two frames": xray(
            EXPLICIT_LITTLE, _native(stacked), rows=HEIGHT_PX, frames=text(0x00280008, "IS", "2"),
            **{"image type": text(0x00080008, "CS", r"ORIGINAL\PRIMARY")},
        ),
        "capture": xray(
            EXPLICIT_LITTLE, _native(stacked), **{"sop class": text(0x00080016, "UI", CAPTURE), "modality": text(0x00080060, "CS", "OT")}
        ),
        "ct explicit": ct(EXPLICIT_LITTLE, _native(pixels(height_px=3 * HEIGHT_PX))),
        "ct implicit": ct(IMPLICIT_LITTLE, _native(pixels(height_px=3 * HEIGHT_PX))),
        "ct rle": ct("1.2.840.10008.1.2.5", encapsulated([_rle(pixels(seed, height_px=HEIGHT_PX)) for seed in range(3)], table=True)),
        "ct jpeg-ls": ct("1.2.840.10008.1.2.4.80", encapsulated([_encode("jpegls", pixels(seed, height_px=HEIGHT_PX)) for seed in range(3)])),
        "report": report(EXPLICIT_LITTLE),
        "report implicit": report(IMPLICIT_LITTLE),
        "report big": report(EXPLICIT_BIG),
        "colour": xray(
            EXPLICIT_LITTLE, Element(PIXEL_DATA, "OB", np.repeat(pixels(bits=8).ravel(), 3).tobytes()), bits=8, samples=us(0x00280002, 3),
            photometric=text(0x00280004, "CS", "RGB"), planar=us(0x00280006, 1),
        ),
    }  # fmt: skip
    for name, (syntax, bits, compress) in FRAMES.items():
        seeds[name] = xray(syntax, encapsulated([compress(pixels(bits=bits))]), bits=bits)
    bare = seeds["explicit"].copy()
    bare.preamble = bare.magic = b""
    bare.meta = []
    seeds["bare"] = bare
    return seeds


def _report_seeds() -> dict[str, DicomFile]:
    """Threat Detection Reports: of the ground truth with a mask and a polygon, of a machine, in three encodings, and one that finds nothing."""
    mask = np.random.default_rng(3).integers(0, 2, (2, 3, 5)).astype(bool)
    found = [
        threat(1, "knife", [place(["2.25.1"], polygon=corners(1, 1, 3, 2), regions=[region((1, 1, 0), (5, 3, 2), mask)])]),
        threat(2, "gun", [place(["2.25.1"], regions=[region((0, 0, 0), (2, 2, 1))]), place()], flag="HIGH_THREAT", probability=0.5),
    ]
    truth = parse(tdr(found, references=["2.25.1"]))
    seeds = {
        "truth": truth,
        "machine": parse(tdr(found[:1], TDRType="MACHINE", ThreatDetectionAlgorithmAndVersion=["Veritas", "4.2", "fast"])),
        "clear": parse(tdr([], TDRType="OPERATOR")),
    }
    for name, syntax in (("implicit", IMPLICIT_LITTLE), ("big", EXPLICIT_BIG), ("deflated", DEFLATED_LITTLE)):
        other = truth.copy()
        other.syntax = syntax
        for element in other.meta:
            if element.tag == 0x00020010:
                element.value = syntax.encode() + b"\0" * (len(syntax) % 2)
        seeds[name] = other
    return seeds


@cache
def all_seeds() -> dict[str, Seed]:
    """Every seed, by name."""
    seeds = [Seed(f"dicom {name}", tree.encode(), None, tree) for name, tree in _dicom_seeds().items()]
    seeds += [Seed(f"report {name}", tree.encode(), None, tree) for name, tree in _report_seeds().items()]
    planes = {"high": pixels(1, height_px=HEIGHT_PX), "low": pixels(2, height_px=HEIGHT_PX)}
    small = {name: plane >> 8 for name, plane in planes.items()}
    about = sidecar()
    seeds += [
        Seed("png 16", png(planes), about),
        Seed("png 8", png({name: plane.astype(np.uint8) for name, plane in small.items()}), about),
        Seed("png colours", _encode("png", np.dstack([pixels(seed, 8, height_px=HEIGHT_PX) for seed in range(3)])), _named("r", "g", "b")),
        Seed("png text", png_with_text(png(planes)), about),
        Seed("png interlaced", interlaced(np.vstack(list(planes.values()))), about),
        Seed("json", png(planes), _rich(about)),
    ]
    grey = np.vstack([plane.astype(np.uint8) for plane in small.values()])
    colours = np.dstack([pixels(seed, 8, height_px=HEIGHT_PX) for seed in range(3)])
    exif = b"\xff\xe1" + struct.pack(">H", 8 + len(PEOPLE)) + b"Exif\0\0" + PEOPLE.encode()
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(PEOPLE)) + PEOPLE.encode()
    stream = _encode("jpeg8", grey, level=95)
    seeds += [
        Seed("jpeg grey", stream, about),
        Seed("jpeg colours", _encode("jpeg8", colours, level=90), _named("red", "green", "blue")),
        Seed("jpeg progressive", _encode("jpeg8", grey, level=90, optimize=True), about),
        Seed("jpeg exif", stream[:2] + exif + comment + stream[2:], about),
    ]
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "big-endian": {"byteorder": ">"},
        "bigtiff": {"bigtiff": True},
        "deflate": {"compression": "zlib", "predictor": True},
        "lzw": {"compression": "lzw"},
        "packbits": {"compression": "packbits"},
        "zstd": {"compression": "zstd"},
        "strips": {"rowsperstrip": 2},
        "tiles": {"tile": (16, 16), "compression": "zlib"},
        "inverted": {"photometric": "miniswhite"},
    }
    seeds += [Seed(f"tiff {name}", tiff(planes, **choices), about) for name, choices in options.items()]
    blocks = {name: pixels(number, 8, height_px=16, width_px=16) for number, name in enumerate(planes)}
    seeds.append(Seed("tiff jpeg", tiff(blocks, compression="jpeg"), about))
    seeds.append(
        Seed(
            "tiff jpeg colours",
            tiff({"all": np.dstack([*blocks.values(), blocks["high"]])}, compression="jpeg", photometric="rgb"),
            _named("r", "g", "b"),
        )
    )
    return {seed.name: seed for seed in seeds}


def _named(*planes: str) -> bytes:
    return sidecar(planes=list(planes))


def _rich(about: bytes) -> bytes:
    return json.dumps(json.loads(about) | {"is_projected": False, "extra": {"nested": [1, 2.5, None, True]}, "passenger": PEOPLE}).encode()


def interlaced(picture: np.ndarray) -> bytes:
    """A grey PNG of 16 bits in the seven passes of Adam7, without filters."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes() for left, top, across, down in passes for row in picture[top::down, left::across] if row.size
    )
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 16, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _in_parts(file: bytes) -> bytes:
    """A boxed JPEG XL codestream in two parts."""
    stream = file[file.index(b"jxlc") + 4 :]
    boxes = [(b"JXL ", b"\r\n\x87\n"), (b"ftyp", b"jxl \0\0\0\0jxl ")]
    boxes += [(b"jxlp", struct.pack(">I", 0) + stream[:20]), (b"jxlp", struct.pack(">I", 1 << 31 | 1) + stream[20:])]
    return b"".join(struct.pack(">I", 8 + len(body)) + kind + body for kind, body in boxes)


def png_with_text(content: bytes) -> bytes:
    """The same PNG with texts and an EXIF block that name a person."""
    chunks = [
        (b"tEXt", b"Author\0" + PEOPLE.encode()),
        (b"zTXt", b"Comment\0\0" + zlib.compress(PEOPLE.encode())),
        (b"eXIf", b"II*\0" + PEOPLE.encode()),
    ]
    extra = b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    return content[:33] + extra + content[33:]
