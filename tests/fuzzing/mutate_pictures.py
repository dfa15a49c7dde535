"""Changes to TIFF, PNG and JSON: directories and their entries, chunks with right checksums, fields."""

from __future__ import annotations

import json
import random
import struct
import zlib
from typing import Any

from fuzzing.mutate_bytes import BOUNDARIES, WORDS, cut, havoc

_TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    270,
    273,
    277,
    278,
    279,
    282,
    284,
    296,
    305,
    315,
    317,
    320,
    322,
    323,
    324,
    325,
    330,
    347,
    338,
    339,
    34665,
    65000,
)
_TIFF_VALUES = (*WORDS, 3, 5, 12, 34712, 32946, 32773, 50000, 50001, 50002, 32768, 700, 600)


def mutate_tiff(content: bytes, draw: random.Random) -> bytes:
    """Change entries of a directory in place, chain directories, or move numbers anywhere."""
    mutant = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        entries = _entries(mutant)
        if not entries or draw.random() < 0.2:
            return cut(bytes(mutant), draw) if draw.random() < 0.2 else havoc(bytes(mutant), draw)
        _change_entry(mutant, draw.choice(entries), draw)
    return bytes(mutant)


def _layout(content: bytes | bytearray) -> tuple[str, bool]:
    return ("<" if content[:2] == b"II" else ">"), content[2:4] in (b"+\0", b"\0+")


def _entries(content: bytes | bytearray) -> list[int]:
    """Positions of directory entries; the negative of a position is that of a next-directory offset."""
    order, is_big = _layout(content)
    head, size, count_size = (8, 20, 8) if is_big else (4, 12, 2)
    word = order + ("Q" if is_big else "I")
    found: list[int] = []
    try:
        offset = struct.unpack_from(word, content, head)[0]
        found.append(-head)
        for _ in range(4):
            if not 0 < offset < len(content):
                break
            count = struct.unpack_from(order + ("Q" if is_big else "H"), content, offset)[0]
            found += [offset + count_size + index * size for index in range(min(count, 40))]
            found.append(-(offset + count_size + count * size))
            offset = struct.unpack_from(word, content, offset + count_size + count * size)[0]
    except (struct.error, OverflowError):
        pass  # what an earlier change has made of it
    return [place for place in found if abs(place) + size <= len(content) + 8]


def _change_entry(mutant: bytearray, place: int, draw: random.Random) -> None:
    order, is_big = _layout(mutant)
    word = order + ("Q" if is_big else "I")

    def put(kind: str, at: int, number: int) -> None:
        size = struct.calcsize(kind)
        mutant[at : at + size] = struct.pack(kind, number % (1 << 8 * size))

    if place < 0:
        put(word, -place, draw.choice((0, 8, -place, len(mutant), draw.randrange(len(mutant) + 1), *WORDS[-4:])))
        return
    match draw.randrange(6):
        case 0:
            put(order + "H", place, draw.choice(_TAGS))
        case 1:
            put(order + "H", place + 2, draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 16, 17, 18, 255, 65535)))
        case 2:
            put(word, place + 4, draw.choice((*BOUNDARIES[:6], *WORDS[-6:])))
        case 3:
            put(order + "H", place + (12 if is_big else 8), draw.choice(_TIFF_VALUES))
        case 4:
            put(word, place + (12 if is_big else 8), draw.choice((*_TIFF_VALUES, draw.randrange(len(mutant) + 8))))
        case _:
            other = draw.choice([entry for entry in _entries(mutant) if entry > 0] or [place])
            size = 20 if is_big else 12
            mutant[place : place + size] = mutant[other : other + size]


