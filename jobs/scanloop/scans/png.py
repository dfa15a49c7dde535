"""PNG exports of 8 or 16 bits: planes stacked from top to bottom, or as samples of a pixel, as the sidecar says.

Source: PNG (third edition), sections 5.2 to 5.6, 11.2.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import check_plane_sizes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"IDAT", b"IEND")
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
"""Colour type to samples a pixel; palettes are not read. The last sample of types 4 and 6 is opacity."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and steps of both, of each pass of an interlaced picture (PNG 8.1)."""
_WITH_ALPHA = (4, 6)


def is_png(head: bytes) -> bool:
    """Whether the first bytes are those of a PNG."""
    return head.startswith(SIGNATURE)


def read_png(content: bytes) -> tuple[list[np.ndarray], int]:
    """The samples of a PNG, each (H, W) uint16, and their bits. Opacity that is full everywhere says nothing and is left out.

    Every chunk is checked and ancillary ones (texts, profiles) are left out before the decoder sees the file.

    Raises:
        ScanRefused: incomplete, contradictory, too large, or in a palette.
    """
    import imagecodecs

    height_px, width_px, bits, colour, interlace, compressed = _essentials(content)
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    needed = sum(_pass_bytes(height_px, width_px, _SAMPLES[colour] * bits // 8, *one) for one in passes)
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(compressed, needed + 1))
    except zlib.error as error:
        raise ScanRefused("malformed", f"The pixels cannot be inflated: {error}.") from None
    if size != needed or not inflater.eof:
        code, found = ("truncated", "fewer") if size < needed else ("malformed", "more")
        raise ScanRefused(code, f"{height_px} x {width_px} pixels of {bits} bits need {needed} bytes; the file holds {found}.")
    if inflater.unused_data.strip(b"\0"):
        raise ScanRefused("polyglot", f"{len(inflater.unused_data)} bytes follow the deflated pixels.")
    header = struct.pack(">IIBBBBB", width_px, height_px, bits, colour, 0, 0, interlace)
    clean = SIGNATURE + b"".join(_chunk(kind, body) for kind, body in zip(_CRITICAL, (header, compressed, b""), strict=True))
    pixels = np.atleast_3d(imagecodecs.png_decode(clean)).astype(np.uint16)
    samples = [np.ascontiguousarray(pixels[:, :, index]) for index in range(pixels.shape[2])]
    if colour in _WITH_ALPHA and (samples[-1] == (1 << bits) - 1).all():
        samples.pop()
    return samples, bits


def _pass_bytes(height_px: int, width_px: int, pixel_bytes: int, left: int, top: int, step_x: int, step_y: int) -> int:
    """Bytes of one pass: rows, each with a byte that names its filter; a pass without a column has no row either."""
    columns, rows = -(-(width_px - left) // step_x), -(-(height_px - top) // step_y)
    return rows * (1 + columns * pixel_bytes) if columns > 0 and rows > 0 else 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _essentials(content: bytes) -> tuple[int, int, int, int, int, bytes]:
    """Rows, columns, bits, colour type, whether interlaced, and the joined IDAT bytes of a file whose chunks are all whole."""
    position, header, parts, ended = len(SIGNATURE), None, [], False
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
        elif not kind[0] & 0x20 and not (kind == b"PLTE" and header is not None and header[9:10] in (b"\2", b"\6")):
            # A palette beside true colours is a suggestion (PNG 11.2.2).
            raise ScanRefused("unsupported_pixels", "Expected grey pixels or colours, found a chunk that only other pictures need.")
        position += 12 + length
    if header is None or not ended:
        raise ScanRefused("truncated", "The PNG has no end.")
    if len(header) != 13:
        raise ScanRefused("malformed", f"Expected 13 bytes of IHDR, found {len(header)}.")
    width_px, height_px, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    check_plane_sizes(_SAMPLES.get(colour, 1), height_px, width_px, bits)
    if colour not in _SAMPLES or bits not in (8, 16) or compression or filtering or interlace > 1:
        raise ScanRefused(
            "unsupported_pixels", f"Expected grey pixels or colours of 8 or 16 bits; found colour type {colour}, {bits} bits."
        )
    return height_px, width_px, bits, colour, interlace, b"".join(parts)
