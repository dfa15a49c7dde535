"""One compressed frame of DICOM pixels as the numbers that were put in.

A compressed frame says its own size; it is compared with what the file announces before a decoder may allocate anything. Decoders are those of
imagecodecs only. Which of them reads a JPEG is decided by the stream, not by the transfer syntax.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanloop.scans.codestreams import Announced, check_rle, read_jpeg, read_jpeg2000, read_jpegxl_size, trimmed_rle
from scanloop.scans.errors import ScanRefused

_END_OF_STREAM = b"\xff\xd9"
_PROBE = bytes.fromhex("5a0fa53c964b2d871e78c3b469d2") * 4
"""Entropy-coded bytes that mean nothing, put where a stream ends."""


@dataclass(frozen=True)
class Frame:
    """What one frame must be."""

    height_px: int
    """Rows."""
    width_px: int
    """Columns."""
    samples: int
    """Samples of a pixel: 1 or 3."""
    allocated: int
    """Bits allocated to a sample: 8 or 16."""
    stored: int
    """Bits of a sample that count."""
    is_signed: bool
    """Whether its numbers are signed."""
    is_ybr: bool
    """Whether the file says that three samples are luminance and chrominance."""
    is_little_endian: bool = True
    """Byte order of native numbers."""
    planar: bool = False
    """Whether native samples come plane by plane."""
    shift: int = 0
    """Bits of a cell below those that count."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, S)."""
        return (self.height_px, self.width_px) if self.samples == 1 else (self.height_px, self.width_px, self.samples)

    @property
    def size_bytes(self) -> int:
        """Bytes of the native frame."""
        return self.height_px * self.width_px * self.samples * (self.allocated // 8)

    @property
    def number_type(self) -> np.dtype:
        """How one native sample is written."""
        return np.dtype(f"{'<' if self.is_little_endian else '>'}u{self.allocated // 8}")


def native_frame(content: bytes | memoryview, frame: Frame) -> np.ndarray:
    """Plain numbers of exactly one frame as cells (H, W) or (H, W, S), not copied."""
    cells = np.frombuffer(content, frame.number_type)
    if frame.planar:
        return np.moveaxis(cells.reshape(frame.samples, frame.height_px, frame.width_px), 0, -1)
    return cells.reshape(frame.shape)


def decode_frame(content: bytes, codec: str, frame: Frame) -> np.ndarray:
    """Decode one frame to cells (H, W) or (H, W, S): unsigned, negative numbers as two's complement of `stored` bits or more.

    Raises:
        ScanRefused: the frame is incomplete, or its own header announces another picture than the file does.
    """
    cells = _CODECS[codec](content, frame)
    if cells.shape != frame.shape or cells.dtype.kind not in "ui" or cells.dtype.itemsize > frame.allocated // 8:
        raise ScanRefused("unsupported_pixels", f"A {codec} frame decoded to {cells.dtype} of shape {cells.shape}.")
    return cells.view(f"u{cells.dtype.itemsize}") if cells.dtype.itemsize == 2 or cells.dtype.kind == "u" else cells.astype("i2").view("u2")


def _native(content: bytes, frame: Frame) -> np.ndarray:
    if len(content) not in (frame.size_bytes, frame.size_bytes + frame.size_bytes % 2):
        code = "truncated" if len(content) < frame.size_bytes else "malformed"
        raise ScanRefused(code, f"A frame needs {frame.size_bytes} bytes, found {len(content)}.")
    return native_frame(content[: frame.size_bytes], frame).astype(f"u{frame.allocated // 8}")


def _deflate(content: bytes, frame: Frame) -> np.ndarray:
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(content, frame.size_bytes + 2)
    except zlib.error as error:
        raise ScanRefused("malformed", f"A deflated frame cannot be inflated: {error}.") from None
    if not inflater.eof:
        raise ScanRefused("truncated", "A deflated frame ends before its last block, or holds more than a frame.")
    return _native(inflated, frame)


def _rle(content: bytes, frame: Frame) -> np.ndarray:
    import imagecodecs

    size = frame.allocated // 8
    check_rle(content, size * frame.samples)
    kind = np.dtype(f"<u{size}")
    try:
        decoded = imagecodecs.dicomrle_decode(content, kind, out=bytearray(frame.size_bytes))
    except imagecodecs.DicomrleError:
        content = trimmed_rle(content, size * frame.samples, frame.height_px * frame.width_px)
        decoded = imagecodecs.dicomrle_decode(content, kind, out=bytearray(frame.size_bytes))
    if len(decoded) != frame.size_bytes:
        raise ScanRefused("truncated", f"An RLE frame needs {frame.size_bytes} bytes, found {len(decoded)}.")
    cells = np.frombuffer(decoded, kind)
    if frame.samples == 1:
        return cells.reshape(frame.shape)
    return np.moveaxis(cells.reshape(frame.samples, frame.height_px, frame.width_px), 0, -1)


def _expect(found: Announced, frame: Frame, codec: str) -> None:
    """Compare what a codestream announces with what the file does."""
    same = (found.height_px, found.width_px, found.samples) == (frame.height_px, frame.width_px, frame.samples)
    if not same or not 2 <= found.bits <= frame.allocated:
        expected = f"{frame.height_px} x {frame.width_px} pixels, {frame.samples} samples, 2 to {frame.allocated} bits"
        raise ScanRefused("malformed", f"Expected a frame of {expected}; its {codec} header says {found}.")
    if frame.shift and found.bits < frame.shift + frame.stored:
        raise ScanRefused(
            "unsupported_pixels", f"{frame.stored} bits above {frame.shift} others do not fit into the {found.bits} of a {codec} frame."
        )


def _place_sign(cells: np.ndarray, found: Announced, frame: Frame) -> np.ndarray:
    """Refuse numbers whose sign bit is in doubt: signed by the file, unsigned and of another precision by their own header."""
    if frame.is_signed and not found.is_signed and found.bits < frame.stored and int(cells.max()) >> (found.bits - 1):
        raise ScanRefused("malformed", f"Signed numbers of {frame.stored} bits are coded as {found.bits} bits without sign.")
    return cells


def _jpeg(content: bytes, frame: Frame) -> np.ndarray:
    import imagecodecs

    jpeg = read_jpeg(content)
    stream = jpeg.stream
    _expect(jpeg.picture, frame, "JPEG")
    if jpeg.process == "jpegls":
        return _place_sign(imagecodecs.jpegls_decode(stream), jpeg.picture, frame)
    if jpeg.process == "lossless" and jpeg.is_plain:
        return _place_sign(imagecodecs.ljpeg_decode(stream), jpeg.picture, frame)
    if frame.samples == 1:
        if jpeg.process == "dct" and frame.shift:
            raise ScanRefused("unsupported_pixels", "A lossy JPEG frame keeps no bits below those that are stored.")
        return _place_sign(decode_by_libjpeg(stream), jpeg.picture, frame)
    if jpeg.process == "lossless":
        # Whatever the samples are, they are not converted.
        return _place_sign(decode_by_libjpeg(stream, "RGB", "RGB"), jpeg.picture, frame)
    # Toolkits are known to say RGB of a frame whose own markers say otherwise, because that is what comes out.
    is_ybr = frame.is_ybr if jpeg.is_ybr is None else jpeg.is_ybr
    return decode_by_libjpeg(stream, "YCBCR" if is_ybr else "RGB", "RGB")


def decode_by_libjpeg(stream: bytes, colours: str | None = None, wanted: str | None = None, tables: bytes | None = None) -> np.ndarray:
    """Decode with libjpeg-turbo, which fills up what is missing in silence: bytes put before the end must change nothing.

    `tables` are those that an abbreviated stream lacks.

    Raises:
        ScanRefused: it ends before its last pixel.
    """
    import imagecodecs

    probe = stream[:-2].rstrip(b"\xff") + _PROBE + _END_OF_STREAM
    cells, probed = (imagecodecs.jpeg8_decode(part, tables=tables, colorspace=colours, outcolorspace=wanted) for part in (stream, probe))
    if not np.array_equal(cells, probed):
        raise ScanRefused("truncated", "A JPEG frame ends before its last pixel.")
    return cells


def _jpeg2000(content: bytes, frame: Frame) -> np.ndarray:
    import imagecodecs

    found = read_jpeg2000(content)
    _expect(found.picture, frame, "JPEG 2000")
    return _place_sign(imagecodecs.jpeg2k_decode(found.codestream), found.picture, frame)


def _jpegxl(content: bytes, frame: Frame) -> np.ndarray:
    import imagecodecs

    if frame.shift:
        raise ScanRefused("unsupported_pixels", "A JPEG XL frame with bits below those that are stored is not read.")
    size = read_jpegxl_size(content)
    if size != (frame.height_px, frame.width_px):
        raise ScanRefused("malformed", f"Expected a frame of {frame.height_px} x {frame.width_px} pixels; its JPEG XL header says {size}.")
    return imagecodecs.jpegxl_decode(content, keeporientation=True)


_CODECS: dict[str, Callable[[bytes, Frame], np.ndarray]] = {
    "native": _native,
    "deflate": _deflate,
    "rle": _rle,
    "jpeg": _jpeg,
    "jpeg2000": _jpeg2000,
    "jpegxl": _jpegxl,
}
