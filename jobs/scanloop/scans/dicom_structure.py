"""The skeleton of a DICOM file, checked by arithmetic before any parser sees it.

Every declared length is compared with the bytes that are there, every nesting counted, every deflated byte capped; nothing is converted and
nothing is allocated but a table of the top level. A parser that reads the file afterwards cannot be led outside it.

Source: DICOM PS3.5 sections 7.1 (elements), 7.5 (sequences), A.4 (encapsulated pixels), A.5 (deflated), PS3.10 section 7.1 (file meta).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_ELEMENTS, MAX_INFLATED_BYTES, MAX_NESTING

PREAMBLE_BYTES = 128
PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})
"""Transfer syntaxes whose pixels are plain numbers."""
ENCAPSULATED = {
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.51": "jpeg",
    "1.2.840.10008.1.2.4.57": "ljpeg",
    "1.2.840.10008.1.2.4.70": "ljpeg",
    "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls",
    "1.2.840.10008.1.2.4.90": "jpeg2k",
    "1.2.840.10008.1.2.4.91": "jpeg2k",
    "1.2.840.10008.1.2.5": "rle",
}
"""Transfer syntaxes whose frames are compressed, and with what."""

_SHORT_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
)
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


@dataclass(frozen=True)
class Structure:
    """Where things are in a DICOM file whose lengths all add up."""

    transfer_syntax: str
    """UID of the encoding of the dataset."""
    dataset: bytes
    """The dataset without preamble and file meta, inflated where it was deflated."""
    spans: Mapping[int, tuple[int, int]]
    """Top-level tag to start and end of its value in `dataset`."""
    fragments: tuple[tuple[int, int], ...]
    """Start and end of every item of encapsulated PixelData; the first is the offset table. Empty for native pixels."""

    @property
    def is_implicit(self) -> bool:
        """Whether elements carry no VR."""
        return self.transfer_syntax == IMPLICIT_LITTLE

    @property
    def is_little_endian(self) -> bool:
        """Byte order of the dataset."""
        return self.transfer_syntax != EXPLICIT_BIG


def read_structure(content: bytes) -> Structure:
    """Check a DICOM file with preamble from end to end.

    Raises:
        ScanRefused: truncated, malformed, too deep, too large, or of a transfer syntax that is not read.
    """
    preamble = content[:PREAMBLE_BYTES]
    if preamble.strip(b"\0") and preamble[:4] not in (b"II*\0", b"MM\0*"):
        # PS3.10 section 7.1: all zero, or used by another format. The only such use known to be meant is a TIFF header.
        raise ScanRefused("polyglot", "The preamble holds something that is neither nothing nor a TIFF header.")
    syntax, start = _file_meta(content)
    if syntax not in NATIVE and syntax not in ENCAPSULATED:
        shown = syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "that is no UID"
        raise ScanRefused("unsupported_encoding", f"The transfer syntax {shown} is not read.")
    dataset = _inflate(content[start:]) if syntax == DEFLATED_LITTLE else content[start:]
    walk = _Walk(dataset, is_implicit=syntax == IMPLICIT_LITTLE, order=">" if syntax == EXPLICIT_BIG else "<")
    walk.dataset()
    if PIXEL_DATA in walk.spans and bool(walk.fragments) != (syntax in ENCAPSULATED):
        raise ScanRefused("malformed", "PixelData is encapsulated where the transfer syntax says native, or the other way round.")
    return Structure(syntax, dataset, walk.spans, tuple(walk.fragments))


def _file_meta(content: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the dataset starts: group 0002 is explicit little endian and ends with the first other group."""
    position, syntax = PREAMBLE_BYTES + 4, ""
    while position + 8 <= len(content) and struct.unpack_from("<H", content, position)[0] == 2:
        element, vr = struct.unpack_from("<H2s", content, position + 2)
        if vr.decode("latin-1") in _LONG_VRS:
            if position + 12 > len(content):
                break
            length, value = struct.unpack_from("<I", content, position + 8)[0], position + 12
        else:
            length, value = struct.unpack_from("<H", content, position + 6)[0], position + 8
        if value + length > len(content):
            raise ScanRefused(
                "truncated", f"File meta element (0002,{element:04x}) announces {length} bytes; {len(content) - value} are left."
            )
        if element == 0x0010:
            syntax = content[value : value + min(length, 64)].rstrip(b"\0 ").decode("ascii", "replace")
        position = value + length
    if not syntax:
        raise ScanRefused("truncated" if position + 8 > len(content) else "malformed", "The file meta names no transfer syntax.")
    return syntax, position


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, MAX_INFLATED_BYTES + 1)
    except zlib.error as error:
        raise ScanRefused("malformed", f"The deflated dataset cannot be inflated: {error}.") from None
    if len(inflated) > MAX_INFLATED_BYTES:
        raise ScanRefused("too_large", f"The deflated dataset inflates to more than {MAX_INFLATED_BYTES} bytes.")
    if not inflater.eof:
        raise ScanRefused("truncated", "The deflated dataset ends before its last block.")
    if inflater.unused_data.strip(b"\0"):
        raise ScanRefused("malformed", f"{len(inflater.unused_data)} bytes follow the deflated dataset.")
    return inflated


