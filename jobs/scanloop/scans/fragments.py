"""Which bytes of encapsulated pixel data make which frame.

Source: DICOM PS3.5 A.4, tables A.4-1 and A.4-2; PS3.3 C.7.6.3.1.8 (extended offset table).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scanloop.scans.dicom_structure import Structure
from scanloop.scans.errors import ScanRefused

EXTENDED_OFFSETS, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_ITEM_HEADER_BYTES = 8


def compressed_frames(structure: Structure, count: int) -> list[bytes]:
    """The bytes of each frame: one fragment each, all fragments of the only frame, or as an offset table says. Raises ScanRefused."""
    if not structure.fragments:
        raise ScanRefused("malformed", "Encapsulated PixelData has no offset table item.")
    (table_start, table_end), *fragments = structure.fragments
    content = structure.dataset
    if count == 1 and fragments:
        return [b"".join(content[start:end] for start, end in fragments)]
    if len(fragments) == count:
        return [content[start:end] for start, end in fragments]
    offsets = _extended(structure) or np.frombuffer(content[table_start : table_start + (table_end - table_start) // 4 * 4], "<u4").tolist()
    return [b"".join(content[start:end] for start, end in group) for group in _grouped(fragments, offsets, table_end, count)]


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
