"""DICOM files from nothing but bytes: a writer that shares no code with the reader, nor with the library that other tests write with.

Source: DICOM PS3.5 section 7 (elements), annex A (transfer syntaxes), annex G (RLE); PS3.10 section 7 (file meta).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

UID = "1.2.840.10008.1.2"
IMPLICIT, EXPLICIT, DEFLATED, BIG = UID, f"{UID}.1", f"{UID}.1.99", f"{UID}.2"
EXTENDED = f"{UID}.1.64"
_LONG = ("OB", "OW", "SQ", "UN", "UT")
Value = tuple[str, Any]
"""VR, and text, numbers, bytes, or items of a sequence."""


def element(tag: int, vr: str, value: Any, syntax: str, *, is_open: bool = False) -> bytes:
    """One element in a transfer syntax; a sequence whose length is left open where `is_open`."""
    order = ">" if syntax == BIG else "<"
    match value:
        case str():
            content = value.encode()
        case bytes():
            content = value
        case list() if vr == "SQ":
            items = [dataset(item, syntax, is_open=is_open) for item in value]
            starts = [struct.pack(order + "HHI", 0xFFFE, 0xE000, 0xFFFFFFFF if is_open else len(item)) for item in items]
            end = struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0) if is_open else b""
            content = b"".join(start + item + end for start, item in zip(starts, items, strict=True))
            content += struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0) if is_open else b""
        case _:
            kind = {"US": "H", "SS": "h", "UL": "I", "FD": "d", "FL": "f", "OV": "Q"}[vr]
            content = b"".join(struct.pack(order + kind, number) for number in (value if isinstance(value, list) else [value]))
    content += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(content) % 2)
    length = 0xFFFFFFFF if is_open and vr == "SQ" else len(content)
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return head + struct.pack("<I", length) + content
    if syntax == EXTENDED and tag == 0x7FE00010:
        return head + vr.encode() + struct.pack("<HQ", 0, length) + content
    return (
        head + vr.encode() + (struct.pack(order + "HI", 0, length) if vr in (*_LONG, "OV") else struct.pack(order + "H", length)) + content
    )


def dataset(elements: Mapping[int, Value], syntax: str, *, is_open: bool = False) -> bytes:
    """Elements in the order of their tags."""
    return b"".join(element(tag, *elements[tag], syntax, is_open=is_open) for tag in sorted(elements))


def encapsulated(frames: Sequence[bytes], *, has_table: bool = True, pieces: int = 1, tag: int = 0x7FE00010) -> bytes:
    """PixelData of compressed frames, each in so many fragments, with or without a basic offset table."""
    table, body = [], b""
    for frame in frames:
        table.append(len(body))
        size = max(2, -(-len(frame) // pieces // 2) * 2)
        for at in range(0, len(frame), size):
            part = frame[at : at + size]
            part += b"\0" * (len(part) % 2)
            body += struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part
    offsets = struct.pack(f"<{len(table)}I", *table) if has_table else b""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"OB" + struct.pack("<HI", 0, 0xFFFFFFFF)
    return head + struct.pack("<HHI", 0xFFFE, 0xE000, len(offsets)) + offsets + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def part_10(
    elements: Mapping[int, Value], syntax: str, pixels: bytes = b"", *, is_open: bool = False, preamble: bytes = b"\0" * 128 + b"DICM"
) -> bytes:
    """A whole file; `pixels` is encapsulated PixelData, that goes last."""
    uid = elements[0x00080016][1]
    meta = {0x00020001: ("OB", b"\0\1"), 0x00020002: ("UI", uid), 0x00020003: ("UI", "1.2.3.4"), 0x00020010: ("UI", syntax)}
    head = dataset(meta, EXPLICIT)
    body = dataset(elements, syntax, is_open=is_open) + pixels
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-15)
        body = deflater.compress(body) + deflater.flush()
        body += b"\0" * (len(body) % 2)
    return preamble + element(0x00020000, "UL", len(head), EXPLICIT) + head + body


@dataclass(frozen=True)
class Layout:
    """How pixels lie in cells."""

    allocated: int = 16
    """Bits of a cell."""
    stored: int = 16
    """Bits that count."""
    high_bit: int | None = None
    """The highest of them; None: they are the lowest of the cell."""
    is_signed: bool = False
    """Whether numbers are signed."""
    samples: int = 1
    """Samples of a pixel."""
    photometric: str = "MONOCHROME2"
    """Photometric interpretation."""
    planar: int = 0
    """Planar configuration."""
    frames: int = 1
    """Frames."""

    @property
    def shift(self) -> int:
        """Bits below those that count."""
        return 0 if self.high_bit is None else self.high_bit + 1 - self.stored

    def numbers(self, height_px: int = 12, width_px: int = 17, *, has_ends: bool = True) -> np.ndarray:
        """A smooth picture (N, H, W, S); it reaches both ends of the range at two pixels of each frame, but for codecs that want it smooth."""
        low, full = (-(1 << self.stored - 1), (1 << self.stored) - 1) if self.is_signed else (0, (1 << self.stored) - 1)
        frame, y, x, sample = np.mgrid[: self.frames, :height_px, :width_px, : self.samples]
        wave = 0.5 + 0.35 * np.sin(y / 5 + frame) * np.cos(x / 6 + sample)
        numbers = (low + full * wave).astype(np.int64)
        if has_ends:
            numbers[:, 0, 0], numbers[:, 0, 1] = low, low + full
        return numbers

    def cells(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers as they lie in cells, (N, H, W, S)."""
        masked = (numbers & ((1 << self.stored) - 1)) << self.shift
        if self.is_signed and not self.shift:
            masked = numbers & ((1 << self.allocated) - 1)
        return masked.astype(f"u{self.allocated // 8}")

    def elements(self, height_px: int, width_px: int) -> dict[int, Value]:
        """What a dataset says about them."""
        found: dict[int, Value] = {
            0x00280002: ("US", self.samples),
            0x00280004: ("CS", self.photometric),
            0x00280010: ("US", height_px),
            0x00280011: ("US", width_px),
            0x00280100: ("US", self.allocated),
            0x00280101: ("US", self.stored),
            0x00280102: ("US", self.stored - 1 if self.high_bit is None else self.high_bit),
            0x00280103: ("US", int(self.is_signed)),
        }
        if self.samples > 1:
            found[0x00280006] = ("US", self.planar)
        if self.frames > 1:
            found[0x00280008] = ("IS", str(self.frames))
        return found


