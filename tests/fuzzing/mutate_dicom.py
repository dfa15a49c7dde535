"""Changes to a DICOM file as a tree: its elements, their representation, lengths and nesting, its fragments, its transfer syntax."""

from __future__ import annotations

import random
import struct

from fuzzing.mutate_bytes import BOUNDARIES, cut, havoc
from fuzzing.mutate_streams import mutate_stream
from fuzzing.tree import LONG_VRS, PIXEL_DATA, UNDEFINED, DicomFile, Element
from scanloop.scans.dicom_elements import _TAGS
from scanloop.scans.dicom_structure import ENCAPSULATED, NATIVE

_VRS = (
    "AE",
    "AS",
    "AT",
    "CS",
    "DA",
    "DS",
    "DT",
    "FD",
    "FL",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "SL",
    "SS",
    "ST",
    "TM",
    "UI",
    "UL",
    "US",
    *sorted(LONG_VRS),
    "ZZ",
    "ox",
    "\0\0",
    "??",
)
_SYNTAXES = (*sorted(NATIVE), *sorted(ENCAPSULATED), "1.2.840.113619.5.2", "", "1.2.840.10008.1.2.4.100")
_READ_TAGS = tuple(tag for tag, _ in _TAGS.values())
_OTHER_TAGS = (
    0x00081140,
    0x00091001,
    0x00100010,
    0x00181000,
    0x00280002,
    0x00280106,
    0x00281201,
    0x00282110,
    0x52009229,
    0x52009230,
    0x7FE00001,
    0x7FE00002,
    0x7FE00008,
    0x7FE00010,
    0xFFFCFFFC,
    0xFFFEE000,
    0xFFFEE00D,
    0xFFFEE0DD,
    0x00020010,
    0x00000000,
    0xFFFFFFFF,
    0x00189329,
    0x00209113,
    0x00289145,
    0x40101001,
)
_TEXTS = (
    b"",
    b" ",
    b"\0\0",
    b"0",
    b"-1",
    b"1\\2",
    b"\\\\\\",
    b"1e999",
    b"nan ",
    b"1" * 64,
    b"99999999999999999999",
    b"MONOCHROME1",
    b"RGB ",
    b"YBR_FULL",
    b"YBR_FULL_422",
    b"PALETTE COLOR ",
    b"ISO 2022 IR 87",
    b"ISO_IR 100",
    b"ISO 2022 IR 149\\ISO_IR 13",
    b"GB18030 ",
    b"\x1b$B\x1b(B\x1b",
    b"\xff\xfe\x80\x00",
    b"\xe2\x80\xae\xf0\x9f\x98",
    b"20261399",
    b"00000000",
    b"99991231",
    b"235960.999999 ",
    b"ORIGINAL\\MULTI ENERGY\\X\\HIGH ENERGY\\HIGH ENERGY ",
    b"ORIGINAL\\LOW ENERGY",
    b"A" * 3000,
    b"../../x\n",
    b"1.2.840.10008.5.1.4.1.1.501.1",
    b"1.2.840.10008.5.1.4.1.1.7 ",
    b"1.2.840.10008.5.1.4.1.1.501.2.1 ",
    b"1.2.840.10008.5.1.4.1.1.501.3",
)


def mutate_dicom(seed: DicomFile, draw: random.Random) -> bytes:
    """A file made from a seed by one to five changes."""
    file = seed.copy()
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5))):
        draw.choices(_CHANGES, _WEIGHTS)[0](file, draw)
    content = file.encode()
    chance = draw.random()
    if chance < 0.08:
        return havoc(content, draw)
    return cut(content, draw) if chance < 0.1 else content


def _pick(file: DicomFile, draw: random.Random) -> tuple[list[Element], int] | None:
    elements = draw.choice(file.lists())
    return (elements, draw.randrange(len(elements))) if elements else None


