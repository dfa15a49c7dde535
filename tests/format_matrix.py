"""The page of formats, from files that are made and read: `PYTHONPATH=tests python -m format_matrix > docs/formats.md`.

Every cell is the outcome of reading one file and comparing its planes with the numbers that were put in.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dicom_writer as writer
import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from pydicom.uid import UID, AllTransferSyntaxes
from scan_files import sidecar

from scanloop.scans.decode import read_scan
from scanloop.scans.dicom_structure import ENCAPSULATED, NATIVE
from scanloop.scans.errors import REASONS, ScanRefused

EXACT, LOSSY, WRONG, NOT_MADE = "exact", "lossy", "**WRONG**", ""
LOSSY_SHARE = 0.06
"""Of full scale: what a lossy codec may change in the pictures made here."""
DX = "1.2.840.10008.5.1.4.1.1.501.2.2"
CLASSES = {
    DX: "DICOS X-ray for processing",
    "1.2.840.10008.5.1.4.1.1.501.2.1": "DICOS X-ray for presentation",
    "1.2.840.10008.5.1.4.1.1.501.1": "DICOS CT",
    "1.2.840.10008.5.1.4.1.1.501.4": "DICOS AIT 2D",
    "1.2.840.10008.5.1.4.1.1.501.5": "DICOS AIT 3D",
    "1.2.840.10008.5.1.4.1.1.1": "Computed radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-ray for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-ray for processing",
    "1.2.840.10008.5.1.4.1.1.12.1": "X-ray angiography",
    "1.2.840.10008.5.1.4.1.1.12.2": "X-ray radiofluoroscopy",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy converted enhanced CT",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.1": "Secondary capture, several frames of single bits",
    "1.2.840.10008.5.1.4.1.1.7.2": "Secondary capture, several frames of grey bytes",
    "1.2.840.10008.5.1.4.1.1.7.3": "Secondary capture, several frames of grey words",
    "1.2.840.10008.5.1.4.1.1.7.4": "Secondary capture, several frames of colours",
    "1.2.840.10008.5.1.4.1.1.4": "Magnetic resonance",
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound",
}
LAYOUTS = {
    "grey 8": writer.Layout(8, 8),
    "grey 12 of 16": writer.Layout(16, 12),
    "grey 16": writer.Layout(),
    "signed 8": writer.Layout(8, 8, is_signed=True),
    "signed 12 of 16": writer.Layout(16, 12, is_signed=True),
    "signed 16": writer.Layout(is_signed=True),
    "12 in the high bits of 16": writer.Layout(16, 12, 15),
    "three frames of 16": writer.Layout(frames=3),
    "colours 8": writer.Layout(8, 8, samples=3, photometric="RGB"),
    "colours 16": writer.Layout(samples=3, photometric="RGB"),
    "colours 8, by plane": writer.Layout(8, 8, samples=3, photometric="RGB", planar=1),
    "YBR_FULL 8": writer.Layout(8, 8, samples=3, photometric="YBR_FULL"),
}
ODD_PIXELS = {
    "MONOCHROME1": writer.Layout(photometric="MONOCHROME1"),
    "1 bit of 8": writer.Layout(8, 1),
    "10 bits of 16": writer.Layout(16, 10),
    "14 bits of 16": writer.Layout(16, 14),
    "12 bits from bit 13 down": writer.Layout(16, 12, 13),
    "32 bits allocated, numbers of 16": writer.Layout(32, 16),
    "palette": writer.Layout(8, 8, photometric="PALETTE COLOR"),
    "four samples": writer.Layout(8, 8, samples=4, photometric="CMYK"),
}
GE_PRIVATE = "1.2.840.113619.5.2"
NAMES = {
    writer.EXTENDED: "Explicit VR Little Endian, extended lengths (in no edition)",
    GE_PRIVATE: "Implicit VR Little Endian, big-endian pixels (private)",
    f"{writer.UID}.4.110": "JPEG XL Lossless",
    f"{writer.UID}.4.111": "JPEG XL JPEG Recompression",
    f"{writer.UID}.4.112": "JPEG XL",
    f"{writer.UID}.8.1": "Deflated Image Frame Compression",
}
"""Transfer syntaxes that the dictionary at hand does not name."""
RETIRED = [f"{writer.UID}.4.{number}" for number in (52, 54, 56, 58, 59, 60, 61, 62, 63, 64, 65, 66, 94, 95)]
"""Processes of JPEG that were retired with DICOM 2000 (hierarchical, arithmetic), and JPIP."""
RLE = f"{writer.UID}.5"
JPEG_LS = f"{writer.UID}.4.80"
VOLUMES = frozenset({"1.2.840.10008.5.1.4.1.1.501.1", *(f"1.2.840.10008.5.1.4.1.1.2{end}" for end in ("", ".1", ".2"))})
MULTI_FRAME = VOLUMES | {f"1.2.840.10008.5.1.4.1.1.7.{number}" for number in (2, 3, 4)}


def outcome(content: bytes, about: bytes | None, planes: Iterable[np.ndarray], *, is_lossy: bool = False) -> str:
    """What reading a file gives, compared with what was put in, plane by plane in their order."""
    try:
        scan = read_scan(content, about)
    except ScanRefused as refusal:
        return f"`{refusal.reason_code}`"
    expected, found = list(planes), [scan.stored(name) for name in scan.planes]
    if len(found) != len(expected) or any(one.shape != other.shape for one, other in zip(found, expected, strict=True)):
        return WRONG
    scale = (1 << max(scan.bits.values())) - 1
    worst = max(int(np.abs(one.astype(np.int64) - other).max()) for one, other in zip(found, expected, strict=True))
    if worst == 0:
        return EXACT
    return LOSSY if is_lossy and worst <= LOSSY_SHARE * scale else WRONG


def dicom_outcome(sop_class: str, syntax: str, layout: writer.Layout, **options: Any) -> str:
    """What reading one DICOM file gives; nothing where no such file can be made."""
    try:
        content, numbers = writer.scan_file(sop_class, syntax, layout, **options)
    except (ValueError, TypeError, KeyError, RuntimeError):  # what encoders raise that do not take such pixels
        return NOT_MADE
    return outcome(content, None, planes_of(numbers, is_volume=sop_class in VOLUMES), is_lossy=syntax in writer.LOSSY)


def planes_of(numbers: np.ndarray, *, is_volume: bool) -> Iterator[np.ndarray]:
    """Numbers (N, H, W, S) as the planes of a scan."""
    if is_volume:
        yield numbers[..., 0]
        return
    for frame in numbers:
        yield from np.moveaxis(frame, -1, 0)


def syntax_name(uid: str) -> str:
    """What the standard calls a transfer syntax."""
    return NAMES.get(uid) or UID(uid).name.split(":")[0]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def syntax_rows() -> Iterator[list[str]]:
    """Transfer syntaxes that are read, by pixels."""
    for uid in sorted(NATIVE | ENCAPSULATED.keys(), key=by_number):
        yield [syntax_name(uid), f"`{uid}`", *(dicom_outcome(DX, uid, layout) for layout in LAYOUTS.values())]


def refused_syntax_rows() -> Iterator[list[str]]:
    """Every other transfer syntax that the standard has or had, with a file of each."""
    content, _ = writer.scan_file(DX, JPEG_LS, writer.Layout())
    others = {str(uid) for uid in AllTransferSyntaxes} | {*RETIRED, GE_PRIVATE}
    for uid in sorted(others - NATIVE - ENCAPSULATED.keys(), key=by_number):
        yield [syntax_name(uid), f"`{uid}`", outcome(renamed(content, JPEG_LS, uid), None, [])]


def by_number(uid: str) -> list[int]:
    """Sort UIDs as numbers."""
    return [int(part) for part in uid.split(".")]


def class_rows() -> Iterator[list[str]]:
    """SOP classes: what becomes of a file, and what it is called."""
    for uid, name in CLASSES.items():
        layout = writer.Layout(frames=3 if uid in MULTI_FRAME else 1)
        found = dicom_outcome(uid, writer.EXPLICIT, layout)
        said = ["", ""]
        if found == EXACT:
            scan = read_scan(writer.scan_file(uid, writer.EXPLICIT, layout)[0])
            said = [scan.metadata.modality, ", ".join(scan.planes)]
        yield [name, f"`{uid}`", found, *said]


def odd_pixel_rows() -> Iterator[list[str]]:
    """Rare pixels, native and in three lossless codecs."""
    for name, layout in ODD_PIXELS.items():
        yield [name, *(dicom_outcome(DX, uid, layout) for uid in (writer.EXPLICIT, f"{writer.UID}.5", f"{writer.UID}.4.70", JPEG_LS))]


def structure_rows() -> Iterator[list[str]]:
    """What files look like that are not as the book has them."""
    layout, frames = writer.Layout(16, 12), writer.Layout(frames=3)
    nested = {0x00290010: ("LO", "MAKER"), 0x00291001: ("SQ", [{0x00291002: ("SQ", [{0x00080060: ("CS", "X")}])}, {}])}
    plain, numbers = writer.scan_file(DX, writer.EXPLICIT, layout)
    bare, bare_numbers = writer.scan_file(DX, writer.IMPLICIT, layout)
    start = plain.index(b"\x08\0\x16\0")

    def made(name: str, syntax: str, of: writer.Layout = layout, **options: Any) -> list[str]:
        return [name, dicom_outcome(DX, syntax, of, **options)]

    def changed(name: str, content: bytes, planes: np.ndarray = numbers) -> list[str]:
        return [name, outcome(content, None, planes_of(planes, is_volume=False))]

    yield changed("no preamble", plain[132:])
    yield changed("no file meta, explicit VR", plain[start:])
    yield changed("no file meta, implicit VR", bare[bare.index(b"\x08\0\x16\0") :], bare_numbers)
    yield changed(
        "file meta without VRs", plain[:132] + writer.dataset({0x00020010: ("UI", writer.EXPLICIT)}, writer.IMPLICIT) + plain[start:]
    )
    yield changed("file meta without its length", plain[:132] + plain[144:])
    yield changed("no transfer syntax named", plain[:132] + writer.dataset({0x00020002: ("UI", DX)}, writer.EXPLICIT) + plain[start:])
    yield changed("deflated as zlib does it, with a header", deflated_with_header(plain, start))
    yield changed("implicit VR, named explicit", renamed(bare, writer.IMPLICIT, writer.EXPLICIT), bare_numbers)
    yield changed("explicit VR, named implicit", renamed(plain, writer.EXPLICIT, writer.IMPLICIT))
    yield made("sequences of open length, private ones within", writer.EXPLICIT, extra=nested, is_open=True)
    yield made("the same, implicit VR", writer.IMPLICIT, extra=nested, is_open=True)
    yield made("sequences of given length", writer.BIG, extra=nested)
    yield made("NumberOfFrames as a binary number", writer.EXPLICIT, frames, extra={0x00280008: ("US", 3)})
    yield made("NumberOfFrames as a binary number, implicit VR", writer.IMPLICIT, frames, extra={0x00280008: ("US", 3)})
    yield made("UIDs with leading zeros", writer.EXPLICIT, extra={0x0020000D: ("UI", "1.02.003")})
    yield made("group length", writer.EXPLICIT, extra={0x00080000: ("UL", 100)})
    yield made("overlay in an element of its own", writer.EXPLICIT, extra={0x60000010: ("US", 12), 0x60003000: ("OW", b"\0" * 26)})
    yield made("padding element at the end", writer.EXPLICIT, extra={0xFFFCFFFC: ("OB", b"\0" * 512)})
    yield changed("a sector of zeros behind the end", plain + b"\0" * 512)
    yield changed("something else behind the end", plain + b"PK\x03\x04" * 8)
    yield changed("the last byte is missing", plain[:-1])
    for pieces, has_table in ((1, True), (1, False), (3, True), (3, False)):
        name = f"three JPEG-LS frames, {pieces} fragment{'s' * (pieces > 1)} each, {'with' if has_table else 'without'} offsets"
        yield made(name, JPEG_LS, frames, pieces=pieces, has_table=has_table)
    yield made("one RLE frame in three fragments", RLE, layout, pieces=3)
    yield made("three RLE frames in three fragments each, with extended offsets", RLE, frames, pieces=3, has_table=False, is_extended=True)
    yield made("three RLE frames in three fragments each, without offsets", RLE, frames, pieces=3, has_table=False)


def deflated_with_header(content: bytes, start: int) -> bytes:
    """An explicit file with its dataset, from `start` on, deflated within the header and checksum of zlib."""
    return renamed(content[:start], writer.EXPLICIT, writer.DEFLATED) + zlib.compress(content[start:])


def renamed(content: bytes, syntax: str, other: str) -> bytes:
    """The same file with the name of another transfer syntax."""
    return content.replace(
        writer.element(0x00020010, "UI", syntax, writer.EXPLICIT), writer.element(0x00020010, "UI", other, writer.EXPLICIT), 1
    )


def picture(bits: int, samples: int, *, has_ends: bool = True) -> np.ndarray:
    """A smooth picture (H, W) or (H, W, S)."""
    numbers = writer.Layout(16, bits, samples=samples).numbers(24, 34, has_ends=has_ends)[0]
    return np.ascontiguousarray(numbers[..., 0] if samples == 1 else numbers).astype(np.uint8 if bits <= 8 else np.uint16)


def exported(content: bytes, pixels: np.ndarray, *, is_lossy: bool = False, repeat: int = 1) -> str:
    """The outcome of a picture whose samples are planes."""
    planes = ([pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))) * repeat
    about = sidecar(planes=[f"plane_{index}" for index in range(len(planes))])
    return outcome(content, about, planes, is_lossy=is_lossy)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_chunks(pixels: np.ndarray, bits: int, colour: int, *, is_interlaced: bool, extra: bytes = b"") -> bytes:
    """A PNG of packed rows without filters."""
    cells = pixels if pixels.ndim == 3 else pixels[..., None]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    steps = passes if is_interlaced else ((0, 0, 1, 1),)
    raw = b"".join(b"\0" + packed(row, bits) for left, top, step_x, step_y in steps for row in cells[top::step_y, left::step_x] if row.size)
    header = cells.shape[1].to_bytes(4, "big") + cells.shape[0].to_bytes(4, "big") + bytes([bits, colour, 0, 0, is_interlaced])
    ends = png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + ends


def packed(row: np.ndarray, bits: int) -> bytes:
    """One row of samples, most significant bits first."""
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    flat = row.ravel()[:, None] >> np.arange(bits)[::-1] & 1
    return np.packbits(flat.astype(np.uint8)).tobytes()


def png_rows() -> Iterator[list[str]]:
    """PNG by colour type and bits."""
    colours = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2], -1).astype(np.uint8)
    for name, colour, samples in (
        ("grey", 0, 1),
        ("grey and opacity", 4, 2),
        ("colours", 2, 3),
        ("colours and opacity", 6, 4),
        ("palette", 3, 1),
    ):
        row = [name]
        for bits in (1, 2, 4, 8, 16):
            for is_interlaced in (False, True):
                if bits not in ((8, 16) if colour in (2, 4, 6) else (1, 2, 4, 8) if colour == 3 else (1, 2, 4, 8, 16)):
                    row.append(NOT_MADE)
                    continue
                pixels = picture(bits, samples)
                palette = png_chunk(b"PLTE", colours[: 1 << bits].tobytes()) if colour == 3 else b""
                content = png_chunks(pixels, bits, colour, is_interlaced=is_interlaced, extra=palette)
                row.append(exported(content, colours[pixels] if colour == 3 else pixels))
        yield row


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    """A TIFF as tifffile writes it; several pages where `pages` says so."""
    target = io.BytesIO()
    with tifffile.TiffWriter(target, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", "<")) as tiff_file:
        for _ in range(options.pop("pages", 1)):
            tiff_file.write(pixels, metadata=None, **{"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options)
    return target.getvalue()


def try_tiff(pixels: np.ndarray, *, repeat: int = 1, is_lossy: bool = False, **options: Any) -> str:
    """The outcome of one TIFF; nothing where it cannot be made."""
    planar = options.get("planarconfig") == "separate"
    try:
        content = tiff(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if planar else pixels, **options)
    except (ValueError, KeyError, TypeError, RuntimeError):
        return NOT_MADE
    return exported(content, pixels, is_lossy=is_lossy, repeat=repeat)


TIFF_CODECS = ("none", "packbits", "lzw", "zlib", "zstd", "jpeg", "lzma", "webp", "jpeg2000", "lerc", "png", "jpegxl")
TIFF_PIXELS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "grey 8": (8, 1, {}),
    "grey 16": (16, 1, {}),
    "colours 8": (8, 3, {}),
    "colours 16": (16, 3, {}),
    "colours 16, by plane": (16, 3, {"planarconfig": "separate"}),
    "grey 16, tiles": (16, 1, {"tile": (16, 16)}),
    "grey 16, differences": (16, 1, {"predictor": 2}),
}


def tiff_rows() -> Iterator[list[str]]:
    """TIFF by compression and pixels."""
    for codec in TIFF_CODECS:
        row = [codec]
        for bits, samples, options in TIFF_PIXELS.values():
            pixels = picture(bits, samples, has_ends=codec != "jpeg")
            row.append(try_tiff(pixels, compression=None if codec == "none" else codec, is_lossy=codec == "jpeg", **options))
        yield row


def tiff_variant_rows() -> Iterator[list[str]]:
    """Other things that TIFF files have."""
    grey, colours = picture(16, 1), picture(16, 3)
    yield ["big-endian", try_tiff(grey, byteorder=">")]
    yield ["BigTIFF", try_tiff(grey, bigtiff=True)]
    yield [
        "BigTIFF, big-endian, tiles, colours by plane",
        try_tiff(colours, bigtiff=True, byteorder=">", tile=(16, 16), planarconfig="separate"),
    ]
    yield ["a plane a page", try_tiff(grey, pages=3, repeat=3)]
    yield ["pages of three samples", try_tiff(colours, pages=2, repeat=2)]
    yield ["dark air (white is zero)", try_tiff(grey, photometric="miniswhite")]
    yield ["two samples of grey", try_tiff(picture(16, 2), photometric="minisblack", planarconfig="contig")]
    yield ["strips of five rows, LZW, differences", try_tiff(grey, rowsperstrip=5, compression="lzw", predictor=2)]
    colours_16 = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16)
    indices = picture(8, 1)
    content = tiff(indices, photometric="palette", colormap=colours_16 * 257)
    yield ["palette", exported(content, np.moveaxis(colours_16[:, indices], 0, -1))]
    yield ["signed numbers", try_tiff(grey.view(np.int16))]
    yield ["32 bits", try_tiff(grey.astype(np.uint32))]
    yield ["float", try_tiff(grey.astype(np.float32))]
    yield ["float, differences of bytes", try_tiff(grey.astype(np.float32), compression="zlib", predictor=3)]
    yield ["four inks", try_tiff(picture(8, 4), photometric="separated")]
    yield ["12 bits, packed", try_tiff(picture(12, 1), bitspersample=12)]


def jpeg_rows() -> Iterator[list[str]]:
    """JPEG by process and samples."""

    def by_pillow(pixels: np.ndarray, mode: str, **options: Any) -> str:
        target = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(target, "JPEG", **{"quality": 95, "subsampling": 0} | options)
        return exported(target.getvalue(), pixels, is_lossy=True)

    grey, colours = picture(8, 1, has_ends=False), picture(8, 3, has_ends=False)
    twelve = picture(12, 1)
    yield ["baseline", by_pillow(grey, "L"), by_pillow(colours, "RGB")]
    yield ["progressive", by_pillow(grey, "L", progressive=True), by_pillow(colours, "RGB", progressive=True)]
    yield ["restart markers", by_pillow(grey, "L", restart_marker_blocks=2), by_pillow(colours, "RGB", restart_marker_blocks=2)]
    yield ["four inks", NOT_MADE, by_pillow(picture(8, 4)[..., :3], "CMYK")]
    yield ["12 bits", exported(bytes(imagecodecs.jpeg8_encode(twelve, bitspersample=12)), twelve, is_lossy=True), NOT_MADE]
    yield ["lossless", exported(bytes(imagecodecs.ljpeg_encode(grey)), grey), NOT_MADE]
    yield ["JPEG-LS", exported(bytes(imagecodecs.jpegls_encode(grey)), grey), exported(bytes(imagecodecs.jpegls_encode(colours)), colours)]


HEAD = f"""# Formats

