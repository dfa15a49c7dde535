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
from dataclasses import dataclass, field
from typing import TypeVar

from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_ELEMENTS, MAX_INFLATED_BYTES, MAX_NESTING

PREAMBLE_BYTES = 128
MAX_BARE_VALUE_BYTES = 128
"""A first value longer than this is not what an implicit dataset without preamble starts with."""
PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXTENDED_LITTLE = "1.2.840.10008.1.2.1.64"
"""Explicit little endian where the length of PixelData has 64 bits, as DICOS toolkits write large CT volumes; in no edition of DICOM."""
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXTENDED_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})
"""Transfer syntaxes whose pixels are plain numbers."""
ENCAPSULATED = {
    "1.2.840.10008.1.2.1.98": "native",
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.51": "jpeg",
    "1.2.840.10008.1.2.4.53": "jpeg",
    "1.2.840.10008.1.2.4.55": "jpeg",
    "1.2.840.10008.1.2.4.57": "jpeg",
    "1.2.840.10008.1.2.4.70": "jpeg",
    "1.2.840.10008.1.2.4.80": "jpeg",
    "1.2.840.10008.1.2.4.81": "jpeg",
    "1.2.840.10008.1.2.4.90": "jpeg2000",
    "1.2.840.10008.1.2.4.91": "jpeg2000",
    "1.2.840.10008.1.2.4.92": "jpeg2000",
    "1.2.840.10008.1.2.4.93": "jpeg2000",
    "1.2.840.10008.1.2.4.110": "jpegxl",
    "1.2.840.10008.1.2.4.111": "jpegxl",
    "1.2.840.10008.1.2.4.112": "jpegxl",
    "1.2.840.10008.1.2.4.201": "jpeg2000",
    "1.2.840.10008.1.2.4.202": "jpeg2000",
    "1.2.840.10008.1.2.4.203": "jpeg2000",
    "1.2.840.10008.1.2.5": "rle",
    "1.2.840.10008.1.2.8.1": "deflate",
}
"""Transfer syntaxes whose frames are compressed, and with what. HTJ2K is read as JPEG 2000 is, JPEG Lossless and JPEG-LS as JPEG is."""
SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
"""Sequences of what all frames share, and of what each frame has (PS3.3 C.7.6.16)."""
_MACROS = frozenset({0x00189329, 0x00209111, 0x00209113, 0x00209116, 0x00289110, 0x00289145})
"""Functional groups that say how frames make a volume: frame type, frame content, position, orientation, spacing, rescale."""
_THREAT_SEQUENCES = frozenset({0x40101001, 0x40101011, 0x40101037, 0x40101038})
"""Of a DICOS Threat Detection Report: regions of interest, threats, their representations, their assessments."""
FOLLOWED = _THREAT_SEQUENCES | {0x00081110, 0x0008114A}
"""Sequences whose items are kept, where they are at the top level or in an item that is kept: those above, and referenced studies and instances."""
_READ_IF_UNKNOWN = _MACROS | _THREAT_SEQUENCES | {SHARED_GROUPS, FRAME_GROUPS}
"""Sequences that toolkits which do not know them have made UN of; their items are then implicit (PS3.5 section 6.2.2, note 2)."""
_FUNCTIONAL_DEPTH = 5
"""Open containers around an element of a functional group: dataset, sequence, item, sequence, item."""

_SHORT_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
)
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_VRS = {vr.encode(): vr for vr in _SHORT_VRS | _LONG_VRS}


@dataclass(frozen=True)
class Item:
    """One item of a sequence that is followed."""

    values: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """Tag to VR (empty where the file says none), start and end of its value."""
    items: dict[int, list[Item]] = field(default_factory=dict)
    """Tag of a sequence in it to its items."""


