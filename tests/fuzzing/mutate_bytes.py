"""Changes that know nothing of a format, and those that know where its numbers are."""

from __future__ import annotations

import random

BOUNDARIES = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 255, 256, 4095, 4096, 16384, 16385, 32767, 32768, 65534, 65535)
WORDS = (*BOUNDARIES, 65536, 1 << 20, (1 << 24) - 1, 1 << 28, (1 << 31) - 1, 1 << 31, 0xFFFFFFFE, 0xFFFFFFFF)
_TOKENS = (
    b"\xff\xff\xff\xff",
    bytes(4),
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xe0\x7f\x10\0",
    b"\xff\xd9",
    b"\xff\xd8",
    b"\xff\xda",
    b"\xff\x4f\xff\x51",
    b"\xff\x90",
    b"DICM",
    b"II*\0",
    b"IDAT",
    b"IEND",
    b"PK\x03\x04",
    b"%PDF-1.7",
    b"MZ",
    b"<svg",
)


def havoc(content: bytes, draw: random.Random, most: int = 6) -> bytes:
    """Flip, overwrite, remove, repeat, insert: one to `most` times anywhere."""
    mutant = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, most))):
        if not mutant:
            return draw.randbytes(draw.randrange(1, 64))
        at = draw.randrange(len(mutant))
        match draw.randrange(9):
            case 0:
                mutant[at] ^= 1 << draw.randrange(8)
            case 1:
                mutant[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)))
            case 2:
                token = draw.choice(_TOKENS)
                mutant[at : at + len(token)] = token
            case 3:
                mutant[at:at] = draw.choice(_TOKENS)
            case 4:
                del mutant[at : at + draw.choice((1, 2, 4, 8, draw.randrange(1, 40)))]
            case 5:
                mutant[at:at] = draw.randbytes(draw.randrange(1, 17))
            case 6:
                length = draw.randrange(1, 64)
                mutant[at:at] = mutant[at : at + length] * draw.randrange(1, 4)
            case 7:
                write_number(mutant, at, draw)
            case _:
                length, other = draw.randrange(1, 32), draw.randrange(len(mutant))
                mutant[at : at + length] = mutant[other : other + length]
    return bytes(mutant)


def write_number(mutant: bytearray, at: int, draw: random.Random) -> None:
    """Write a number at a boundary, of 1, 2, 4 or 8 bytes of either order, or move the one that is there a little."""
    size, order = draw.choice((1, 2, 2, 4, 4, 4, 8)), draw.choice(("little", "big"))
    old = int.from_bytes(mutant[at : at + size], order)  # type: ignore[arg-type]
    new = old + draw.choice((-2, -1, 1, 2, 256)) if draw.random() < 0.4 else draw.choice(WORDS)
    mutant[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]


def cut(content: bytes, draw: random.Random) -> bytes:
    """The start of a file, or all but its start, or the file and something behind it."""
    at = draw.randrange(len(content) + 1)
    return draw.choice((content[:at], content[:at], content[at:], content + draw.choice(_TOKENS), content + bytes(at), content + content))
