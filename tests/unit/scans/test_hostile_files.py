"""Files that are wrong, on purpose or by accident: refused with the right reason. What tests/fuzz tries by the thousand is not repeated here."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scan_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    compress,
    dicos,
    picture,
    png,
    sidecar,
)

from scanloop.scans.decode import read_scan
from scanloop.scans.errors import REASONS, ScanRefused

SMALL = {"high": picture(1, 40, 40)["high"][:6, :5], "low": picture(1, 40, 40)["low"][:6, :5]}


def refused(content: bytes, about: bytes | None = None) -> ScanRefused:
    """The refusal that reading `content` ends in; anything else fails the test."""
    with pytest.raises(ScanRefused) as refusal:
        read_scan(content, about)
    assert refusal.value.reason_code in REASONS
    assert len(refusal.value.message) < 400
    return refusal.value


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An explicit little-endian element with any length field."""
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    return head + vr.encode() + (struct.pack("<HI", 0, size) if vr in ("SQ", "OB", "OW", "UN") else struct.pack("<H", size)) + value


def with_dataset(dataset: bytes, syntax: str = EXPLICIT) -> bytes:
    uid = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
    return b"\0" * 128 + b"DICM" + element(0x00020010, "UI", uid) + dataset


def nested_open(depth: int) -> bytes:
    return (element(0x00081140, "SQ", b"", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def nested_closed(depth: int, *, implicit: bool = False) -> bytes:
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = (struct.pack("<HHI", 0x0008, 0x1140, len(item)) + item) if implicit else element(0x00081140, "SQ", item)
    return content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_dataset(nested_open(300)), id="open 300"),
        pytest.param(with_dataset(nested_open(100_000)), id="open 100000"),
        pytest.param(with_dataset(nested_closed(300)), id="closed 300"),
        pytest.param(with_dataset(nested_closed(300, implicit=True), IMPLICIT), id="implicit 300"),
        pytest.param(with_dataset(element(0x00091001, "UN", b"", 0xFFFFFFFF) + nested_open(300)), id="below unknown"),
    ],
)
def test_deep_nesting_is_refused_at_once(content: bytes) -> None:
    start = time.process_time()
    assert refused(content).reason_code in ("too_deep", "malformed", "truncated")
    assert time.process_time() - start < 1


def test_moderate_nesting_is_read() -> None:
    content = dicos(SMALL)
    at = content.index(struct.pack("<HH", 0x0010, 0x0010))
    assert read_scan(content[:at] + nested_closed(10) + content[at:]).planes.keys() == SMALL.keys()


@pytest.mark.parametrize("vr", ["OB", "UN", "SQ", "LO"])
@pytest.mark.parametrize("length", [7, 0xFFFE])
def test_lengths_beyond_the_end_are_refused(vr: str, length: int) -> None:
    assert refused(with_dataset(element(0x00081140, vr, b"abcd", length))).reason_code in ("truncated", "malformed")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_dataset(struct.pack("<HHI", 0xFFFE, 0xE00D, 0)), id="item end"),
        pytest.param(with_dataset(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)), id="sequence end"),
        pytest.param(with_dataset(struct.pack("<HHI", 0xFFFE, 0xE000, 0)), id="item"),
        pytest.param(with_dataset(element(0x00081140, "SQ", element(0x00080060, "CS", b"DX"))), id="element in sequence"),
        pytest.param(with_dataset(element(0x00081140, "OB", b"", 0xFFFFFFFF)), id="open bytes"),
        pytest.param(with_dataset(element(0x00280010, "US", b"\1\0") * 2), id="twice"),
        pytest.param(with_dataset(b"\x08\0\x16\0??\x04\0abcd"), id="no VR"),
        pytest.param(with_dataset(element(0x00081140, "SQ", b"", 0xFFFFFFFF)), id="never closed"),
        pytest.param(with_dataset(element(0x00080060, "CS", b"DX")), id="no scan"),
        pytest.param(with_dataset(b""), id="empty"),
        pytest.param(b"\0" * 128 + b"DICM", id="no meta"),
    ],
)
def test_structures_that_contradict_themselves_are_refused(content: bytes) -> None:
    refused(content)