def native(cells: np.ndarray, layout: Layout, syntax: str = EXPLICIT) -> bytes:
    """All frames as plain numbers."""
    content = np.moveaxis(cells, -1, 1) if layout.planar else cells
    return content.astype(content.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()


def rle(cells: np.ndarray) -> bytes:
    """One frame (H, W, S) as RLE Lossless: a segment for each byte of each sample, the highest first, of runs and literals."""
    size = cells.dtype.itemsize
    columns = [
        cells[..., sample].astype(f">u{size}").view(np.uint8).reshape(-1, size)[:, byte]
        for sample in range(cells.shape[-1])
        for byte in range(size)
    ]
    segments = [bytes(imagecodecs.packbits_encode(column.tobytes())) for column in columns]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    places = np.zeros(16, "<u4")
    places[0] = len(segments)
    places[1 : len(segments) + 1] = 64 + np.cumsum([0, *map(len, segments[:-1])])
    return places.tobytes() + b"".join(segments)


def _progressive(cells: np.ndarray) -> bytes:
    if cells.dtype != np.uint8:
        raise ValueError("Pillow writes 8 bits.")
    target = io.BytesIO()
    Image.fromarray(cells).save(target, "JPEG", quality=95, progressive=True, subsampling=0)
    return target.getvalue()


def _lossy_jpeg(cells: np.ndarray) -> bytes:
    bits = 8 if cells.dtype == np.uint8 else 12
    if int(cells.max()) >> bits:
        raise ValueError("JPEG keeps 12 bits at most.")
    options = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": "444"} if cells.ndim == 3 else {}
    return bytes(imagecodecs.jpeg8_encode(cells, level=95, bitspersample=bits, **options))


def _lossless_jpeg(predictor: int) -> Callable[[np.ndarray], bytes]:
    def encode(cells: np.ndarray) -> bytes:
        options = {"colorspace": "RGB", "outcolorspace": "RGB"} if cells.ndim == 3 else {}
        return bytes(imagecodecs.jpeg8_encode(cells, lossless=True, predictor=predictor, bitspersample=8 * cells.itemsize, **options))

    return encode


def _deflate(cells: np.ndarray) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(cells.tobytes()) + deflater.flush()


def _jpeg_as_jpegxl(cells: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpegxl_encode_jpeg(_lossy_jpeg(cells)))


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    f"{UID}.1.98": lambda cells: cells.tobytes(),
    f"{UID}.4.50": _lossy_jpeg,
    f"{UID}.4.51": _lossy_jpeg,
    f"{UID}.4.53": _progressive,
    f"{UID}.4.55": _progressive,
    f"{UID}.4.57": _lossless_jpeg(4),
    f"{UID}.4.70": _lossless_jpeg(1),
    f"{UID}.4.80": lambda cells: bytes(imagecodecs.jpegls_encode(cells)),
    f"{UID}.4.81": lambda cells: bytes(imagecodecs.jpegls_encode(cells, level=2)),
    f"{UID}.4.90": lambda cells: bytes(imagecodecs.jpeg2k_encode(cells, level=0, codecformat="j2k", reversible=True)),
    f"{UID}.4.91": lambda cells: bytes(imagecodecs.jpeg2k_encode(cells, level=70, codecformat="j2k")),
    f"{UID}.4.92": lambda cells: bytes(imagecodecs.jpeg2k_encode(cells, level=0, codecformat="j2k", reversible=True)),
    f"{UID}.4.93": lambda cells: bytes(imagecodecs.jpeg2k_encode(cells, level=70, codecformat="j2k")),
    f"{UID}.4.110": lambda cells: bytes(imagecodecs.jpegxl_encode(cells, lossless=True)),
    f"{UID}.4.111": _jpeg_as_jpegxl,
    f"{UID}.4.112": lambda cells: bytes(imagecodecs.jpegxl_encode(cells, distance=0.1)),
    f"{UID}.4.201": lambda cells: bytes(imagecodecs.htj2k_encode(cells, reversible=True)),
    f"{UID}.4.202": lambda cells: bytes(imagecodecs.htj2k_encode(cells, reversible=True, tlm=True)),
    f"{UID}.4.203": lambda cells: bytes(imagecodecs.htj2k_encode(cells, reversible=False)),
    f"{UID}.5": lambda cells: rle(cells if cells.ndim == 3 else cells[..., None]),
    f"{UID}.8.1": _deflate,
}
"""Transfer syntax to what makes a frame of cells (H, W) or (H, W, S)."""
AS_IT_IS = frozenset({f"{UID}.1.98", f"{UID}.8.1"})
"""Encodings that leave the order of samples as the dataset says it."""
LOSSY = frozenset(f"{UID}.4.{number}" for number in (50, 51, 53, 55, 81, 91, 93, 111, 112, 203))
NEEDS_SIGN = frozenset(f"{UID}.4.{number}" for number in (90, 91, 92, 93, 201, 202, 203))
"""Codecs whose streams say whether numbers are signed."""


