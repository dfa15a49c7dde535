"""Files made to hurt, by the line of the table of bad inputs that they belong to: nesting, lengths, bombs, absurd numbers, two things in one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from scan_files import sidecar

from fuzzing.seeds import Seed, all_seeds, xray
from fuzzing.tree import PIXEL_DATA, Element, encapsulated, text, us
from scanloop.scans.dicom_structure import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

DEPTHS = (300, 100_000)
MIB = 1 << 20


@dataclass(frozen=True)
class Hostile:
    """One file and what it is."""

    what: str
    content: bytes
    sidecar: bytes | None = None


def nested() -> Iterator[Hostile]:
    """Sequences 300 and 100,000 deep: open and closed, of every encoding, below known, private and unknown elements; and JSON."""
    for depth in DEPTHS:
        for order, syntax in (("<", EXPLICIT_LITTLE), (">", EXPLICIT_BIG)):
            item = struct.pack(order + "HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
            for group, element, vr in ((0x0008, 0x1140, b"SQ"), (0x0009, 0x1001, b"UN"), (0x5200, 0x9230, b"SQ")):
                head = struct.pack(order + "HH", group, element) + vr + bytes(2) + b"\xff\xff\xff\xff"
                yield Hostile(f"{depth} open {vr.decode()} of {group:04x} {syntax[-1]}", _in_file(syntax, (head + item) * depth))
                ends = struct.pack(order + "HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
                yield Hostile(
                    f"{depth} ended {vr.decode()} of {group:04x} {syntax[-1]}", _in_file(syntax, (head + item) * depth + ends * depth)
                )
        implicit = struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        yield Hostile(f"{depth} implicit", _in_file(IMPLICIT_LITTLE, implicit * depth))
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        yield Hostile(f"{depth} deflated", _in_file(DEFLATED_LITTLE, deflater.compress(_closed(depth)) + deflater.flush()))
        yield Hostile(f"{depth} with lengths", _in_file(EXPLICIT_LITTLE, _closed(depth)))
        png = all_seeds()["png 16"].content
        for opening in (b"[", b'{"a":'):
            yield Hostile(f"{depth} of {opening.decode()} in a sidecar", png, (opening * depth)[: 64 << 10])


def _closed(depth: int) -> bytes:
    """Sequences with lengths, each around the next; lengths stop growing where 32 bits end."""
    heads, size = [], 0
    for _ in range(depth):
        heads.append(struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", size + 8) + struct.pack("<HHI", 0xFFFE, 0xE000, size))
        size += 20
    return b"".join(reversed(heads))


def _in_file(syntax: str, dataset: bytes) -> bytes:
    file = xray(syntax, Element(PIXEL_DATA, "OW"))
    file.dataset, file.encoding = [], EXPLICIT_LITTLE
    return file.encode() + dataset


def long_lengths() -> Iterator[Hostile]:
    """Every element of seven files, with lengths that go beyond the end: by one, by the most there is, and as if it had no length."""
    for name in ("explicit", "implicit", "big", "deflated", "rle", "ct explicit", "ct implicit"):
        tree = all_seeds()[f"dicom {name}"].tree
        assert tree is not None
        for index, element in enumerate(tree.dataset):
            for length in (0xFFF0, 0x7FFFFFF0, 0xFFFFFFFE):
                if element.tag == PIXEL_DATA and element.fragments is not None:
                    continue
                mutant = tree.copy()
                mutant.dataset[index].length, mutant.dataset[index].is_open = length, False
                yield Hostile(f"{name}: {element.tag:08x} of {length:x} bytes", mutant.encode())
    for name in ("dicom rle", "dicom ct rle", "dicom jpeg-ls"):
        content = all_seeds()[name].content
        for at in _places(content, b"\xfe\xff\x00\xe0"):
            yield Hostile(f"{name}: fragment at {at}", content[: at + 4] + b"\xf0\xff\xff\x7f" + content[at + 8 :])


def missing_delimiters() -> Iterator[Hostile]:
    """Every delimiter of every file that has some, left out one at a time."""
    for name, seed in all_seeds().items():
        if seed.tree is not None and name not in ("dicom deflated", "dicom big", "dicom bare"):
            for marker in (b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"):
                for at in _places(seed.content, marker):
                    yield Hostile(f"{name}: without the delimiter at {at}", seed.content[:at] + seed.content[at + 8 :])


def _places(content: bytes, what: bytes) -> list[int]:
    found, at = [], content.find(what)
    while at >= 0:
        found.append(at)
        at = content.find(what, at + 1)
    return found


def inflating(size: int, wbits: int, byte: int = 0) -> bytes:
    """A deflate stream of `size` equal bytes (whole MiB), made at no cost: one block that can be repeated."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflater.compress(bytes([byte]) * MIB) + deflater.flush(zlib.Z_FULL_FLUSH)
    body = block * (size // MIB) + b"\x03\x00"
    return body if wbits < 0 else b"\x78\xda" + body + struct.pack(">I", _adler(size, byte))


def _adler(size: int, byte: int) -> int:
    ones = (1 + size * byte) % 65521
    return ((size + byte * (size * (size + 1) // 2)) % 65521) << 16 | ones


LADDER_MIB = (2, 16, 64, 256, 300, 1024, 4096)


def deflated_dicom() -> Iterator[tuple[int, Hostile]]:
    """Deflated datasets that inflate to more and more: zeros that fill up the end, a private element, or bytes behind the dataset."""
    whole = all_seeds()["dicom deflated"].tree
    assert whole is not None
    data = whole.copy()
    data.encoding = EXPLICIT_LITTLE
    start = len(_in_file(DEFLATED_LITTLE, b""))
    dataset = data.encode()[start:]
    at = dataset.index(struct.pack("<HH", 0x0010, 0x0010))
    for size in LADDER_MIB:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        head = struct.pack("<HH2s2xI", 0x0009, 0x1001, b"OB", min(size * MIB, 0xFFFFFFF0))
        first = deflater.compress(dataset[:at] + head) + deflater.flush(zlib.Z_FULL_FLUSH)
        last = zlib.compressobj(9, zlib.DEFLATED, -15)
        end = last.compress(dataset[at:]) + last.flush()
        yield size, Hostile(f"deflated, {size} MiB private", _in_file(DEFLATED_LITTLE, first + inflating(size * MIB, -15)[:-2] + end))
        yield size, Hostile(f"deflated, {size} MiB of 0xff", _in_file(DEFLATED_LITTLE, inflating(size * MIB, -15, 0xFF)))


def picture_bombs() -> Iterator[tuple[int, Hostile]]:
    """PNG and TIFF pixels, and frames of DICOM, that inflate to more than the picture they announce."""
    about = sidecar()
    for size in LADDER_MIB:
        packed = inflating(size * MIB, 15)
        for side in (8, 4096 if size > 64 else 512):
            yield size, Hostile(f"png {side} px, {size} MiB", png_of(side, side, packed), about)
            yield size, Hostile(f"tiff deflate {side} px, {size} MiB", tiff_of(side, packed, 8), about)
        yield size, Hostile(f"tiff zstd, {size} MiB", tiff_of(8, _zstd(size), 50000), about)
        yield size, Hostile(f"deflated frame, {size} MiB", _frame("1.2.840.10008.1.2.8.1", inflating(size * MIB, -15)))
    for size in (2, 16, 64):
        yield size, Hostile(f"tiff packbits, {size} MiB", tiff_of(8, b"\x81\x00" * (size * MIB // 128), 32773), about)
        yield size, Hostile(f"tiff lzw, {size} MiB", tiff_of(8, _lzw(size), 5), about)
        yield (
            size,
            Hostile(
                f"rle frame, {size} MiB",
                _frame("1.2.840.10008.1.2.5", struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\x00" * (size * MIB // 128)),
            ),
        )


def ancillary_bombs() -> Iterator[tuple[int, Hostile]]:
    """PNG texts and profiles that inflate to more and more, in a picture that is whole: it is read, they are not inflated."""
    plain = all_seeds()["png 16"].content
    for size in LADDER_MIB:
        for kind, head in ((b"zTXt", b"Comment\0\0"), (b"iCCP", b"p\0\0"), (b"iTXt", b"Comment\0\1\0\0\0")):
            yield (
                size,
                Hostile(
                    f"{kind.decode()}, {size} MiB", plain[:33] + _chunk(kind, head + inflating(size * MIB, 15)) + plain[33:], sidecar()
                ),
            )


def _zstd(size: int) -> bytes:
    """A zstd frame of run-length blocks: four bytes for each 128 KiB."""
    blocks = [struct.pack("<I", 1 << 1 | (1 << 17) << 3)[:3] + b"\0"] * (size * 8)
    blocks[-1] = struct.pack("<I", 1 | 1 << 1 | (1 << 17) << 3)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


def _lzw(size: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.lzw_encode(bytes(MIB))) * size


def _frame(syntax: str, frame: bytes) -> bytes:
    return xray(syntax, encapsulated([frame])).encode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, packed: bytes, *, bits: int = 16, colour: int = 0) -> bytes:
    """A PNG of this size whose deflated pixels are `packed`."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def tiff_of(side: int, strip: bytes, compression: int, **changes: int) -> bytes:
    """A little-endian grey TIFF of one strip at byte 512."""
    tags = {256: side, 257: side, 258: 16, 259: compression, 262: 1, 273: 512, 277: 1, 278: side, 279: len(strip)}
    tags |= {int(name[1:]): value for name, value in changes.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)).ljust(512, b"\0") + strip


def absurd() -> Iterator[Hostile]:
    """Rows, Columns, frames, bits and samples that no file has, one alone and several together; the pixels stay those of a small picture."""
    fields = {
        "rows": 0x00280010, "columns": 0x00280011, "allocated": 0x00280100, "stored": 0x00280101, "high bit": 0x00280102, "samples": 0x00280002,
        "representation": 0x00280103,
    }  # fmt: skip
    odd: list[dict[str, int | str]] = [
        *({"rows": rows} for rows in (0, 16385, 65535)),
        *({"columns": columns} for columns in (0, 16385, 65535)),
        *({"rows": side, "columns": side} for side in (0, 16384, 65535)),
        *({"frames": frames} for frames in ("0", "-1", "4097", "2147483647", "999999999999", "1e9", "NaN", "")),
        *({"frames": frames, "rows": 16384, "columns": 4096} for frames in ("2", "4096")),
        *({"allocated": bits} for bits in (0, 1, 7, 12, 24, 33, 64, 65535)),
        *({"stored": bits} for bits in (0, 17, 255, 65535)),
        *({"high bit": bit} for bit in (0, 14, 16, 65535)),
        *({"samples": samples} for samples in (0, 2, 4, 255, 65535)),
        *({"representation": number} for number in (2, 255, 65535)),
        {"samples": 65535, "rows": 65535, "columns": 65535, "frames": "999999999999"},
        {"allocated": 8, "stored": 16},
        {"allocated": 32, "stored": 32},
        {"samples": 3, "planar": 7},
    ]
    for name in ("explicit", "rle", "jpeg 2000"):
        for changes in odd:
            tree = all_seeds()[f"dicom {name}"].tree
            assert tree is not None
            mutant = tree.copy()
            elements = {element.tag: element for element in mutant.dataset}
            for field, value in changes.items():
                new = text(0x00280008, "IS", value) if isinstance(value, str) else us(fields.get(field, 0x00280006), value)
                elements[new.tag] = new
            mutant.dataset = sorted(elements.values(), key=lambda element: element.tag)
            if changes == {"frames": ""}:
                continue  # an empty number of frames is one that is not said
            yield Hostile(f"{name}: {changes}", mutant.encode())


def polyglots() -> Iterator[Hostile]:
    """Files that are two things, or are named as what they are not."""
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
        "php": b"<?php system($_GET[0]); ?>",
        "mach-o": b"\xcf\xfa\xed\xfe",
    }
    plain = all_seeds()["dicom explicit"].content
    picture, about = all_seeds()["png 16"].content, sidecar()
    archive = b"PK\x03\x04" + bytes(30) + b"PK\x05\x06" + bytes(18)
    for name, head in heads.items():
        yield Hostile(f"{name} in a preamble", head.ljust(128, b"\0") + plain[128:])
        yield Hostile(f"{name} alone", head + bytes(500))
        yield Hostile(f"{name} behind a png", picture + head + bytes(20), about)
    yield Hostile("zip behind dicom", plain + archive)
    yield Hostile("zip in the pixels of a png", picture[:33] + _chunk(b"IDAT", picture[41:-16] + archive) + picture[-12:], about)
    yield Hostile("svg named png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", about)
    yield Hostile("html behind a svg", b"<?xml version='1.0'?><svg/><html/>", about)
    yield Hostile("nothing", b"")
    yield Hostile("a sidecar alone", about)


def cuts(seed: Seed) -> Iterator[tuple[int, bytes]]:
    """A file cut at every offset: how many bytes are left, and those."""
    return ((length, seed.content[:length]) for length in range(len(seed.content)))