Generated by `make docs` from files that are made and read while it is generated; a test does the same again and compares. Each cell is what
became of one file: `{EXACT}`, every number of every plane is the one that was put in; `{LOSSY}`, the codec is, and numbers are within
{LOSSY_SHARE:.0%} of full scale; a reason code, the file goes to quarantine with it; nothing, no such file can be made. Formats beyond these are
read by [decoder plug-ins](decoders.md).

"""
Section = tuple[str, str, list[str], Callable[[], Iterator[list[str]]]]
SECTIONS: tuple[Section, ...] = (
    (
        "DICOM and DICOS: kinds of object",
        "Planes of a view are named by their energies where the file names them. Reports about threats are no scans: see [reports.md](reports.md).",
        ["object", "SOP class", "read", "modality", "planes"],
        class_rows,
    ),
    ("DICOM and DICOS: transfer syntaxes by pixels", "", ["transfer syntax", "UID", *LAYOUTS], syntax_rows),
    (
        "DICOM and DICOS: transfer syntaxes that are refused",
        "JPIP has its pixels elsewhere; films are no X-ray scans; the rest is retired, or no permissively licensed decoder reads it.",
        ["transfer syntax", "UID", "outcome"],
        refused_syntax_rows,
    ),
    ("DICOM and DICOS: rare pixels", "", ["pixels", "native", "RLE", "JPEG lossless", "JPEG-LS"], odd_pixel_rows),
    ("DICOM and DICOS: files as they are found", "", ["file", "outcome"], structure_rows),
    (
        "PNG, with a sidecar",
        "Columns: bits of a sample, and whether interlaced. Opacity that is full everywhere is left out.",
        ["pixels", *(f"{bits}{', interlaced' * is_interlaced}" for bits in (1, 2, 4, 8, 16) for is_interlaced in (False, True))],
        png_rows,
    ),
    ("TIFF, with a sidecar: compressions by pixels", "", ["compression", *TIFF_PIXELS], tiff_rows),
    ("TIFF, with a sidecar: the rest", "", ["file", "outcome"], tiff_variant_rows),
    ("JPEG, with a sidecar", "", ["process", "grey", "colours"], jpeg_rows),
)


def sections() -> Iterator[tuple[Section, list[list[str]]]]:
    """Every section with its rows, each from files read just now."""
    for section in SECTIONS:
        yield section, [list(row) for row in section[3]()]


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD]
    for (title, note, head, _), rows in sections():
        parts.append(f"## {title}\n\n{note + chr(10) * 2 if note else ''}{table(head, rows)}\n")
    reasons = table(["reason code", "meaning"], ([f"`{code}`", meaning] for code, meaning in REASONS.items()))
    return "".join(parts) + f"## Reason codes\n\n{reasons}"


if __name__ == "__main__":
    sys.stdout.write(page())
