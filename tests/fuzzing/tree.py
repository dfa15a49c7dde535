"""DICOM files as trees that can be written with anything wrong: what a mutator changes, and what a seed is before it is changed."""

from __future__ import annotations

import copy
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scanloop.scans.dicom_structure import DEFLATED_LITTLE, EXPLICIT_BIG, EXTENDED_LITTLE, IMPLICIT_LITTLE

PIXEL_DATA = 0x7FE00010
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


@dataclass
class Element:
    """One element. Everything about it may be wrong."""

    tag: int
    vr: str
    value: bytes = b""
    items: list[list[Element]] | None = None
    """Items of a sequence, in place of a value."""
    fragments: list[bytes] | None = None
    """Items of encapsulated pixels, the offset table first, in place of a value."""
    length: int | None = None
    """What the length field says, where it is not the truth."""
    is_open: bool = False
    """Whether the sequence, and each of its items, ends with a delimiter instead of having a length."""
    has_end: bool = True
    """Whether that delimiter is there."""


@dataclass
class DicomFile:
    """A file: preamble, file meta, dataset."""

    syntax: str
    """Transfer syntax that the file meta name."""
    dataset: list[Element]
    meta: list[Element] = field(default_factory=list)
    preamble: bytes = bytes(128)
    magic: bytes = b"DICM"
    encoding: str = ""
    """Transfer syntax that the dataset is written in, where it is another."""
    tail: bytes = b""
    """What follows the dataset."""

    def copy(self) -> DicomFile:
        """A file to change."""
        return copy.deepcopy(self)

    def lists(self) -> list[list[Element]]:
        """Every list of elements, from the dataset down; the dataset counts often, as most of what is read is there."""
        return [self.dataset] * 4 + list(_lists(self.dataset))

    def encode(self) -> bytes:
        """The bytes."""
        meta = b"".join(_element(element, "<", is_implicit=False) for element in self.meta)
        written = self.encoding or self.syntax
        order = ">" if written == EXPLICIT_BIG else "<"
        body = b"".join(
            _element(element, order, is_implicit=written == IMPLICIT_LITTLE, is_extended=written == EXTENDED_LITTLE)
            for element in self.dataset
        )
        if written == DEFLATED_LITTLE:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
            body = deflater.compress(body) + deflater.flush()
        return self.preamble + self.magic + meta + body + self.tail


def _lists(elements: Sequence[Element]) -> Iterator[list[Element]]:
    for element in elements:
        for item in element.items or ():
            yield item
            yield from _lists(item)


def us(tag: int, *numbers: int) -> Element:
    """An element of unsigned shorts; written in the byte order of the dataset when that is big."""
    return Element(tag, "US", struct.pack(f"<{len(numbers)}H", *numbers))


def text(tag: int, vr: str, value: str) -> Element:
    """An element of text, padded to an even length."""
    content = value.encode()
    return Element(tag, vr, content + (b"\0" if vr == "UI" else b" ") * (len(content) % 2))


def sequence(tag: int, *items: list[Element], is_open: bool = False) -> Element:
    """A sequence."""
    return Element(tag, "SQ", items=list(items), is_open=is_open)


def encapsulated(frames: Sequence[bytes], *, table: bool = False) -> Element:
    """Encapsulated pixels, a fragment a frame; with a basic offset table if asked."""
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    offsets = [sum(8 + len(frame) for frame in padded[:index]) for index in range(len(padded))] if table else []
    return Element(PIXEL_DATA, "OB", fragments=[struct.pack(f"<{len(offsets)}I", *offsets), *padded], is_open=True)


_SWAPPED = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OL": 4, "OF": 4, "FD": 8, "OD": 8, "UV": 8, "SV": 8, "OV": 8}


def _element(element: Element, order: str, *, is_implicit: bool, is_extended: bool = False) -> bytes:
    if element.items is not None:
        value = b"".join(_item(item, order, is_implicit=is_implicit, is_open=element.is_open) for item in element.items)
    elif element.fragments is not None:
        value = b"".join(_tag(ITEM, order) + struct.pack(order + "I", len(part)) + part for part in element.fragments)
    else:
        value = element.value
        if order == ">" and (size := _SWAPPED.get(element.vr)) and len(value) % size == 0:
            value = b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))
    length = len(value) if element.length is None else element.length
    if element.is_open:
        length = UNDEFINED if element.length is None else element.length
        value += (_tag(SEQUENCE_END, order) + bytes(4)) if element.has_end else b""
    head = _tag(element.tag, order)
    if is_implicit:
        return head + struct.pack(order + "I", length & UNDEFINED) + value
    head += element.vr.encode("latin-1")[:2].ljust(2, b"?")
    if is_extended and element.tag == PIXEL_DATA:
        return head + bytes(2) + struct.pack("<Q", length) + value
    if element.vr in LONG_VRS:
        return head + bytes(2) + struct.pack(order + "I", length & UNDEFINED) + value
    return head + struct.pack(order + "H", length & 0xFFFF) + value


def _item(elements: Sequence[Element], order: str, *, is_implicit: bool, is_open: bool) -> bytes:
    value = b"".join(_element(element, order, is_implicit=is_implicit) for element in elements)
    if is_open:
        return _tag(ITEM, order) + struct.pack(order + "I", UNDEFINED) + value + _tag(ITEM_END, order) + bytes(4)
    return _tag(ITEM, order) + struct.pack(order + "I", len(value)) + value


def _tag(tag: int, order: str) -> bytes:
    return struct.pack(order + "HH", tag >> 16 & 0xFFFF, tag & 0xFFFF)


def parse(content: bytes) -> DicomFile:
    """A whole file in explicit VR little endian, such as pydicom writes, as a tree."""
    meta, at = _parsed(content, 132, len(content), is_meta=True)
    dataset, _ = _parsed(content, at, len(content))
    syntax = next(element.value for element in meta if element.tag == 0x00020010).rstrip(b"\0").decode()
    return DicomFile(syntax, dataset, meta)


def _parsed(content: bytes, at: int, end: int, *, is_meta: bool = False) -> tuple[list[Element], int]:
    """Elements up to `end`, or the delimiter of their item, and where they end."""
    found: list[Element] = []
    while at < end:
        group, number = struct.unpack_from("<HH", content, at)
        tag = group << 16 | number
        if tag == ITEM_END:
            return found, at + 8
        if is_meta and group != 2:
            break
        vr = content[at + 4 : at + 6].decode()
        is_long = vr in LONG_VRS
        length = struct.unpack_from("<I" if is_long else "<H", content, at + (8 if is_long else 6))[0]
        at += 12 if is_long else 8
        if vr == "SQ":
            items, at = _items(content, at, length)
            found.append(Element(tag, vr, items=items, is_open=length == UNDEFINED))
        else:
            found.append(Element(tag, vr, content[at : at + length]))
            at += length
    return found, at


def _items(content: bytes, at: int, length: int) -> tuple[list[list[Element]], int]:
    end = len(content) if length == UNDEFINED else at + length
    items: list[list[Element]] = []
    while at < end:
        group, number, size = struct.unpack_from("<HHI", content, at)
        at += 8
        if group << 16 | number == SEQUENCE_END:
            break
        item, at = _parsed(content, at, len(content) if size == UNDEFINED else at + size)
        items.append(item)
    return items, at
