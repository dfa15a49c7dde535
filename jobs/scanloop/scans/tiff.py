"""TIFF exports of 8 or 16 bits: planes as pages, as samples of a pixel (chunky or planar), or stacked, as the sidecar says.

A small reader of its own, because what it must do is refuse: every count, offset and size in the file is checked against the file's length and the
limits before it is followed, and every strip or tile is unpacked into a buffer of exactly the size it must have.

Source: TIFF 6.0, sections 2 (structure), 4 (greyscale), 6 (RGB), 9 (PackBits), 13 (LZW), 14 (predictor), 15 (tiles), and PlanarConfiguration in
section 8; Adobe Photoshop TIFF Technical Notes (deflate); TIFF Technical Note 2 (JPEG); the BigTIFF design.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanloop.scans.codestreams import read_jpeg
from scanloop.scans.errors import ScanRefused
from scanloop.scans.frames import decode_by_libjpeg
from scanloop.scans.limits import MAX_PLANES, check_plane_sizes
from scanloop.scans.png import colours_of

_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_CODECS = {1: "", 5: "lzw", 7: "jpeg", 8: "zlib", 32946: "zlib", 32773: "packbits", 50000: "zstd"}
_MAX_ENTRIES = 512
_MAX_SEGMENTS = 1 << 16
_MAX_TABLES_BYTES = 4096
"""Quantisation and Huffman tables that all JPEG strips or tiles of a page share: 8 of at most 200 bytes are usual."""
_PALETTE, _YCBCR = 3, 6
_MAX_PADDING_PX = 1 << 20
"""Tiles may stick out of the picture by so much, and by four times the picture."""


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF of either byte order."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class _Page:
    """One image file directory whose numbers all make sense."""

    height_px: int
    width_px: int
    bits: int
    samples: int
    is_planar: bool
    is_inverted: bool
    codec: str
    has_predictor: bool
    is_tiled: bool
    segment_height_px: int
    segment_width_px: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    tables: bytes | None = None
    is_ybr: bool = False
    palette: np.ndarray | None = None
    """(256, 3) uint16."""
    palette_bits: int = 8

    @property
    def depth(self) -> int:
        """Bits of the numbers that come out."""
        return self.bits if self.palette is None else self.palette_bits


def inverted_pages(content: bytes) -> list[bool]:
    """For every picture that `read_tiff` gives, whether the file has dark air, so that its numbers were turned round; one answer if none has.

    Raises:
        ScanRefused: as `read_tiff`.
    """
    inverted = [page.is_inverted for page in _Reader(content).pages() for _ in range(page.samples)]
    return inverted if any(inverted) else [False]


def read_tiff(content: bytes) -> tuple[list[np.ndarray], int]:
    """Every full-resolution page (H, W) uint16 of a TIFF, and their bits. A page of several samples a pixel is as many pages, in their order.

    A page with a palette is resolved: to one plane where all that it uses are greys, otherwise to red, green and blue.

    Raises:
        ScanRefused: incomplete, contradictory, too large, or compressed in a way that is not read.
    """
    reader = _Reader(content)
    pages = reader.pages()
    kinds = {(page.height_px, page.width_px, page.depth, page.palette is not None) for page in pages}
    if len(kinds) != 1:
        raise ScanRefused("unsupported_pixels", "Expected pages of one size and depth, all or none with a palette.")
    height_px, width_px, depth, has_palette = kinds.pop()
    check_plane_sizes(sum(3 if has_palette else page.samples for page in pages), height_px, width_px, depth)
    return [pixels for page in pages for pixels in reader.pixels(page)], depth


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        self.is_big = content[2:4] in (b"+\0", b"\0+")

    def _number(self, kind: str, position: int) -> int:
        reader = struct.Struct(self.order + kind)
        if position + reader.size > len(self.content):
            raise ScanRefused("truncated", f"Byte {position} is beyond the end of the TIFF.")
        return int(reader.unpack_from(self.content, position)[0])

    def pages(self) -> list[_Page]:
        """Follow the chain of directories."""
        offset = self._number("Q" if self.is_big else "I", 8 if self.is_big else 4)
        if self.is_big and (self._number("H", 4), self._number("H", 6)) != (8, 0):
            raise ScanRefused("malformed", "The BigTIFF header is not one.")
        seen: set[int] = set()
        found: list[_Page] = []
        while offset:
            if offset in seen or len(seen) >= 2 * MAX_PLANES:
                raise ScanRefused(
                    "malformed" if offset in seen else "too_large", f"More than {2 * MAX_PLANES} pages, or a page that follows itself."
                )
            seen.add(offset)
            tags, offset = self._directory(offset)
            if not self._first(tags, 254, 0) & 1:
                found.append(self._page(tags))
        if not found:
            raise ScanRefused("malformed", "The TIFF has no page.")
        return found

    def _directory(self, offset: int) -> tuple[dict[int, tuple[str, int, int]], int]:
        """Tag to (number format, count, position of values), and the next directory."""
        count_format, count_bytes, entry_bytes, size_format = ("Q", 8, 20, "Q") if self.is_big else ("H", 2, 12, "I")
        count = self._number(count_format, offset)
        if not 1 <= count <= _MAX_ENTRIES:
            raise ScanRefused("malformed", f"Expected a page of 1 to {_MAX_ENTRIES} tags, found {count}.")
        tags: dict[int, tuple[str, int, int]] = {}
        inline = 8 if self.is_big else 4
        for entry in range(offset + count_bytes, offset + count_bytes + count * entry_bytes, entry_bytes):
            tag, kind, values = self._number("H", entry), self._number("H", entry + 2), self._number(size_format, entry + 4)
            position = entry + entry_bytes - inline
            if kind in _TYPES:
                if values * struct.calcsize(self.order + _TYPES[kind]) > inline:
                    position = self._number(size_format, position)
                tags[tag] = (_TYPES[kind], values, position)
        return tags, self._number(size_format, offset + count_bytes + count * entry_bytes)

    def _values(self, tags: Mapping[int, tuple[str, int, int]], tag: int, expected: int) -> tuple[int, ...]:
        kind, count, position = tags.get(tag, ("", 0, 0))
        if count != expected:
            raise ScanRefused("malformed", f"Expected {expected} values of tag {tag}, found {count}.")
        size = struct.calcsize(self.order + kind) * count
        if position + size > len(self.content):
            raise ScanRefused("truncated", f"Tag {tag} has values beyond the end of the TIFF.")
        return struct.unpack_from(f"{self.order}{count}{kind}", self.content, position)

    def _first(self, tags: Mapping[int, tuple[str, int, int]], tag: int, default: int | None = None) -> int:
        if tag not in tags:
            if default is None:
                raise ScanRefused("malformed", f"A page lacks tag {tag}.")
            return default
        return self._values(tags, tag, 1)[0]

    def _page(self, tags: Mapping[int, tuple[str, int, int]]) -> _Page:
        """Check everything a page announces."""
        width_px, height_px = self._first(tags, 256), self._first(tags, 257)
        samples = self._first(tags, 277, 1)
        check_plane_sizes(samples, height_px, width_px, 16)
        bits, sign = self._same(tags, 258, samples, 1), self._same(tags, 339, samples, 1)
        photometric, compression, planar = self._first(tags, 262), self._first(tags, 259, 1), self._first(tags, 284, 1)
        is_ybr = photometric == _YCBCR and compression == 7 and samples == 3 and planar == 1
        has_palette = photometric == _PALETTE and compression != 7 and samples == 1 and bits == 8
        if (
            bits not in (8, 16)
            or not (photometric in (0, 1, 2) or is_ybr or has_palette)
            or sign != 1
            or self._first(tags, 266, 1) != 1
            or planar not in (1, 2)
        ):
            found = f"{samples} samples of {bits} bits, photometric {photometric}, planar configuration {planar}"
            raise ScanRefused(
                "unsupported_pixels", f"Expected unsigned pixels of 8 or 16 bits, grey or colours, top left first, found {found}."
            )
        is_planar = planar == 2 and samples > 1
        if compression not in _CODECS:
            raise ScanRefused("unsupported_encoding", f"The TIFF compression {compression} is not read.")
        predictor = self._first(tags, 317, 1)
        if predictor not in ((1,) if _CODECS[compression] == "jpeg" else (1, 2)):
            raise ScanRefused("unsupported_encoding", f"The TIFF predictor {predictor} is not read.")
        if tiled := 322 in tags:
            segment_width, segment_height = self._first(tags, 322), self._first(tags, 323)
        else:
            segment_width, segment_height = width_px, min(self._first(tags, 278, height_px), height_px)
        check_plane_sizes(1 if is_planar else samples, segment_height, segment_width, bits)
        a_plane = -(-height_px // segment_height) * -(-width_px // segment_width)
        count = a_plane * (samples if is_planar else 1)
        if count > _MAX_SEGMENTS or a_plane * segment_height * segment_width > 4 * height_px * width_px + _MAX_PADDING_PX:
            raise ScanRefused("too_large", f"{count} strips or tiles are more than a picture of {height_px} x {width_px} needs.")
        offsets = self._values(tags, 324 if tiled else 273, count)
        sizes = self._values(tags, 325 if tiled else 279, count)
        if any(offset + size > len(self.content) or not size for offset, size in zip(offsets, sizes, strict=True)):
            raise ScanRefused("truncated", "A strip or tile lies beyond the end of the TIFF.")
        return _Page(
            height_px,
            width_px,
            bits,
            samples,
            is_planar,
            photometric == 0,
            _CODECS[compression],
            predictor == 2,
            tiled,
            segment_height,
            segment_width,
            offsets,
            sizes,
            self._tables(tags) if _CODECS[compression] == "jpeg" else None,
            is_ybr,
            *(_palette(self._values(tags, 320, 3 << bits)) if has_palette else ()),
        )

    def _tables(self, tags: Mapping[int, tuple[str, int, int]]) -> bytes | None:
        """What all JPEG strips or tiles of a page share."""
        if 347 not in tags:
            return None
        _, count, _ = tags[347]
        if count > _MAX_TABLES_BYTES:
            raise ScanRefused("malformed", f"Expected at most {_MAX_TABLES_BYTES} bytes of JPEG tables, found {count}.")
        return bytes(self._values(tags, 347, count))

    def _same(self, tags: Mapping[int, tuple[str, int, int]], tag: int, samples: int, default: int) -> int:
        """The value that a tag has for every sample; some writers give it once for all."""
        if tag not in tags:
            return default
        values = set(self._values(tags, tag, samples if tags[tag][1] != 1 else 1))
        if len(values) != 1:
            raise ScanRefused("unsupported_pixels", f"Expected the same value of tag {tag} for all samples, found {sorted(values)}.")
        return values.pop()

    def pixels(self, page: _Page) -> list[np.ndarray]:
        """Unpack one page to planes (H, W) uint16 with bright air, one a sample."""
        planes = np.zeros((page.samples, page.height_px, page.width_px), np.uint16)
        across = -(-page.width_px // page.segment_width_px)
        a_plane = across * -(-page.height_px // page.segment_height_px)
        for index, (offset, size) in enumerate(zip(page.offsets, page.sizes, strict=True)):
            sample, place = divmod(index, a_plane) if page.is_planar else (slice(None), index)
            top, left = place // across * page.segment_height_px, place % across * page.segment_width_px
            # The last strip holds only the rows that are left; a tile is always whole (TIFF 6.0, sections 8 and 15).
            rows = page.segment_height_px if page.is_tiled else min(page.segment_height_px, page.height_px - top)
            segment = self._segment(self.content[offset : offset + size], page, rows)[:, : page.height_px - top, : page.width_px - left]
            planes[sample, top : top + rows, left : left + page.segment_width_px] = segment[0] if page.is_planar else segment
        if page.palette is not None:
            return colours_of(planes[0], page.palette)
        return list(np.uint16((1 << page.bits) - 1) - planes if page.is_inverted else planes)

    def _segment(self, packed: bytes, page: _Page, rows: int) -> np.ndarray:
        """One strip or tile as (samples in it, rows, columns) uint16."""
        import imagecodecs

        samples = 1 if page.is_planar else page.samples
        if page.codec == "jpeg":
            return np.moveaxis(_jpeg_segment(packed, page, rows, samples), 2, 0).astype(np.uint16)
        expected = rows * page.segment_width_px * samples * (page.bits // 8)
        unpacked = getattr(imagecodecs, f"{page.codec}_decode")(packed, out=expected + 1) if page.codec else packed
        if len(unpacked) < expected or len(unpacked) > expected + (not page.codec):
            code = "truncated" if len(unpacked) < expected else "malformed"
            raise ScanRefused(code, f"A strip or tile needs {expected} bytes, found {len(unpacked)}.")
        kind = np.dtype("u1") if page.bits == 8 else np.dtype(self.order + "u2")
        segment = np.frombuffer(unpacked, kind, rows * page.segment_width_px * samples).reshape(rows, page.segment_width_px, samples)
        if page.has_predictor:
            segment = np.cumsum(segment, axis=1, dtype=np.uint8 if page.bits == 8 else np.uint16)
        return np.moveaxis(segment, 2, 0).astype(np.uint16)


def _palette(values: Sequence[int]) -> tuple[np.ndarray, int]:
    """The colours (256, 3) uint16 of a page, and their bits: 8 where 16 say no more, or where a writer put 8 into them, as some do."""
    colours = np.array(values, np.uint16).reshape(3, -1).T
    if int(colours.max()) < 256:
        return colours, 8
    for scale in (257, 256):
        if not (colours % scale).any():
            return colours // np.uint16(scale), 8
    return colours, 16


def _jpeg_segment(packed: bytes, page: _Page, rows: int, samples: int) -> np.ndarray:
    """One strip or tile (rows, columns, samples) uint8 that is a JPEG stream, whole or without its tables."""
    jpeg = read_jpeg(packed)
    found = jpeg.picture
    # Some writers make the last strip as high as the others.
    if (found.width_px, found.samples, found.bits) != (page.segment_width_px, samples, page.bits) or found.height_px not in (
        rows,
        page.segment_height_px,
    ):
        expected = f"{rows} x {page.segment_width_px} pixels, {samples} samples of {page.bits} bits"
        raise ScanRefused("malformed", f"Expected a JPEG strip or tile of {expected}; its header says {found}.")
    if jpeg.process != "dct":
        raise ScanRefused("unsupported_encoding", f"A JPEG strip or tile is of the process {jpeg.process}, which is not read in a TIFF.")
    colours, wanted = ("YCBCR" if page.is_ybr else "RGB", "RGB") if samples == 3 else (None, None)
    return decode_by_libjpeg(jpeg.stream, colours, wanted, page.tables).reshape(found.height_px, found.width_px, samples)[:rows]