def test_a_hundred_thousand_elements_take_no_time() -> None:
    content = with_dataset(b"".join(element(0x00110000 | number, "LO", b"ab") for number in range(60_000)) * 4)
    start = time.process_time()
    refused(content)
    assert time.process_time() - start < 2


def deflated(size: int, value: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = value * (1 << 20)
    parts = [deflater.compress(element(0x00091001, "OB", b"", size))]
    parts += [deflater.compress(chunk) for _ in range(size >> 20)]
    return with_dataset(b"".join(parts) + deflater.flush(), DEFLATED)


def test_a_deflated_bomb_is_refused_before_it_is_large() -> None:
    import tracemalloc

    bomb = deflated(600 << 20, b"\0")
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    try:
        assert refused(bomb).reason_code == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 600 << 20
    finally:
        tracemalloc.stop()


def test_deflated_data_must_end() -> None:
    content = dicos(SMALL, DEFLATED)
    assert refused(content[:-20]).reason_code in ("truncated", "malformed")
    assert refused(content + b"PK\x03\x04 a zip").reason_code == "malformed"


ABSURD: list[dict[str, Any]] = [
    *({"Rows": rows, "Columns": columns} for rows in (0, 1, 16385, 65535) for columns in (0, 16385, 65535)),
    *({"NumberOfFrames": frames} for frames in (0, -1, 2, 17, 2**31 - 1, 999_999_999_999)),
    *({"BitsAllocated": bits} for bits in (0, 1, 12, 32, 64, 65535)),
    *({"BitsStored": bits} for bits in (0, 17, 65535)),
    *({"HighBit": bit} for bit in (0, 14, 16)),
    *({"SamplesPerPixel": samples} for samples in (0, 2, 3, 65535)),
    {"PixelRepresentation": 2},
    {"PixelRepresentation": 65535},
    {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    {"PhotometricInterpretation": "PALETTE COLOR"},
    {"Rows": None},
    {"Columns": None},
    {"BitsStored": None},
    {"PixelData": b""},
    {"PixelData": b"\0" * 100},
    {"PixelData": b"\0" * 100_000},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
    {"SOPClassUID": None},
]


@pytest.mark.parametrize("changes", ABSURD, ids=str)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_absurd_numbers_are_refused_by_arithmetic(changes: dict[str, Any]) -> None:
    import tracemalloc

    content = dicos(SMALL, **changes)
    tracemalloc.start()
    try:
        refused(content)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def reframed(syntax: str, frame: bytes) -> bytes:
    from pydicom.encaps import encapsulate

    return dicos(SMALL, syntax, PixelData=encapsulate([frame]))


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
def test_a_frame_larger_than_the_file_says_is_not_decoded(syntax: str) -> None:
    import tracemalloc

    huge = compress(np.zeros((4000, 4000), np.uint16), syntax)
    tracemalloc.start()
    try:
        refused(reframed(syntax, huge))
        assert tracemalloc.get_traced_memory()[1] < 8 * len(huge) + (4 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_frame_that_ends_early_in_a_whole_file_is_refused(syntax: str, share: float) -> None:
    whole = compress(np.vstack(list(SMALL.values())), syntax)
    refused(reframed(syntax, whole[: int(len(whole) * share)]))


def polyglots() -> Iterator[Any]:
    heads = {
        "windows executable": b"MZ\x90\0\x03",
        "linux executable": b"\x7fELF\x02\x01\x01",
        "html": b"<html><script>alert(1)</script>",
        "pdf": b"%PDF-1.7\n",
        "zip": b"PK\x03\x04\x14\0",
        "shell": b"#!/bin/sh\nrm -rf /\n",
        "gif": b"GIF89a",
        "png": b"\x89PNG\r\n\x1a\n",
        "java": b"\xca\xfe\xba\xbe",
        "rar": b"Rar!\x1a\x07",
    }
    for name, head in heads.items():
        yield pytest.param(dicos(SMALL, preamble=head), None, id=f"{name} in a preamble")
        yield pytest.param(head + b"\0" * 500, None, id=f"{name} alone")
    tail = b"PK\x03\x04" + b"\0" * 30
    yield pytest.param(dicos(SMALL) + tail, None, id="zip behind dicom")
    yield pytest.param(png(SMALL) + tail, sidecar(), id="zip behind png")
    yield pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", sidecar(), id="svg named png")
    yield pytest.param(b"", None, id="nothing")


@pytest.mark.parametrize(("content", "about"), list(polyglots()))
def test_what_is_two_things_or_another_thing_is_refused(content: bytes, about: bytes | None) -> None:
    assert refused(content, about).reason_code in ("polyglot", "not_a_scan", "malformed", "truncated", "sidecar_missing")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, raw: bytes, *, bits: int = 16, colour: int = 0, interlace: int = 0, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(raw, 9)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (png_of(2**31 - 1, 2**31 - 1, b""), "too_large"),
        (png_of(16384, 16384, b"\0" * 100), "too_large"),
        (png_of(0, 5, b""), "too_large"),
        (png_of(8, 8, b"\0" * (64 << 20)), "malformed"),
        (png_of(8, 8, b"\0" * 100), "truncated"),
        (png_of(8, 8, b"\0" * 8 * 9, colour=3, bits=8), "malformed"),
        (png_of(8, 8, b"\1" * 8 * 9, colour=3, bits=8, extra=png_chunk(b"PLTE", b"abc")), "malformed"),
        (png_of(8, 8, b"\0" * 8 * 9, colour=3, bits=8, extra=png_chunk(b"PLTE", b"abcd")), "malformed"),
        (png_of(8, 8, b"\0" * 8 * 2, colour=3, bits=1, extra=png_chunk(b"PLTE", b"abc" * 3)), "malformed"),
        (png_of(8, 8, b"\0" * 8 * 17, colour=3, bits=16, extra=png_chunk(b"PLTE", b"abc")), "unsupported_pixels"),
        (png_of(8, 8, b"\0" * 8 * 17, bits=3), "unsupported_pixels"),
        (png_of(8, 8, b"\0" * 15, bits=1), "truncated"),
        (png_of(8, 8, b"\0" * 8 * 17, interlace=1), "truncated"),
        (png_of(8, 8, b"\0" * 144, interlace=1), "malformed"),
        (png_of(8, 8, b"\0" * 143, interlace=2), "unsupported_pixels"),
        (png_of(8, 8, b"\0" * 8 * 17, extra=png_chunk(b"IHDR", b"")), "malformed"),
        (png_of(8, 8, b"\0" * 8 * 17, extra=png_chunk(b"PLTE", b"abc")), "unsupported_pixels"),
        (png_of(8, 8, b"\0" * 8 * 17)[:-5] + b"\0\0\0\0\0", "malformed"),
    ],
    ids=range(18),
)
def test_png_bombs_and_oddities_are_refused(content: bytes, code: str) -> None:
    assert refused(content, sidecar()).reason_code == code


def test_an_ancillary_bomb_in_a_png_is_never_inflated() -> None:
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (256 << 20), 9))
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * (64 << 20), 9))
    content = png_of(8, 8, b"\0" * 8 * 17, extra=text + profile)
    start = time.process_time()
    assert read_scan(content, sidecar()).planes["high"].shape == (4, 8)
    assert time.process_time() - start < 0.5