def scan_file(
    sop_class: str, syntax: str, layout: Layout, extra: Mapping[int, Value] | None = None, **options: Any
) -> tuple[bytes, np.ndarray]:
    """A file with pixels, and the numbers (N, H, W, S) in it. Raises what an encoder raises that does not take such pixels."""
    numbers = layout.numbers(has_ends=syntax not in LOSSY)
    cells = layout.cells(numbers)
    elements: dict[int, Value] = {
        0x00080016: ("UI", sop_class),
        0x00080018: ("UI", "1.2.3.4"),
        0x00080060: ("CS", "DX"),
        0x00100020: ("LO", "B1"),
        0x0020000D: ("UI", "1.2.3"),
        **layout.elements(*cells.shape[1:3]),
        **(extra or {}),
    }
    if syntax not in ENCODERS:
        elements[0x7FE00010] = ("OB" if layout.allocated == 8 and syntax != IMPLICIT else "OW", native(cells, layout, syntax))
        return part_10(elements, syntax, **options), numbers
    if syntax in NEEDS_SIGN and layout.is_signed:
        cells = numbers.astype(f"i{layout.allocated // 8}")
    if layout.planar and syntax in AS_IT_IS:
        cells = np.moveaxis(cells, -1, 1)
    frames = [ENCODERS[syntax](np.ascontiguousarray(frame[..., 0] if layout.samples == 1 else frame)) for frame in cells]
    pieces, has_table = options.pop("pieces", 1), options.pop("has_table", True)
    pixels = encapsulated(frames, has_table=has_table, pieces=pieces)
    if options.pop("is_extended", False):
        starts = [len(encapsulated(frames[:index], has_table=False, pieces=pieces)) - 28 for index in range(len(frames))]
        elements |= {0x7FE00001: ("OV", starts), 0x7FE00002: ("OV", [len(frame) for frame in frames])}
    return part_10(elements, syntax, pixels, **options), numbers
