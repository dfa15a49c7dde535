"""JPEG exports of 8 bits, grey or in colours: planes as samples of a pixel, or stacked from top to bottom, as the sidecar says.

What research sets and operators' stations export. It is lossy, so its planes are what the exporter left of them.

Source: ITU-T T.81, annex B; T.871 (JFIF); Adobe Technical Note 5116, section 18 (APP14).
"""

from __future__ import annotations

import numpy as np

from scanloop.scans.codestreams import read_jpeg
from scanloop.scans.errors import ScanRefused
from scanloop.scans.frames import decode_by_libjpeg
from scanloop.scans.limits import check_plane_sizes

_BITS = 8
_START_OF_SCAN, _COMMENT, _APPLICATION = 0xDA, 0xFE, range(0xE0, 0xF0)


def is_jpeg(head: bytes) -> bool:
    """Whether the first bytes are those of a stream of the JPEG family."""
    return head.startswith(b"\xff\xd8\xff")


def read_jpeg_picture(content: bytes) -> tuple[list[np.ndarray], int]:
    """The samples of a baseline or progressive JPEG, grey or red, green and blue, each (H, W) uint16, and their bits.

    Comments and application data (EXIF, thumbnails, profiles) are left out before the decoder sees the file; a picture that EXIF wants turned is read
    as it lies.

    Raises:
        ScanRefused: incomplete, too large, of another depth, process or number of samples, or followed by something else.
    """
    jpeg = read_jpeg(content)
    picture = jpeg.picture
    check_plane_sizes(picture.samples, picture.height_px, picture.width_px, _BITS)
    if jpeg.process != "dct":
        raise ScanRefused(
            "unsupported_encoding", f"Expected a baseline or progressive JPEG picture, found one of the process {jpeg.process}."
        )
    if picture.bits != _BITS or picture.samples not in (1, 3):
        found = f"{picture.samples} samples of {picture.bits} bits"
        raise ScanRefused("unsupported_pixels", f"Expected grey pixels or three colours of {_BITS} bits, found {found}.")
    if content[len(jpeg.stream) :].strip(b"\0"):
        raise ScanRefused("polyglot", f"{len(content) - len(jpeg.stream)} bytes follow the end of the JPEG.")
    stream = _essentials(jpeg.stream)
    if picture.samples == 1:
        return [decode_by_libjpeg(stream).astype(np.uint16)], _BITS
    # Where nothing is said three samples are luminance and chrominance, as T.871 and every decoder has it.
    pixels = decode_by_libjpeg(stream, "RGB" if jpeg.is_ybr is False else "YCBCR", "RGB")
    return [pixels[:, :, sample].astype(np.uint16) for sample in range(3)], _BITS


def _essentials(stream: bytes) -> bytes:
    """The same stream without comments and application data before its first scan; `read_jpeg` has found its segments whole."""
    kept, position, marker = [stream[:2]], 2, 0
    while marker != _START_OF_SCAN:
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        has_length = marker != 0x01 and not 0xD0 <= marker <= 0xD8
        end = position + 2 + (int.from_bytes(stream[position + 2 : position + 4], "big") if has_length else 0)
        if marker != _COMMENT and marker not in _APPLICATION:
            kept.append(stream[position:end])
        position = end
    return b"".join(kept) + stream[position:]
