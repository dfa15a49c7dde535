"""One frame of DICOM pixels, native or compressed, as numbers.

A compressed frame says its own size; it is compared with what the file announces before a decoder may allocate anything. Decoders are those of
imagecodecs only.
"""

from __future__ import annotations

import numpy as np

from scanloop.scans.errors import ScanRefused

_SOF_WITHOUT_SIZE = frozenset({0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def decode_native(content: bytes, height_px: int, width_px: int, bits_allocated: int, *, is_little_endian: bool) -> np.ndarray:
    """Plain numbers (H, W) as uint16. `content` is exactly one frame."""
    kind = np.dtype("u1") if bits_allocated == 8 else np.dtype("<u2" if is_little_endian else ">u2")
    return np.frombuffer(content, kind).reshape(height_px, width_px).astype(np.uint16)


def decode_compressed(content: bytes, codec: str, height_px: int, width_px: int, bits_allocated: int) -> np.ndarray:
    """Decode one frame (H, W) to uint16.

    Raises:
        ScanRefused: the frame is incomplete, or its own header announces another picture than the file does.
    """
    import imagecodecs

    if codec == "rle":
        _check_rle(content, bits_allocated // 8)
        kind = np.dtype(f"<u{bits_allocated // 8}")
        decoded = imagecodecs.dicomrle_decode(content, kind, out=bytearray(height_px * width_px * kind.itemsize))
        pixels = np.frombuffer(decoded, kind).reshape(height_px, width_px)
    else:
        stream = content.rstrip(b"\0") if content[-1:] == b"\0" else content
        if stream[-2:] != b"\xff\xd9":
            raise ScanRefused("truncated", f"A {codec} frame has no end marker.")
        announced = _jpeg2k_size(stream) if codec == "jpeg2k" else _jpeg_size(stream)
        if announced[:3] != (height_px, width_px, 1) or announced[3] > bits_allocated:
            raise ScanRefused(
                "malformed",
                f"Expected a frame of {height_px} x {width_px} pixels, 1 sample, at most {bits_allocated} bits; its {codec} header says {announced}.",
            )
        pixels = getattr(imagecodecs, f"{codec}_decode")(stream)
    if pixels.shape != (height_px, width_px) or pixels.dtype.kind != "u":
        raise ScanRefused("unsupported_pixels", f"A {codec} frame decoded to {pixels.dtype} of shape {pixels.shape}.")
    return pixels.astype(np.uint16)


def _check_rle(content: bytes, segments: int) -> None:
    """The header of 16 words: number of segments, then their offsets, rising and inside. Source: PS3.5 annex G.5."""
    if len(content) < 64:
        raise ScanRefused("truncated", f"An RLE frame of {len(content)} bytes has no header of 64.")
    count, *offsets = np.frombuffer(content[:64], "<u4").tolist()
    used = offsets[:segments]
    if count != segments or used != sorted(set(used)) or used[0] != 64 or used[-1] >= len(content):
        raise ScanRefused(
            "malformed", f"An RLE frame of {len(content)} bytes has {count} segments at {used}; expected {segments}, from 64 on."
        )


def _jpeg_size(stream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and bits from the frame header of a JPEG or JPEG-LS stream. Source: ITU-T T.81, B.2.2; T.87, C.2.2."""
    if stream[:2] != b"\xff\xd8":
        raise ScanRefused("malformed", "A JPEG frame does not start as one.")
    position = 2
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            break
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        if (0xC0 <= marker <= 0xCF and marker not in _SOF_WITHOUT_SIZE) or marker == 0xF7:
            header = stream[position + 4 : position + 10]
            if len(header) < 6:
                break
            return int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big"), header[5], header[0]
        if length < 2 or marker == 0xDA:
            break
        position += 2 + length
    raise ScanRefused("malformed", "A JPEG frame has no frame header.")


def _jpeg2k_size(stream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components and bits from the SIZ marker of a JPEG 2000 codestream. Source: ITU-T T.800, A.5.1."""
    if stream[:4] != b"\xff\x4f\xff\x51" or len(stream) < 43:
        raise ScanRefused("malformed", "A JPEG 2000 frame does not start as a codestream.")
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    return bottom - top, right - left, int.from_bytes(stream[40:42], "big"), (stream[42] & 0x7F) + 1