def _order(file: DicomFile, draw: random.Random) -> None:
    """Remove, repeat, move or swap an element."""
    if picked := _pick(file, draw):
        elements, at = picked
        match draw.randrange(4):
            case 0:
                elements.pop(at)
            case 1:
                elements.insert(draw.randrange(len(elements) + 1), elements[at])
            case 2:
                elements.insert(draw.randrange(len(elements)), elements.pop(at))
            case _:
                other = draw.randrange(len(elements))
                elements[at], elements[other] = elements[other], elements[at]


def _insert(file: DicomFile, draw: random.Random) -> None:
    """Add an element that is read, a private one, a sequence or a delimiter where none belongs."""
    elements = draw.choice(file.lists())
    tag = draw.choice((draw.choice(_READ_TAGS), draw.choice(_OTHER_TAGS), draw.randrange(1 << 32)))
    new = Element(tag, draw.choice(_VRS), _value(draw))
    if draw.random() < 0.3:
        new.items, new.is_open, new.vr = [[Element(draw.choice(_READ_TAGS), "LO", _value(draw))]], draw.random() < 0.5, "SQ"
    at = next((index for index, element in enumerate(elements) if element.tag > tag), len(elements))
    elements.insert(at if draw.random() < 0.8 else draw.randrange(len(elements) + 1), new)