@dataclass(frozen=True)
class Structure:
    """Where things are in a DICOM file whose lengths all add up."""

    transfer_syntax: str
    """UID of the encoding of the dataset; where a file names none, that which its first element shows."""
    dataset: bytes
    """What spans are positions in: the received bytes, or the inflated dataset."""
    spans: Mapping[int, tuple[int, int]]
    """Top-level tag to start and end of its value in `dataset`."""
    vrs: Mapping[int, str]
    """Top-level tag to VR; empty where the file says none."""
    fragments: tuple[tuple[int, int], ...]
    """Start and end of every item of encapsulated PixelData; the first is the offset table. Empty for native pixels."""
    functional: tuple[tuple[int, int, str, int, int], ...] = ()
    """Elements of functional groups: frame from 0, or -1 for all; tag, VR, start, end."""
    frame_groups: int = 0
    """Items of the per-frame functional groups."""
    sequences: Mapping[int, list[Item]] = field(default_factory=dict)
    """Top-level tag of a sequence that is followed to its items."""

    @property
    def is_little_endian(self) -> bool:
        """Byte order of the dataset."""
        return self.transfer_syntax != EXPLICIT_BIG


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes are a DICOM preamble, or those of a DICOM file or dataset that lacks it."""
    return head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM" or _bare_start(head) is not None


def _bare_start(head: bytes) -> str | None:
    """The transfer syntax that the start of a file without preamble shows: its file meta is explicit; otherwise a dataset starts in group 8."""
    if head[:6] == b"\x02\0\0\0UL":
        return EXPLICIT_LITTLE
    for group, syntax in ((b"\x08\0", EXPLICIT_LITTLE), (b"\0\x08", EXPLICIT_BIG)):
        if head[:2] == group and head[4:6] in _VRS:
            return syntax
    if head[:2] == b"\x08\0" and head[3:4] == b"\0" and head[2] <= 0x18 and 0 < int.from_bytes(head[4:8], "little") <= MAX_BARE_VALUE_BYTES:
        return IMPLICIT_LITTLE
    return None


def read_structure(content: bytes) -> Structure:
    """Check a DICOM file from end to end.

    Raises:
        ScanRefused: truncated, malformed, too deep, too large, or of a transfer syntax that is not read.
    """
    syntax, start = _start(content)
    if syntax not in NATIVE and syntax not in ENCAPSULATED:
        shown = syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "that is no UID"
        raise ScanRefused("unsupported_encoding", f"The transfer syntax {shown} is not read.")
    dataset = content
    if syntax == DEFLATED_LITTLE:
        dataset, start = _inflate(memoryview(content)[start:]), 0
    is_implicit = _is_implicit(dataset, start, syntax)
    walk = _Walk(dataset, start, is_implicit=is_implicit, order=">" if syntax == EXPLICIT_BIG else "<")
    walk.has_long_pixels = syntax == EXTENDED_LITTLE
    walk.dataset()
    if PIXEL_DATA in walk.spans and bool(walk.fragments) != (syntax in ENCAPSULATED):
        raise ScanRefused("malformed", "PixelData is encapsulated where the transfer syntax says native, or the other way round.")
    return Structure(
        syntax, dataset, walk.spans, walk.vrs, tuple(walk.fragments), tuple(walk.functional), walk.frame_groups, walk.top.items
    )


def _start(content: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the dataset starts."""
    if content[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
        bare = _bare_start(content[: PREAMBLE_BYTES + 4])
        if bare is None:
            raise ScanRefused("malformed", "There is neither a DICOM preamble nor the start of a dataset.")
        return _file_meta(content, 0) if content[0] == 2 else (bare, 0)
    preamble = content[:PREAMBLE_BYTES]
    if preamble.strip(b"\0") and preamble[:4] not in (b"II*\0", b"MM\0*"):
        # PS3.10 section 7.1: all zero, or used by another format. The only such use known to be meant is a TIFF header.
        raise ScanRefused("polyglot", "The preamble holds something that is neither nothing nor a TIFF header.")
    return _file_meta(content, PREAMBLE_BYTES + 4)


def _is_implicit(dataset: bytes, start: int, syntax: str) -> bool:
    """Whether elements carry no VR. Toolkits are known to name the wrong one of the two little-endian syntaxes, so the first element decides."""
    if syntax == EXPLICIT_BIG or len(dataset) < start + 8:
        return syntax == IMPLICIT_LITTLE
    return dataset[start + 4 : start + 6] not in _VRS


def _file_meta(content: bytes, position: int) -> tuple[str, int]:
    """The transfer syntax, and where the dataset starts: group 0002 is explicit little endian and ends with the first other group.

    Where its elements have no VR, as old toolkits write them, their lengths are those of implicit ones.
    """
    syntax, announced = "", False
    while position + 8 <= len(content) and content[position : position + 2] == b"\x02\0":
        announced = True
        element, vr = struct.unpack_from("<H2s", content, position + 2)
        if vr.decode("latin-1") in _LONG_VRS:
            if position + 12 > len(content):
                break
            length, value = struct.unpack_from("<I", content, position + 8)[0], position + 12
        elif vr in _VRS:
            length, value = struct.unpack_from("<H", content, position + 6)[0], position + 8
        else:
            length, value = struct.unpack_from("<I", content, position + 4)[0], position + 8
        if value + length > len(content):
            raise ScanRefused(
                "truncated", f"File meta element (0002,{element:04x}) announces {length} bytes; {len(content) - value} are left."
            )
        if element == 0x0010:
            syntax = content[value : value + min(length, 64)].rstrip(b"\0 ").decode("ascii", "replace")
        position = value + length
    if not syntax:
        # A dataset that shows its own encoding needs no name for it.
        syntax = _bare_start(content[position : position + PREAMBLE_BYTES]) or ""
    if not syntax:
        code = "truncated" if position + 8 > len(content) else "malformed"
        raise ScanRefused(code, f"The file meta {'names no transfer syntax' if announced else 'is missing'}.")
    return syntax, position


def _inflate(deflated: memoryview) -> bytes:
    """Inflate a dataset, raw as it should be, or with the header of zlib (RFC 1950), as toolkits are known to write it.

    No writer of raw blocks starts with those two bytes: they would be a stored block with its padding bits set.
    """
    has_header = len(deflated) > 1 and deflated[0] == 0x78 and not (deflated[0] << 8 | deflated[1]) % 31
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, MAX_INFLATED_BYTES + 1)
    except zlib.error as error:
        raise ScanRefused("malformed", f"The deflated dataset cannot be inflated: {error}.") from None
    if len(inflated) > MAX_INFLATED_BYTES:
        raise ScanRefused("too_large", f"The deflated dataset inflates to more than {MAX_INFLATED_BYTES} bytes.")
    if not inflater.eof:
        raise ScanRefused("truncated", "The deflated dataset ends before its last block.")
    # Some writers end the stream as gzip does, with a checksum and the size (RFC 1952, section 2.3.1).
    trailer = struct.pack("<II", zlib.crc32(inflated), len(inflated))
    if inflater.unused_data.strip(b"\0") and inflater.unused_data != trailer:
        raise ScanRefused("malformed", f"{len(inflater.unused_data)} bytes follow the deflated dataset.")
    return inflated


