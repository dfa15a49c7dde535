"""What a compressed frame says of itself, read before any decoder may allocate for it.

Source: ITU-T T.81, annex B (JPEG); T.87, annex C (JPEG-LS); T.800, annexes A and I (JPEG 2000); T.814 (HTJ2K); ISO/IEC 18181-1, annex D, and
18181-2 (JPEG XL); DICOM PS3.5 annex G (RLE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from scanloop.scans.errors import ScanRefused

_SOF_WITHOUT_SIZE = frozenset({0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_SOF_JPEG_LS = 0xF7
_DCT_SOFS = frozenset({0xC0, 0xC1, 0xC2})
_LOSSLESS_SOF = 0xC3
_MARKER = re.compile(rb"\xff([\x80-\xcf\xd8-\xfe])", re.DOTALL)
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_JXL_CODESTREAM, _JXL_SIGNATURE = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_PART_2 = 0x8000


@dataclass(frozen=True)
class Announced:
    """The picture that a codestream announces."""

    height_px: int
    """Rows."""
    width_px: int
    """Columns."""
    samples: int
    """Components."""
    bits: int
    """Precision of a sample."""
    is_signed: bool = False
    """Whether samples are signed numbers."""


@dataclass(frozen=True)
class Jpeg:
    """A stream of the JPEG family."""

    picture: Announced
    """What its frame header says."""
    stream: bytes
    """The stream from its start to its end marker: toolkits are known to leave the end of the last frame behind it."""
    process: str
    """dct, lossless or jpegls."""
    is_plain: bool = True
    """Lossless: one component, no point transform, no restarts."""
    is_ybr: bool | None = None
    """Whether markers say that three components are luminance and chrominance (True) or red, green and blue (False); None: nothing said."""


def read_jpeg(stream: bytes) -> Jpeg:
    """Read the markers of a JPEG or JPEG-LS stream up to its first scan. Raises ScanRefused."""
    if stream[:2] != b"\xff\xd8":
        raise ScanRefused("malformed", "A JPEG frame does not start as one.")
    position, picture, sof, has_restarts = 2, None, 0, False
    adobe: int | None = None
    is_jfif, ids = False, b""
    tables: set[int] = set()
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        body = stream[position + 4 : position + 2 + length]
        if length < 2 or len(body) != length - 2:
            break
        if (0xC0 <= marker <= 0xCF and marker not in _SOF_WITHOUT_SIZE) or marker == _SOF_JPEG_LS:
            if picture is not None or len(body) < 6:
                break
            sof, ids = marker, body[6::3]
            picture = Announced(int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5], body[0])
        elif marker == 0xC4:
            tables |= huffman_tables(body)
        elif marker == 0xDD and body != b"\0\0":
            has_restarts = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xE0 and body[:4] == b"JFIF":
            is_jfif = True
        elif marker == 0xDA:
            if picture is None:
                break
            point_transform = body[-1] & 0x0F if body else 0
            if sof == _LOSSLESS_SOF:
                _check_lossless_scan(body, tables)
            whole = stream[: _jpeg_end(stream, position + 2 + length)]
            is_plain = not has_restarts and not point_transform
            return _jpeg(picture, whole, sof, is_plain=is_plain, is_ybr=_ybr(adobe, ids, is_jfif=is_jfif))
        position += 2 + length
    raise ScanRefused("malformed", "A JPEG frame has no frame header.")


def huffman_tables(body: bytes) -> set[int]:
    """Class and destination of each table of a DHT segment (T.81 B.2.4.2), once its codes are known to fit their lengths.

    Raises:
        ScanRefused: a table is cut short, empty, or has more codes than there can be.
    """
    found: set[int] = set()
    position = 0
    while position < len(body):
        counts = body[position + 1 : position + 17]
        values = body[position + 17 : position + 17 + sum(counts)]
        room = 1 << 16
        for length, count in enumerate(counts, start=1):
            room -= count << (16 - length)
        if len(counts) != 16 or not values or len(values) != sum(counts) or room < 0:
            raise ScanRefused("malformed", f"A JPEG frame has a Huffman table of {len(values)} values that is none.")
        found.add(body[position])
        position += 17 + len(values)
    return found


def _check_lossless_scan(body: bytes, tables: set[int]) -> None:
    """Refuse a lossless scan whose tables have not come: decoders are known to follow them nowhere (T.81 B.2.3)."""
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) != 4 + 2 * count or not 1 <= body[-3] <= 7:
        raise ScanRefused("malformed", "A JPEG scan header is none of a lossless frame.")
    if missing := {body[2 + 2 * index] >> 4 for index in range(count)} - tables:
        raise ScanRefused("malformed", f"A JPEG scan needs the Huffman tables {sorted(missing)}, which the frame lacks.")


def _jpeg_end(stream: bytes, position: int) -> int:
    """Where the end marker ends: the first behind entropy-coded data, which hold no marker but restarts (T.81 B.1.1.5, T.87 annex A)."""
    while marker := _MARKER.search(stream, position):
        if marker[1] == b"\xd9":
            return marker.end()
        position = marker.end() + int.from_bytes(stream[marker.end() : marker.end() + 2], "big")
    raise ScanRefused("truncated", "A JPEG frame has no end marker.")


def _jpeg(picture: Announced, stream: bytes, sof: int, *, is_plain: bool, is_ybr: bool | None) -> Jpeg:
    if sof == _SOF_JPEG_LS:
        return Jpeg(picture, stream, "jpegls")
    if sof == _LOSSLESS_SOF:
        return Jpeg(picture, stream, "lossless", is_plain=is_plain and picture.samples == 1)
    if sof in _DCT_SOFS:
        return Jpeg(picture, stream, "dct", is_ybr=is_ybr)
    raise ScanRefused("unsupported_encoding", f"A JPEG frame is of the process SOF{sof - 0xC0}, which is not read.")


def _ybr(adobe: int | None, ids: bytes, *, is_jfif: bool) -> bool | None:
    if adobe is not None:
        return adobe != 0
    if is_jfif:
        return True
    return False if ids == b"RGB" else None


@dataclass(frozen=True)
class Jpeg2000:
    """A JPEG 2000 codestream."""

    picture: Announced
    """What its SIZ marker says."""
    codestream: bytes
    """The codestream from its start to its end marker, without boxes around it."""


def read_jpeg2000(stream: bytes) -> Jpeg2000:
    """Read the SIZ marker of a codestream, bare or in a JP2 file. Raises ScanRefused."""
    if stream[:12] == _JP2_SIGNATURE:
        stream = _only(_boxes(stream, "JPEG 2000"), b"jp2c", "JPEG 2000")
    if stream[:4] != b"\xff\x4f\xff\x51" or len(stream) < 42:
        raise ScanRefused("malformed", "A JPEG 2000 frame does not start as a codestream.")
    capabilities = int.from_bytes(stream[6:8], "big")
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    samples = int.from_bytes(stream[40:42], "big")
    components = {stream[at : at + 3] for at in range(42, 42 + 3 * min(samples, 4), 3)}
    if samples > 4 or len(components) != 1 or len(stream) < 42 + 3 * samples:
        raise ScanRefused("unsupported_pixels", f"A JPEG 2000 frame has {samples} components, or they differ.")
    depth, across, down = components.pop()
    if (across, down) != (1, 1):
        raise ScanRefused("unsupported_pixels", "A JPEG 2000 frame has components of a coarser grid.")
    if capabilities & _PART_2:
        raise ScanRefused("unsupported_encoding", "A JPEG 2000 frame needs extensions of part 2, which are not read.")
    picture = Announced(bottom - top, right - left, samples, (depth & 0x7F) + 1, is_signed=bool(depth & 0x80))
    return Jpeg2000(picture, stream[: _jpeg2000_end(stream)])


def _jpeg2000_end(stream: bytes) -> int:
    """Where the end marker ends: behind the main header and as many bytes of tile-parts as they say (T.800 A.4.2)."""
    position = 2
    while (marker := stream[position : position + 2]) != b"\xff\xd9":
        if len(stream) < position + 12 or marker[:1] != b"\xff":
            raise ScanRefused("truncated", "A JPEG 2000 frame ends before its end marker.")
        if marker == b"\xff\x90":
            length = int.from_bytes(stream[position + 6 : position + 10], "big")
            # The last tile-part may leave its length open; then it reaches to the end marker, which is the last one there is.
            position = position + length if length >= 12 else max(stream.rfind(b"\xff\xd9"), position + 12)
        else:
            position += 2 + max(2, int.from_bytes(stream[position + 2 : position + 4], "big"))
    return position + 2


def read_jpegxl_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG XL codestream, bare, boxed, or boxed in parts, announces. Raises ScanRefused."""
    if stream[:12] == _JXL_SIGNATURE:
        stream = _joined(_boxes(stream, "JPEG XL"))
    if stream[:2] != _JXL_CODESTREAM or len(stream) < 12:
        raise ScanRefused("malformed", "A JPEG XL frame does not start as a codestream.")
    bits, at = int.from_bytes(stream[2:14], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & (1 << count) - 1

    is_small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if is_small else 1 + take((9, 13, 18, 30)[take(2)])

    height_px = side()
    ratio = take(3)
    wide, high = _JXL_RATIOS[ratio]
    return height_px, (height_px * wide // high if ratio else side())


def _joined(boxes: list[tuple[bytes, bytes]]) -> bytes:
    """The codestream of a JPEG XL file: in one box, or in parts whose first four bytes count them; the last has the highest bit set."""
    parts = [part for kind, part in boxes if kind == b"jxlp"]
    if not parts:
        return _only(boxes, b"jxlc", "JPEG XL")
    counted = [int.from_bytes(part[:4], "big") for part in parts]
    if any(kind == b"jxlc" for kind, _ in boxes) or counted != [*range(len(parts) - 1), len(parts) - 1 | 1 << 31]:
        raise ScanRefused("malformed", "The parts of a JPEG XL codestream do not follow each other.")
    return b"".join(part[4:] for part in parts)


def _only(boxes: list[tuple[bytes, bytes]], kind: bytes, name: str) -> bytes:
    """The contents of the only box of this kind."""
    found = [content for one, content in boxes if one == kind]
    if len(found) != 1:
        raise ScanRefused("unsupported_encoding", f"Expected one codestream in a {name} file, found {len(found)}.")
    return found[0]


def _boxes(stream: bytes, name: str) -> list[tuple[bytes, bytes]]:
    """Kind and contents of every box of a file of boxes. Raises ScanRefused."""
    position, found = 0, []
    while position + 8 <= len(stream):
        length, start = int.from_bytes(stream[position : position + 4], "big"), position + 8
        if length == 1:
            length, start = int.from_bytes(stream[position + 8 : position + 16], "big"), position + 16
        end = len(stream) if length == 0 else position + length
        if end < start or end > len(stream):
            raise ScanRefused("truncated", f"A box of a {name} file announces {length} bytes; {len(stream) - position} are left.")
        found.append((stream[position + 4 : position + 8], stream[start:end]))
        position = end
    return found


def check_rle(content: bytes, segments: int) -> None:
    """Check the header of an RLE frame: 16 words, the number of segments and their offsets, rising and inside. Raises ScanRefused."""
    if len(content) < 64:
        raise ScanRefused("truncated", f"An RLE frame of {len(content)} bytes has no header of 64.")
    count, *offsets = np.frombuffer(content[:64], "<u4").tolist()
    used = offsets[:segments]
    if count != segments or used != sorted(set(used)) or used[0] != 64 or used[-1] >= len(content):
        raise ScanRefused(
            "malformed", f"An RLE frame of {len(content)} bytes has {count} segments at {used}; expected {segments}, from 64 on."
        )


def trimmed_rle(content: bytes, segments: int, segment_bytes: int) -> bytes:
    """The same RLE frame with what follows the last run of each segment left out: a toolkit is known to leave the end of its last frame there.

    Raises:
        ScanRefused: a segment unpacks to less than `segment_bytes`, or a run goes beyond them.
    """
    _, *offsets = np.frombuffer(content[:64], "<u4").tolist()
    parts = []
    for start, end in zip(offsets[:segments], [*offsets[1:segments], len(content)], strict=True):
        position, unpacked = start, 0
        while unpacked < segment_bytes and position < end:
            header = content[position]
            if header < 128:
                unpacked, position = unpacked + header + 1, position + header + 2
            elif header > 128:
                unpacked, position = unpacked + 257 - header, position + 2
            else:
                position += 1
        if unpacked != segment_bytes or position > end:
            code = "truncated" if unpacked < segment_bytes else "malformed"
            raise ScanRefused(code, f"An RLE segment needs {segment_bytes} bytes; its runs end at {unpacked}.")
        parts.append(content[start:position])
    places = np.zeros(16, "<u4")
    places[0] = segments
    places[1 : segments + 1] = 64 + np.cumsum([0, *(len(part) for part in parts[:-1])])
    return places.tobytes() + b"".join(parts)