class _Walk:
    """One pass over a dataset with an explicit stack of open containers; never recurses."""

    def __init__(self, dataset_bytes: bytes, *, is_implicit: bool, order: str) -> None:
        self.bytes = dataset_bytes
        self.is_implicit = is_implicit
        self.tag_format = struct.Struct(order + "HH")
        self.long = struct.Struct(order + "I")
        self.short = struct.Struct(order + "H")
        self.little_tag, self.little_long = struct.Struct("<HH"), struct.Struct("<I")
        self.spans: dict[int, tuple[int, int]] = {}
        self.fragments: list[tuple[int, int]] = []
        self.elements = 0

    def dataset(self) -> None:
        """Walk everything. An entry of the stack is (end or -1 if delimited, is this a sequence, are its elements implicit)."""
        end_of_all = len(self.bytes)
        stack: list[tuple[int, bool, bool]] = [(end_of_all, False, self.is_implicit)]
        position = 0
        while True:
            end, in_sequence, implicit = stack[-1]
            if position == end:
                stack.pop()
                if not stack:
                    return
                continue
            limit = next(open_end for open_end, _, _ in reversed(stack) if open_end >= 0)
            if len(stack) == 1 and end_of_all - position < 8 and not self.bytes[position:].strip(b"\0"):
                return
            tag, vr, length, value = self._header(position, limit, is_implicit=implicit, in_sequence=in_sequence)
            if tag in (ITEM_END, SEQUENCE_END):
                if end != -1 or in_sequence != (tag == SEQUENCE_END) or length:
                    raise ScanRefused("malformed", f"A delimiter at byte {position} closes nothing.")
                stack.pop()
                position = value
                continue
            if in_sequence != (tag == ITEM):
                raise ScanRefused(
                    "malformed", f"Expected {'an item' if in_sequence else 'an element'} at byte {position}, found {_name(tag)}."
                )
            is_open = length == UNDEFINED
            if not is_open and value + length > limit:
                raise ScanRefused("truncated", f"{_name(tag)} announces {length} bytes at byte {position}; {limit - value} are left.")
            position = value
            if tag == ITEM:
                stack.append((-1 if is_open else value + length, False, implicit))
            elif tag == PIXEL_DATA and is_open and len(stack) == 1:
                position = self._encapsulated(value)
                self._remember(tag, value, position)
            elif vr == "SQ" or is_open:
                if is_open and vr not in ("SQ", "UN", ""):
                    raise ScanRefused("malformed", f"{_name(tag)} of VR {vr} has no length.")
                if len(stack) == 1:
                    self._remember(tag, value, value)
                # UN of undefined length holds a sequence in implicit little endian (PS3.5 section 6.2.2, note 2).
                stack.append((-1 if is_open else value + length, True, implicit or vr == "UN"))
            else:
                if len(stack) == 1:
                    self._remember(tag, value, value + length)
                position = value + length
            if len(stack) > 2 * MAX_NESTING + 1:
                raise ScanRefused("too_deep", f"Sequences are nested more than {MAX_NESTING} deep at byte {position}.")

    def _header(self, position: int, limit: int, *, is_implicit: bool, in_sequence: bool) -> tuple[int, str, int, int]:
        """Tag, VR ("" where there is none), length and start of value of the element at `position`."""
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise ScanRefused("too_large", f"More than {MAX_ELEMENTS} elements.")
        if position + 8 > limit:
            raise ScanRefused("truncated", f"An element starts at byte {position}, {limit - position} bytes before the end.")
        little = is_implicit and not self.is_implicit
        group, element = (self.little_tag if little else self.tag_format).unpack_from(self.bytes, position)
        tag = group << 16 | element
        long = self.little_long if little else self.long
        if is_implicit or group == 0xFFFE:
            return (
                tag,
                "SQ" if self._is_sequence(tag, in_sequence=in_sequence) else "",
                long.unpack_from(self.bytes, position + 4)[0],
                position + 8,
            )
        vr = self.bytes[position + 4 : position + 6].decode("latin-1")
        if vr not in _SHORT_VRS | _LONG_VRS:
            raise ScanRefused("malformed", f"{_name(tag)} at byte {position} has the VR {vr!r}, which does not exist.")
        if vr in _SHORT_VRS:
            return tag, vr, self.short.unpack_from(self.bytes, position + 6)[0], position + 8
        if position + 12 > limit:
            raise ScanRefused("truncated", f"An element starts at byte {position}, {limit - position} bytes before the end.")
        return tag, vr, long.unpack_from(self.bytes, position + 8)[0], position + 12

    def _is_sequence(self, tag: int, *, in_sequence: bool) -> bool:
        """Whether the dictionary calls an element without VR a sequence."""
        from pydicom._dicom_dict import DicomDictionary

        return not in_sequence and DicomDictionary.get(tag, ("",))[0] == "SQ"

    def _remember(self, tag: int, start: int, end: int) -> None:
        if tag in self.spans:
            raise ScanRefused("malformed", f"{_name(tag)} is there twice.")
        self.spans[tag] = (start, end)

    def _encapsulated(self, position: int) -> int:
        """Note every fragment of encapsulated pixels; return the byte after their end."""
        while True:
            if position + 8 > len(self.bytes):
                raise ScanRefused("truncated", "Encapsulated PixelData has no end.")
            group, element = self.tag_format.unpack_from(self.bytes, position)
            tag, length = group << 16 | element, self.long.unpack_from(self.bytes, position + 4)[0]
            position += 8
            if tag == SEQUENCE_END and length == 0:
                return position
            if tag != ITEM or length == UNDEFINED:
                raise ScanRefused("malformed", f"Expected a fragment of PixelData at byte {position - 8}, found {_name(tag)}.")
            if position + length > len(self.bytes):
                raise ScanRefused("truncated", f"A fragment of PixelData announces {length} bytes; {len(self.bytes) - position} are left.")
            self.fragments.append((position, position + length))
            if len(self.fragments) > MAX_ELEMENTS:
                raise ScanRefused("too_large", f"More than {MAX_ELEMENTS} fragments of PixelData.")
            position += length


def _name(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