def mutate_png(content: bytes, draw: random.Random) -> bytes:
    """Change chunks and put their checksums right, most of the time; change the deflated rows as rows or as a stream."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks or draw.random() < 0.1:
        return cut(content, draw) if draw.random() < 0.3 else havoc(content, draw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        if chunks:
            _change_chunk(chunks, draw)
    written = bytearray(content[:8])
    for kind, body in chunks:
        length = len(body) if draw.random() < 0.97 else draw.choice((0, len(body) + 1, 0x7FFFFFFF, 0xFFFFFFFF))
        written += struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ (draw.random() < 0.02))
    return bytes(written)


_KINDS = (
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"tEXt",
    b"zTXt",
    b"iCCP",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"eXIf",
    b"CgBI",
    b"IDAt",
    b"\0\0\0\0",
)


def _change_chunk(chunks: list[tuple[bytes, bytes]], draw: random.Random) -> None:
    at = draw.randrange(len(chunks))
    kind, body = chunks[at]
    match draw.randrange(8):
        case 0:
            chunks.insert(draw.randrange(len(chunks) + 1), chunks[at])
        case 1:
            chunks.pop(at)
        case 2:
            chunks.insert(draw.randrange(len(chunks) + 1), (draw.choice(_KINDS), draw.randbytes(draw.randrange(20))))
        case 3:
            chunks[at] = (draw.choice(_KINDS), body)
        case 4:
            middle = draw.randrange(len(body) + 1)
            chunks[at : at + 1] = [(kind, body[:middle]), (kind, body[middle:])]
        case 5:
            _change_header(chunks, draw)
        case 6:
            _change_rows(chunks, draw)
        case _:
            chunks[at] = (kind, havoc(body or b"\0", draw, 2))


def _change_header(chunks: list[tuple[bytes, bytes]], draw: random.Random) -> None:
    for index, (kind, body) in enumerate(chunks):
        if kind == b"IHDR" and len(body) == 13:
            fields = list(struct.unpack(">IIBBBBB", body))
            place = draw.randrange(7)
            fields[place] = draw.choice(WORDS) if place < 2 else draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 255))
            chunks[index] = (kind, struct.pack(">IIBBBBB", *fields))
            return


def _change_rows(chunks: list[tuple[bytes, bytes]], draw: random.Random) -> None:
    for index, (kind, body) in enumerate(chunks):
        if kind == b"IDAT":
            try:
                rows = zlib.decompress(body)
            except zlib.error:
                return
            rows = draw.choice((rows[:-1], rows + b"\0", rows * 2, havoc(rows or b"\0", draw), bytes(draw.choice((0, 100, 1 << 16)))))
            packed = zlib.compress(rows, draw.choice((0, 1, 9)))
            chunks[index] = (kind, draw.choice((packed, packed[:-4], packed[:-1], packed + b"\0\0", packed[2:])))
            return


_JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    10**400,
    "",
    " ",
    "x" * 300,
    "\x00",
    "a\nb",
    "\u202egnp.exe",
    "\ud800",
    "../../etc/passwd",
    "<script>",
    "CON",
    [],
    {},
    [[]] * 20,
    ["high"],
    ["high", "high"],
    ["High"],
    ["a" * 40],
    ["high"] * 17,
    [1, 2],
    "2026-13-45",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    1 << 63,
    "OPERATIONAL",
    "n\u0303" * 100,
)


def mutate_json(content: bytes, draw: random.Random) -> bytes:
    """Change fields of a sidecar, its nesting, or its text."""
    fields = json.loads(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        name = draw.choice((*fields, "unheard_of")) if fields else "planes"
        match draw.randrange(4):
            case 0:
                fields.pop(name, None)
            case 1:
                fields[draw.choice(("planes", "bag_id", "site", "issuer", "__proto__", "PLANES", ""))] = fields.get(name)
            case _:
                fields[name] = draw.choice(_JSON_VALUES)
    text = json.dumps(fields, ensure_ascii=draw.random() < 0.7)
    match draw.randrange(12):
        case 0:
            text = text.replace("1", "NaN").replace("2", "Infinity")
        case 1:
            text = "[" * draw.choice((1, 200, 100_000)) + text
        case 2:
            text = '{"a":' * draw.choice((1, 200, 10_000)) + text + "}" * draw.choice((1, 200))
        case 3:
            text = text.replace('"planes"', '"planes": ["low"], "planes"', 1)
        case 4:
            return havoc(text.encode("utf-8", "surrogatepass"), draw)
        case 5:
            return text.encode(draw.choice(("utf-16", "utf-8-sig", "utf-32")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
