"""Which bytes of encapsulated pixel data make which frame.

Source: DICOM PS3.5 A.4, tables A.4-1 and A.4-2; PS3.3 C.7.6.3.1.8 (extended offset table); ITU-T T.81 B.1.1.2, T.87 annex C, T.800 A.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scanloop.scans.codestreams import read_jpeg
from scanloop.scans.dicom_structure import Structure
from scanloop.scans.errors import ScanRefused

EXTENDED_OFFSETS, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_ITEM_HEADER_BYTES = 8
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""How a JPEG or JPEG-LS stream starts, and a JPEG 2000 codestream."""
_END_MARKER = b"\xff\xd9"


def compressed_frames(structure: Structure, count: int) -> list[bytes]:
    """The bytes of each frame: one fragment each, all fragments of the only frame, as an offset table says, or, where there is none, from a start
    marker to an end marker.

    Raises:
        ScanRefused: fragments cannot be told apart into `count` frames.
    """
    if not structure.fragments:
        raise ScanRefused("malformed", "Encapsulated PixelData has no offset table item.")
    (table_start, table_end), *fragments = structure.fragments
    content = structure.dataset
    if count == 1 and fragments:
        return [b"".join(content[start:end] for start, end in fragments)]
    if len(fragments) == count:
        return [content[start:end] for start, end in fragments]
    offsets = _extended(structure) or np.frombuffer(content[table_start : table_start + (table_end - table_start) // 4 * 4], "<u4").tolist()
    groups = _grouped(fragments, offsets, table_end, count) if offsets else _between_markers(content, fragments, count)
    return [b"".join(content[start:end] for start, end in group) for group in groups]


def _between_markers(content: bytes, fragments: Sequence[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Fragments by the frame they belong to, told by how frames of the JPEG family start and end: an end marker occurs in no coded data."""
    groups: list[list[tuple[int, int]]] = []
    has_ended = True
    for start, end in fragments:
        if has_ended:
            if not content.startswith(_STARTS, start, end):
                break
            groups.append([])
        groups[-1].append((start, end))
        has_ended = content[max(start, end - 2) : end] == _END_MARKER or content[max(start, end - 3) : end] == _END_MARKER + b"\0"
    if len(groups) != count or not has_ended:
        raise ScanRefused("malformed", f"{len(fragments)} fragments without offsets cannot be told apart into {count} frames.")
    return groups


def frame_count_agrees(structure: Structure, count: int) -> bool:
    """Whether `count` frames are what the fragments or an offset table hold."""
    (table_start, table_end), *fragments = structure.fragments or ((0, 0),)
    return count in (len(fragments), (table_end - table_start) // 4, len(_extended(structure)))


def _extended(structure: Structure) -> list[int]:
    start, end = structure.spans.get(EXTENDED_OFFSETS, (0, 0))
    return np.frombuffer(structure.dataset[start : start + (end - start) // 8 * 8], "<u8").tolist()


def _grouped(fragments: Sequence[tuple[int, int]], offsets: list[int], origin: int, count: int) -> list[list[tuple[int, int]]]:
    """Fragments by the frame they belong to: an offset counts from the first byte of the first fragment's item."""
    groups: dict[int, list[tuple[int, int]]] = {offset: [] for offset in sorted(offsets)}
    starts = {start - _ITEM_HEADER_BYTES - origin for start, _ in fragments}
    if len(groups) != count or len(offsets) != count or not groups.keys() <= starts or min(groups) != 0:
        raise ScanRefused("malformed", f"{len(fragments)} fragments cannot be told apart into {count} frames.")
    order = list(groups)
    position = 0
    for start, end in fragments:
        while position + 1 < count and start - _ITEM_HEADER_BYTES - origin >= order[position + 1]:
            position += 1
        groups[order[position]].append((start, end))
    return list(groups.values())


def is_lossy_jpeg(structure: Structure) -> bool:
    """Whether the first frame is of a process whose decoder turns luminance and chrominance into colours. Raises ScanRefused if it is no JPEG."""
    _, *fragments = structure.fragments or ((0, 0),)
    return read_jpeg(b"".join(structure.dataset[start:end] for start, end in fragments)).process == "dct"
