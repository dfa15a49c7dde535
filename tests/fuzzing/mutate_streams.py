"""Changes inside compressed frames: markers of the JPEG family and of JPEG 2000, headers of RLE, boxes."""

from __future__ import annotations

import random
import struct

from fuzzing.mutate_bytes import BOUNDARIES, havoc, write_number

_JPEG_MARKERS = (
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC4,
    0xC5,
    0xC8,
    0xC9,
    0xCB,
    0xCC,
    0xD0,
    0xD7,
    0xD8,
    0xD9,
    0xDA,
    0xDB,
    0xDC,
    0xDD,
    0xE0,
    0xEE,
    0xF7,
    0xF8,
    0xFE,
    0x01,
    0xFF,
)
_J2K_MARKERS = (
    0x4F,
    0x50,
    0x51,
    0x52,
    0x53,
    0x55,
    0x57,
    0x58,
    0x5C,
    0x5D,
    0x5E,
    0x5F,
    0x60,
    0x61,
    0x63,
    0x64,
    0x90,
    0x91,
    0x92,
    0x93,
    0xD9,
)


def mutate_stream(stream: bytes, draw: random.Random) -> bytes:
    """Change a compressed frame where it hurts; what it is, its first bytes say."""
    if not stream or draw.random() < 0.25:
        return havoc(stream, draw)
    if stream[:2] == b"\xff\xd8":
        return _markers(stream, draw, _JPEG_MARKERS, last=0xDA)
    if stream[:2] == b"\xff\x4f":
        return _markers(stream, draw, _J2K_MARKERS, last=0x90)
    if stream[4:8] in (b"jP  ", b"JXL "):
        return _boxes(stream, draw)
    if len(stream) >= 64 and 1 <= struct.unpack_from("<I", stream)[0] <= 15:
        return _rle(stream, draw)
    return havoc(stream, draw)


def _segments(stream: bytes, last: int) -> list[bytes]:
    """A stream as its marker segments; what follows the segment `last`, entropy-coded, is one piece."""
    parts, at = [stream[:2]], 2
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        length = 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        parts.append(stream[at : at + length])
        at += length
        if parts[-1][1:2] == bytes([last]):
            break
    return [*parts, stream[at:]]


def _markers(stream: bytes, draw: random.Random, known: tuple[int, ...], last: int) -> bytes:
    parts = _segments(stream, last)
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(len(parts))
        part = bytearray(parts[at])
        match draw.randrange(9):
            case 0:
                parts.insert(at, parts[draw.randrange(len(parts))])
            case 1 if len(parts) > 1:
                parts.pop(at)
            case 2:
                other = draw.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
            case 3 if len(part) > 1:
                part[1] = draw.choice(known)
                parts[at] = bytes(part)
            case 4 if len(part) > 3:
                length = draw.choice((0, 1, 2, 3, len(part) - 3, len(part) - 1, len(part), 0xFFFF))
                part[2:4] = struct.pack(">H", length & 0xFFFF)
                parts[at] = bytes(part)
            case 5:
                body = draw.randbytes(draw.randrange(12))
                parts.insert(at, b"\xff" + bytes([draw.choice(known)]) + struct.pack(">H", 2 + len(body)) + body)
            case 6 if len(part) > 4:
                # A number inside a segment: sizes, components, precision, tables, tiles.
                place = draw.randrange(4, len(part))
                part[place : place + 2] = struct.pack(">H", draw.choice(BOUNDARIES))[: len(part) - place]
                parts[at] = bytes(part)
            case 7 if len(part) > 4:
                write_number(part, draw.randrange(4, len(part)), draw)
                parts[at] = bytes(part)
            case _:
                parts[-1] = havoc(parts[-1], draw, 3)
    return b"".join(parts)


def _boxes(stream: bytes, draw: random.Random) -> bytes:
    parts, at = [], 0
    while at + 8 <= len(stream):
        length = int.from_bytes(stream[at : at + 4], "big")
        end = len(stream) if length == 0 else at + max(length, 8)
        parts.append(bytearray(stream[at:end]))
        at = end
    chosen = draw.choice(parts)
    match draw.randrange(6):
        case 0:
            parts.insert(draw.randrange(len(parts) + 1), bytearray(chosen))
        case 1:
            parts.remove(chosen)
        case 2:
            draw.shuffle(parts)
        case 3:
            chosen[:4] = struct.pack(">I", draw.choice((0, 1, 7, 8, 9, len(chosen) - 1, len(chosen) + 1, 0xFFFFFFFF)))
        case 4:
            chosen[8:] = havoc(bytes(chosen[8:]), draw, 3)
        case _:
            chosen[8:] = mutate_stream(bytes(chosen[8:]), draw) if chosen[4:8] == b"jp2c" else draw.randbytes(16)
    return b"".join(parts)


def _rle(stream: bytes, draw: random.Random) -> bytes:
    words, body = list(struct.unpack_from("<16I", stream)), bytearray(stream[64:])
    match draw.randrange(6):
        case 0:
            words[0] = draw.choice((0, 1, 2, 3, 4, 15, 16, 0xFFFFFFFF))
        case 1:
            words[draw.randrange(1, 4)] = draw.choice((0, 63, 64, 65, len(stream) - 1, len(stream), 0xFFFFFFFF))
        case 2:
            words[1], words[2] = words[2], words[1]
        case 3 if body:
            body[draw.randrange(len(body))] = draw.choice((0, 1, 127, 128, 129, 255))
        case 4:
            del body[draw.randrange(len(body) + 1) :]
        case _:
            body += draw.randbytes(draw.randrange(1, 40))
    return struct.pack("<16I", *words) + bytes(body)