def _value(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        return draw.choice(_TEXTS)
    if kind == 1:
        return struct.pack("<H", draw.choice(BOUNDARIES))
    if kind == 2:
        return struct.pack(draw.choice(("<I", "<i", "<f", "<d", "<q")), draw.choice((0, 1, -1 % (1 << 31), 7, 65536)))
    return draw.randbytes(draw.choice((0, 1, 2, 3, 4, 5, 8, 16)))


def _retag(file: DicomFile, draw: random.Random) -> None:
    """Call an element another."""
    if picked := _pick(file, draw):
        element = picked[0][picked[1]]
        element.tag = draw.choice((draw.choice(_READ_TAGS), draw.choice(_OTHER_TAGS), element.tag ^ 1 << draw.randrange(32)))


def _representation(file: DicomFile, draw: random.Random) -> None:
    """Change a VR, the value staying."""
    if picked := _pick(file, draw):
        picked[0][picked[1]].vr = draw.choice(_VRS)


def _length(file: DicomFile, draw: random.Random) -> None:
    """Let a length lie, or a sequence have no end."""
    if picked := _pick(file, draw):
        element = picked[0][picked[1]]
        true = len(element.value)
        match draw.randrange(4):
            case 0:
                element.is_open = not element.is_open
            case 1:
                element.has_end = not element.has_end
            case _:
                element.length = draw.choice(
                    (0, 1, true - 1, true + 1, true + 2, true + 8, 0xFFFF, 0xFFFE, 0x7FFFFFFF, UNDEFINED - 1, UNDEFINED)
                ) % (1 << 32)


def _change_value(file: DicomFile, draw: random.Random) -> None:
    """Another value: at a boundary, a text of an odd kind, another element's, or a bit of it flipped."""
    if picked := _pick(file, draw):
        elements, at = picked
        element = elements[at]
        if element.items is not None or element.fragments is not None:
            return
        match draw.randrange(5):
            case 0:
                element.value = _value(draw)
            case 1:
                element.value = draw.choice(_TEXTS)
            case 2:
                element.value = draw.choice(elements).value
            case 3 if element.vr in ("US", "SS"):
                element.value = struct.pack("<H", draw.choice(BOUNDARIES))
            case _:
                element.value = havoc(element.value or b"\0", draw, 2)


def _nest(file: DicomFile, draw: random.Random) -> None:
    """Put an element into sequences, up to far beyond the limit."""
    if picked := _pick(file, draw):
        elements, at = picked
        element = elements[at]
        for _ in range(draw.choice((1, 1, 2, 5, 15, 17, 40))):
            element = Element(
                draw.choice((0x00081140, 0x52009229, 0x00189329, 0x00091001)), draw.choice(("SQ", "SQ", "UN")), items=[[element]]
            )
            element.is_open = draw.random() < 0.6
        elements[at] = element


def _items(file: DicomFile, draw: random.Random) -> None:
    """Add, remove, swap or empty items of a sequence."""
    sequences = [element for elements in file.lists() for element in elements if element.items is not None]
    if sequences:
        items = draw.choice(sequences).items
        assert items is not None
        if not items or draw.random() < 0.3:
            items.append([])
        elif draw.random() < 0.5:
            items.append(draw.choice(items))
        else:
            items.pop(draw.randrange(len(items)))


def _pixels(file: DicomFile, draw: random.Random) -> None:
    """Change the fragments, the offset table, the stream of a frame, or native pixels."""
    found = next((element for element in file.dataset if element.tag == PIXEL_DATA), None)
    if found is None:
        return
    if not found.fragments:
        change = draw.randrange(4)
        if change == 0:
            found.value = found.value[: draw.randrange(len(found.value) + 1)]
        elif change == 1:
            found.value += bytes(draw.choice((1, 2, 3, 100, 511, 512, 513)))
        elif change == 2:
            found.fragments, found.is_open = [b"", found.value], True
        else:
            found.value = havoc(found.value or b"\0", draw)
        return
    parts = found.fragments
    at = draw.randrange(len(parts))
    match draw.randrange(11):
        case 0:
            middle = draw.randrange(len(parts[at]) + 1)
            parts[at : at + 1] = [parts[at][:middle], parts[at][middle:]]
        case 1 if at + 1 < len(parts):
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        case 2:
            parts.pop(at)
        case 3:
            parts.insert(at, draw.choice((b"", b"\0\0", parts[at])))
        case 4:
            draw.shuffle(parts)
        case 5:
            parts[0] = struct.pack(
                f"<{(count := draw.randrange(5))}I", *(draw.choice((0, 8, len(parts[-1]), 0xFFFFFFFF)) for _ in range(count))
            )
        case 6:
            found.has_end = False
        case 7:
            found.fragments, found.is_open, found.value = None, False, b"".join(parts)
        case _:
            parts[at] = mutate_stream(parts[at], draw)


def _syntax(file: DicomFile, draw: random.Random) -> None:
    """Name another transfer syntax, or write the dataset in another."""
    other = draw.choice(_SYNTAXES)
    if draw.random() < 0.5:
        file.encoding = file.encoding or file.syntax
        for element in file.meta:
            if element.tag == 0x00020010:
                element.value = other.encode() + b"\0" * (len(other) % 2)
    else:
        file.encoding = other


def _envelope(file: DicomFile, draw: random.Random) -> None:
    """Change the preamble, the magic, the file meta or what follows."""
    match draw.randrange(6):
        case 0:
            file.preamble = draw.choice(
                (b"MZ\x90\0", b"%PDF-1.7", b"<html>", b"II*\0\x08\0\0\0", b"MM\0*", b"PK\x03\x04", b"#!/bin/sh")
            ).ljust(128, b"\0")
        case 1:
            file.magic = draw.choice((b"", b"DICN", b"dicm", bytes(4)))
        case 2:
            file.preamble = bytes(draw.choice((0, 127, 129, 132)))
        case 3 if file.meta:
            draw.choice((file.meta.pop, lambda at: file.meta.insert(at, file.meta[at])))(draw.randrange(len(file.meta)))
        case 4 if file.meta:
            file.meta[draw.randrange(len(file.meta))].length = draw.choice((0, 1, 0xFFFF, UNDEFINED))
        case _:
            file.tail += draw.choice(
                (bytes(600), b"PK\x03\x04" + bytes(20), b"\0", b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0abcd", draw.randbytes(8))
            )


_CHANGES = (_order, _insert, _retag, _representation, _length, _change_value, _nest, _items, _pixels, _syntax, _envelope)
_WEIGHTS = (3, 3, 2, 3, 3, 6, 1, 2, 8, 1, 1)