_Kept = TypeVar("_Kept")


class _Walk:
    """One pass over a dataset with an explicit stack of open containers; never recurses."""

    def __init__(self, dataset_bytes: bytes, start: int, *, is_implicit: bool, order: str) -> None:
        self.bytes = dataset_bytes
        self.start = start
        self.is_implicit = is_implicit
        self.tag_format = struct.Struct(order + "HH")
        self.long = struct.Struct(order + "I")
        self.short = struct.Struct(order + "H")
        self.little_tag, self.little_long = struct.Struct("<HH"), struct.Struct("<I")
        self.spans: dict[int, tuple[int, int]] = {}
        self.vrs: dict[int, str] = {}
        self.fragments: list[tuple[int, int]] = []
        self.functional: list[tuple[int, int, str, int, int]] = []
        self.frame_groups = 0
        self.top = Item()
        self.followed: list[tuple[int, list[Item]]] = []
        """Open sequences that are followed: the depth of what their items hold, and the items so far."""
        self.elements = 0
        self.has_long_pixels = False

    def dataset(self) -> None:
        """Walk everything. An entry of the stack is (end or -1 if delimited, is this a sequence, are its elements implicit)."""
        stack: list[tuple[int, bool, bool]] = [(len(self.bytes), False, self.is_implicit)]
        position = self.start
        group = macro = 0  # the functional groups, and the one of them, that the walk is in
        while True:
            end, in_sequence, implicit = stack[-1]
            if self.followed and len(stack) < self.followed[-1][0] - 1:
                self.followed.pop()
                continue
            if position == end:
                stack.pop()
                if not stack:
                    return
                continue
            limit = next(open_end for open_end, _, _ in reversed(stack) if open_end >= 0)
            if len(stack) == 1 and not self.bytes[position : position + 8].strip(b"\0") and not self.bytes[position:].strip(b"\0"):
                return  # zeros fill up the last sector of a tape or a card
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
            depth = len(stack)
            if tag == ITEM:
                if self.followed and depth == self.followed[-1][0] - 1:
                    self.followed[-1][1].append(Item())
                stack.append((-1 if is_open else value + length, False, implicit))
                self.frame_groups += depth == 2 and group == FRAME_GROUPS
            elif tag == PIXEL_DATA and is_open:
                # The pixels of an icon, deeper down, are walked over only.
                position = self._encapsulated(value, self.fragments if depth == 1 else [])
                if depth == 1:
                    self._remember(tag, vr, value, position)
            elif vr == "SQ" or is_open or (vr == "UN" and tag in _READ_IF_UNKNOWN):
                if is_open and vr not in ("SQ", "UN", ""):
                    raise ScanRefused("malformed", f"{_name(tag)} of VR {vr} has no length.")
                if depth == 1:
                    self._remember(tag, vr, value, value)
                    group = tag if tag in (SHARED_GROUPS, FRAME_GROUPS) else 0
                elif depth == _FUNCTIONAL_DEPTH - 2:
                    macro = tag if tag in _MACROS else 0
                if tag in FOLLOWED:
                    self._follow(tag, depth)
                # UN of undefined length holds a sequence in implicit little endian (PS3.5 section 6.2.2, note 2); some toolkits leave VRs in it.
                is_copied = vr == "UN" and self.bytes[value + 12 : value + 14] not in _VRS
                stack.append((-1 if is_open else value + length, True, implicit or is_copied))
            else:
                if depth == 1:
                    self._remember(tag, vr, value, value + length)
                elif self.followed and depth == self.followed[-1][0]:
                    self._once(tag, self.followed[-1][1][-1].values)[tag] = (vr, value, value + length)
                elif depth == _FUNCTIONAL_DEPTH and group and macro:
                    frame = self.frame_groups - 1 if group == FRAME_GROUPS else -1
                    self.functional.append((frame, tag, vr, value, value + length))
                position = value + length
            if len(stack) > 2 * MAX_NESTING + 1:
                raise ScanRefused("too_deep", f"Sequences are nested more than {MAX_NESTING} deep at byte {position}.")

    def _follow(self, tag: int, depth: int) -> None:
        """Keep the items of the sequence that opens here, if what holds it is kept."""
        if depth == 1:
            holder: Item | None = self.top
        else:
            holder = self.followed[-1][1][-1] if self.followed and depth == self.followed[-1][0] else None
        if holder is not None:
            items = self._once(tag, holder.items)[tag] = []
            self.followed.append((depth + 2, items))

    @staticmethod
    def _once(tag: int, known: dict[int, _Kept]) -> dict[int, _Kept]:
        if tag in known:
            raise ScanRefused("malformed", f"{_name(tag)} is there twice.")
        return known

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
        vr = _VRS.get(self.bytes[position + 4 : position + 6]) or self._unknown_vr(tag, position)
        if vr in _SHORT_VRS:
            return tag, vr, self.short.unpack_from(self.bytes, position + 6)[0], position + 8
        if position + (16 if self.has_long_pixels and tag == PIXEL_DATA else 12) > limit:
            raise ScanRefused("truncated", f"An element starts at byte {position}, {limit - position} bytes before the end.")
        if self.has_long_pixels and tag == PIXEL_DATA:
            return tag, vr, int.from_bytes(self.bytes[position + 8 : position + 16], "little"), position + 16
        return tag, vr, long.unpack_from(self.bytes, position + 8)[0], position + 12

    def _unknown_vr(self, tag: int, position: int) -> str:
        """A VR of a later edition is of two capitals and has the long form (PS3.5 section 7.1.2): its bytes are walked over as unknown ones."""
        letters, reserved = self.bytes[position + 4 : position + 6], self.bytes[position + 6 : position + 8]
        if letters.isalpha() and letters.isupper() and reserved == b"\0\0":
            return "UN"
        raise ScanRefused("malformed", f"{_name(tag)} at byte {position} has the VR {letters!r}, which does not exist.")

    def _is_sequence(self, tag: int, *, in_sequence: bool) -> bool:
        """Whether the dictionary calls an element without VR a sequence."""
        from pydicom._dicom_dict import DicomDictionary

        return not in_sequence and DicomDictionary.get(tag, ("",))[0] == "SQ"

    def _remember(self, tag: int, vr: str, start: int, end: int) -> None:
        self._once(tag, self.spans)[tag] = (start, end)
        self.vrs[tag] = vr

    def _encapsulated(self, position: int, fragments: list[tuple[int, int]]) -> int:
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
            fragments.append((position, position + length))
            if len(fragments) > MAX_ELEMENTS:
                raise ScanRefused("too_large", f"More than {MAX_ELEMENTS} fragments of PixelData.")
            position += length


def _name(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
