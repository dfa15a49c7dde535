"""PNG exports: planes stacked from top to bottom, or as samples of a pixel, as the sidecar says.

Of 8 or 16 bits; also of fewer, and with a palette, because tools make such files of pictures with few values without being asked.

Source: PNG (third edition), sections 5.2 to 5.6, 7.2, 11.2.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import check_plane_sizes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"IDAT", b"IEND")
_GREY, _PALETTE = 0, 3
_SAMPLES = {_GREY: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}
"""Colour type to samples a pixel. The last sample of types 4 and 6 is opacity."""
_BITS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
"""Colour type to the bits that a sample may have; 8 or 16 for all others."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and steps of both, of each pass of an interlaced picture (PNG 8.1)."""
_WITH_ALPHA = (4, 6)


def is_png(head: bytes) -> bool:
    """Whether the first bytes are those of a PNG."""
    return head.startswith(SIGNATURE)


@dataclass(frozen=True)
class _Essentials:
    """What a file says that matters for its pixels."""

    height_px: int
    width_px: int
    bits: int
    colour: int
    interlace: int
    palette: np.ndarray
    """(N, 3) uint8."""
    compressed: bytes
    """All IDAT chunks."""


def read_png(content: bytes) -> tuple[list[np.ndarray], int]:
    """The samples of a PNG, each (H, W) uint16, and their bits. Opacity that is full everywhere says nothing and is left out; a palette is resolved.

    Every chunk is checked and ancillary ones (texts, profiles) are left out before the decoder sees the file.

    Raises:
        ScanRefused: incomplete, contradictory or too large.
    """
    file = _essentials(content)
    samples = _SAMPLES[file.colour]
    passes = _PASSES if file.interlace else ((0, 0, 1, 1),)
    needed = sum(_pass_bytes(file.height_px, file.width_px, samples * file.bits, *one) for one in passes)
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(file.compressed, needed + 1))
    except zlib.error as error:
        raise ScanRefused("malformed", f"The pixels cannot be inflated: {error}.") from None
    if size != needed or not inflater.eof:
        code, found = ("truncated", "fewer") if size < needed else ("malformed", "more")
        raise ScanRefused(
            code, f"{file.height_px} x {file.width_px} pixels of {file.bits} bits need {needed} bytes; the file holds {found}."
        )
    if inflater.unused_data.strip(b"\0"):
        raise ScanRefused("polyglot", f"{len(inflater.unused_data)} bytes follow the deflated pixels.")
    planes = _decoded(file)
    if file.colour == _PALETTE:
        return colours_of(planes[0], file.palette), 8
    if file.colour in _WITH_ALPHA and (planes[-1] == (1 << file.bits) - 1).all():
        planes.pop()
    return planes, file.bits


def _decoded(file: _Essentials) -> list[np.ndarray]:
    """The samples as they are written, an index of a palette as a number."""
    import imagecodecs

    colour = _GREY if file.colour == _PALETTE else file.colour
    header = struct.pack(">IIBBBBB", file.width_px, file.height_px, file.bits, colour, 0, 0, file.interlace)
    clean = SIGNATURE + b"".join(_chunk(kind, body) for kind, body in zip(_CRITICAL, (header, file.compressed, b""), strict=True))
    pixels = np.atleast_3d(imagecodecs.png_decode(clean)).astype(np.uint16)
    if file.bits < 8:
        # The decoder stretches few bits to eight (PNG 13.12); this is the way back, exactly.
        pixels //= 255 // ((1 << file.bits) - 1)
    return [np.ascontiguousarray(pixels[:, :, index]) for index in range(pixels.shape[2])]


def colours_of(indices: np.ndarray, palette: np.ndarray) -> list[np.ndarray]:
    """The colours (H, W) uint16 of a picture with a palette (N, 3): red, green and blue, or one plane where all that it uses are greys.

    Raises:
        ScanRefused: it uses more colours than there are.
    """
    if int(indices.max()) >= len(palette):
        raise ScanRefused("malformed", f"Expected pixels of a palette of {len(palette)} colours, found number {int(indices.max())}.")
    used = palette[np.unique(indices)]
    is_grey = bool((used == used[:, :1]).all())
    return [palette[:, sample].astype(np.uint16)[indices] for sample in range(1 if is_grey else 3)]


def _pass_bytes(height_px: int, width_px: int, pixel_bits: int, left: int, top: int, step_x: int, step_y: int) -> int:
    """Bytes of one pass: rows, each with a byte that names its filter; a pass without a column has no row either."""
    columns, rows = -(-(width_px - left) // step_x), -(-(height_px - top) // step_y)
    return rows * (1 + (columns * pixel_bits + 7) // 8) if columns > 0 and rows > 0 else 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _essentials(content: bytes) -> _Essentials:
    """What matters of a file whose chunks are all whole."""
    position, header, parts, ended = len(SIGNATURE), None, [], False
    palette = b""
    while position < len(content):
        if ended:
            if content[position:].strip(b"\0"):
                raise ScanRefused("polyglot", f"{len(content) - position} bytes follow the end of the PNG.")
            break
        if position + 12 > len(content):
            raise ScanRefused("truncated", f"A chunk starts {len(content) - position} bytes before the end.")
        length, kind = struct.unpack_from(">I4s", content, position)
        if position + 12 + length > len(content):
            raise ScanRefused("truncated", f"A chunk announces {length} bytes; {len(content) - position - 12} are left.")
        body = content[position + 8 : position + 8 + length]
        if struct.unpack_from(">I", content, position + 8 + length)[0] != zlib.crc32(body, zlib.crc32(kind)):
            raise ScanRefused("malformed", f"The chunk at byte {position} fails its checksum.")
        if (kind == b"IHDR") != (header is None):
            raise ScanRefused("malformed", "IHDR is not the first chunk, or not the only one.")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            parts.append(body)
        elif kind == b"IEND":
            ended = True
        elif kind == b"PLTE" and header is not None and header[9:10] in b"\2\3\6" and not palette:
            palette = body  # beside true colours it is a suggestion (PNG 11.2.2)
        elif not kind[0] & 0x20:
            raise ScanRefused("unsupported_pixels", "Expected grey pixels or colours, found a chunk that only other pictures need.")
        position += 12 + length
    if header is None or not ended:
        raise ScanRefused("truncated", "The PNG has no end.")
    if len(header) != 13:
        raise ScanRefused("malformed", f"Expected 13 bytes of IHDR, found {len(header)}.")
    width_px, height_px, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    check_plane_sizes(3 if colour == _PALETTE else _SAMPLES.get(colour, 1), height_px, width_px, bits)
    if colour not in _SAMPLES or bits not in _BITS.get(colour, (8, 16)) or compression or filtering or interlace > 1:
        raise ScanRefused("unsupported_pixels", f"No PNG has pixels of colour type {colour} and {bits} bits, or it is of a later edition.")
    if colour == _PALETTE and (len(palette) % 3 or not 3 <= len(palette) <= 3 << bits):
        raise ScanRefused("malformed", f"Expected a palette of 1 to {1 << bits} colours, found {len(palette)} bytes.")
    colours = np.frombuffer(palette, np.uint8, len(palette) // 3 * 3).reshape(-1, 3)
    return _Essentials(height_px, width_px, bits, colour, interlace, colours, b"".join(parts))