def tiff_of(entries: list[tuple[int, int, int, int]], next_offset: int = 0, pixels: bytes = b"\0" * 512) -> bytes:
    """A little-endian TIFF with one directory of (tag, type, count, value) at byte 8 and pixels at 512."""
    directory = (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
        + struct.pack("<I", next_offset)
    )
    return (b"II*\0\x08\0\0\0" + directory).ljust(512, b"\0") + pixels


BASE = {
    256: (3, 1, 16),
    257: (3, 1, 16),
    258: (3, 1, 16),
    259: (3, 1, 1),
    262: (3, 1, 1),
    273: (4, 1, 512),
    278: (3, 1, 16),
    279: (4, 1, 512),
}


def tiff_with(changes: dict[int, tuple[int, int, int] | None], **options: Any) -> bytes:
    tags = {tag: entry for tag, entry in (BASE | changes).items() if entry is not None}
    return tiff_of([(tag, *entry) for tag, entry in tags.items()], **options)


def test_the_tiff_that_the_mutants_are_made_from_is_read() -> None:
    assert read_scan(tiff_with({}), sidecar()).planes["high"].shape == (8, 16)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(tiff_with({256: (4, 1, 2**32 - 1)}), "too_large", id="width"),
        pytest.param(tiff_with({257: (4, 1, 2**31)}), "too_large", id="height"),
        pytest.param(tiff_with({257: (3, 1, 0)}), "too_large", id="no rows"),
        pytest.param(tiff_with({256: (3, 1, 16000), 257: (3, 1, 16000)}), "too_large", id="area"),
        pytest.param(tiff_with({258: (3, 1, 32)}), "unsupported_pixels", id="bits"),
        pytest.param(tiff_with({258: (3, 2**31, 16)}), "malformed", id="many bits"),
        pytest.param(tiff_with({277: (3, 1, 3)}), "truncated", id="samples"),
        pytest.param(tiff_with({262: (3, 1, 3)}), "unsupported_pixels", id="palette"),
        pytest.param(tiff_with({339: (3, 1, 3)}), "unsupported_pixels", id="floats"),
        pytest.param(tiff_with({259: (3, 1, 6)}), "unsupported_encoding", id="old jpeg"),
        pytest.param(tiff_with({317: (3, 1, 3)}), "unsupported_encoding", id="predictor"),
        pytest.param(tiff_with({273: (4, 1, 600)}), "truncated", id="strip beyond the end"),
        pytest.param(tiff_with({279: (4, 1, 2**32 - 1)}), "truncated", id="strip size"),
        pytest.param(tiff_with({279: (4, 1, 100)}), "truncated", id="short strip"),
        pytest.param(tiff_with({278: (3, 1, 1)}), "malformed", id="strip count"),
        pytest.param(tiff_with({273: (4, 2**30, 8)}), "malformed", id="many strips"),
        pytest.param(tiff_with({278: (3, 1, 0)}), "too_large", id="no rows per strip"),
        pytest.param(tiff_with({322: (3, 1, 16000), 323: (3, 1, 4000)}), "too_large", id="huge tile"),
        pytest.param(tiff_with({256: None}), "malformed", id="no width"),
        pytest.param(tiff_with({}, next_offset=8), "malformed", id="page loop"),
        pytest.param(tiff_with({}, next_offset=2**32 - 4), "truncated", id="page beyond the end"),
        pytest.param(tiff_with({254: (4, 1, 1)}), "malformed", id="thumbnails only"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 100, "malformed", id="65535 tags"),
        pytest.param(
            tiff_with({259: (3, 1, 8)}, pixels=zlib.compress(b"\0" * (64 << 20), 9)[:512].ljust(512, b"\0")), "malformed", id="bomb"
        ),
        pytest.param(
            tiff_with({259: (3, 1, 8)}, pixels=zlib.compress(b"\0" * 100).ljust(512, b"\0")), "truncated", id="inflates to little"
        ),
    ],
)
def test_tiff_bombs_and_oddities_are_refused(content: bytes, code: str) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        assert refused(content, sidecar()).reason_code == code
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_transfer_syntax_that_is_not_read_is_named_only_if_it_is_one() -> None:
    assert "1.2.840.10008.1.2.4.94" in refused(with_dataset(b"", "1.2.840.10008.1.2.4.94")).message
    assert "DOE" not in refused(with_dataset(b"", "DOE^JANE")).message


def test_big_endian_and_implicit_files_are_walked_too() -> None:
    for syntax in (BIG_ENDIAN, IMPLICIT):
        content = dicos(SMALL, syntax)
        assert refused(content[:-40]).reason_code == "truncated"
