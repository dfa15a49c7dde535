"""The pixels of a DICOM dataset as numbers, whatever they are encoded in.

Bits beyond BitsStored (0028,0101) are ignored (PS3.5 section 8.1.1); signed numbers are kept 32768 higher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scanloop.scans.content import SIGNED_OFFSET
from scanloop.scans.dicom_elements import Elements
from scanloop.scans.dicom_structure import ENCAPSULATED, PIXEL_DATA, Structure
from scanloop.scans.errors import ScanRefused
from scanloop.scans.fragments import compressed_frames, frame_count_agrees, is_lossy_jpeg
from scanloop.scans.frames import Frame, decode_frame, native_frame
from scanloop.scans.limits import MAX_DEPTH_PX, check_plane_sizes

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = {"RGB": ("red", "green", "blue"), "YBR_RCT": ("red", "green", "blue"), "YBR_ICT": ("red", "green", "blue")}
"""Photometric interpretation to what its three samples are, once decoded."""
_YBR = frozenset({"YBR_FULL", "YBR_FULL_422"})
_FLOAT_PIXELS = (0x7FE00008, 0x7FE00009)
_CELL_CODECS = ("", "native", "rle", "deflate")
"""Codecs that keep the bits of a cell where they are."""
_MAX_PADDING_BYTES = 512
"""Zeros that may follow the last pixel: a sector."""


@dataclass(frozen=True)
class Layout:
    """How the pixels of a file are laid out, once all of it makes sense."""

    frame: Frame
    """One frame."""
    count: int
    """How many frames there are."""
    sample_names: tuple[str, ...]
    """What the samples of a pixel are; one empty name for grey."""
    codec: str
    """How frames are compressed; empty: native."""

    @property
    def bits(self) -> int:
        """Significant bits of the numbers that are kept."""
        return 16 if self.frame.is_signed else min(16, self.frame.stored)


def read_layout(structure: Structure, elements: Elements, *, is_volume: bool) -> Layout:
    """Check everything a file says about its pixels, by arithmetic alone. Raises ScanRefused."""
    if PIXEL_DATA not in structure.spans:
        is_float = any(tag in structure.spans for tag in _FLOAT_PIXELS)
        raise ScanRefused("unsupported_pixels" if is_float else "malformed", f"There is no PixelData{', only float pixels' * is_float}.")
    height_px, width_px = elements.integer("Rows"), elements.integer("Columns")
    allocated, stored = elements.integer("BitsAllocated"), elements.integer("BitsStored")
    samples = elements.integer("SamplesPerPixel", 1)
    check_plane_sizes(1, height_px, width_px, 16)
    codec = ENCAPSULATED.get(structure.transfer_syntax, "")
    photometric = elements.text("PhotometricInterpretation")
    names = _sample_names(samples, photometric, is_converted=samples == 3 and codec == "jpeg" and is_lossy_jpeg(structure))
    is_exact = codec in _CELL_CODECS
    if allocated not in (8, 16, 32) or (allocated == 32 and not is_exact):
        raise ScanRefused("unsupported_pixels", f"Expected 8 or 16 bits allocated, or 32 coded as they are, found {allocated}.")
    high_bit = elements.integer("HighBit", stored - 1)
    if not 1 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise ScanRefused(
            "unsupported_pixels", f"Bits {high_bit - stored + 1} to {high_bit} of {allocated} are no place for {stored} bits."
        )
    representation = elements.integer("PixelRepresentation", 0)
    if representation not in (0, 1):
        raise ScanRefused("malformed", f"Expected PixelRepresentation 0 or 1, found {representation}.")
    frame = Frame(
        height_px, width_px, samples, allocated, stored, representation == 1, photometric in _YBR, structure.is_little_endian,
        samples > 1 and elements.integer("PlanarConfiguration", 0) == 1, high_bit + 1 - stored,
    )  # fmt: skip
    count = _frame_count(structure, elements, frame, is_encapsulated=bool(codec))
    if is_volume:
        check_plane_sizes(samples, height_px, width_px, 16, count)
    else:
        check_plane_sizes(count * samples, height_px, width_px, 16)
    return Layout(frame, count, names, codec)


def _sample_names(samples: int, photometric: str, *, is_converted: bool) -> tuple[str, ...]:
    if samples == 1 and photometric in GREY:
        return ("",)
    if samples == 3 and photometric in COLOURS:
        return COLOURS[photometric]
    if samples == 3 and photometric in _YBR and is_converted:
        return COLOURS["RGB"]
    if samples == 3 and photometric == "YBR_FULL":
        return ("luma", "cb", "cr")
    raise ScanRefused("unsupported_pixels", f"Expected grey pixels or three whole colours, found {samples} samples.")


def _frame_count(structure: Structure, elements: Elements, frame: Frame, *, is_encapsulated: bool) -> int:
    """How many frames there are: NumberOfFrames, where its bytes can be read in two ways the one that the pixels bear out."""
    candidates = elements.integers("NumberOfFrames") or [1]
    start, end = structure.spans[PIXEL_DATA]
    for count in candidates if len(candidates) > 1 else ():
        if frame_count_agrees(structure, count) if is_encapsulated else 0 <= end - start - count * frame.size_bytes <= 1:
            return count
    if not 1 <= candidates[0] <= MAX_DEPTH_PX:
        raise ScanRefused("too_large", f"Expected 1 to {MAX_DEPTH_PX} frames, found {candidates[0]}.")
    return candidates[0]


def read_numbers(structure: Structure, layout: Layout) -> np.ndarray:
    """Every frame, (N, H, W) or (N, H, W, S) uint16: the stored numbers, signed ones 32768 higher. Raises ScanRefused."""
    frame = layout.frame
    if not layout.codec:
        cells = _native_cells(structure, layout)
        if frame.number_type == np.dtype("<u2") and frame.stored == 16 and not frame.is_signed:
            return cells
        frames: Iterator[np.ndarray] = iter(cells)
    else:
        frames = (decode_frame(part, layout.codec, frame) for part in compressed_frames(structure, layout.count))
    numbers = np.empty((layout.count, *frame.shape), np.uint16)
    for index, cells in enumerate(frames):
        numbers[index] = _kept(cells, layout)
    return numbers


def _native_cells(structure: Structure, layout: Layout) -> np.ndarray:
    frame, (start, end) = layout.frame, structure.spans[PIXEL_DATA]
    needed = layout.count * frame.size_bytes
    excess = end - start - needed
    padding = structure.dataset[start + needed : end] if 0 < excess <= min(_MAX_PADDING_BYTES, frame.size_bytes) else b""
    if excess < 0 or (excess > needed % 2 and (len(padding) != excess or padding.strip(b"\0"))):
        code = "truncated" if excess < 0 else "malformed"
        found = f"{layout.count} frames of {frame.shape} x {frame.allocated} bits need {needed} bytes"
        raise ScanRefused(code, f"{found}, found {end - start}.")
    content = memoryview(structure.dataset)[start : start + needed]
    if not structure.is_little_endian and frame.allocated == 8 and structure.vrs[PIXEL_DATA] == "OW":
        # Bytes of 8-bit pixels are swapped in pairs when big-endian files say OW (PS3.5 section 8.2 and annex A.3).
        content = memoryview(np.frombuffer(structure.dataset, ">u2", (needed + 1) // 2, start).astype("<u2").tobytes())[:needed]
    if not frame.planar:
        return np.frombuffer(content, frame.number_type).reshape(layout.count, *frame.shape)
    parts = (content[at : at + frame.size_bytes] for at in range(0, needed, frame.size_bytes))
    return np.stack([native_frame(part, frame) for part in parts])


def _kept(cells: np.ndarray, layout: Layout) -> np.ndarray:
    """The numbers of one frame as they are kept, from cells that may have bits above and below those that are stored."""
    frame = layout.frame
    if frame.shift:
        cells = cells >> frame.shift
    if frame.stored < 8 * cells.dtype.itemsize:
        cells = cells & cells.dtype.type((1 << frame.stored) - 1)
    if frame.stored > 16:
        return _narrowed(cells, frame)
    cells = cells.astype(np.uint16, copy=False)
    if not frame.is_signed:
        return cells
    sign = np.uint16(1 << (frame.stored - 1))
    return (cells ^ sign) + np.uint16(SIGNED_OFFSET - int(sign))


def _narrowed(cells: np.ndarray, frame: Frame) -> np.ndarray:
    """Numbers of more than 16 bits, if they all fit into 16."""
    numbers = cells.astype(np.int64)
    if frame.is_signed:
        sign = 1 << (frame.stored - 1)
        numbers = (numbers ^ sign) - sign + SIGNED_OFFSET
    if int(numbers.min()) < 0 or int(numbers.max()) > 0xFFFF:
        raise ScanRefused("unsupported_pixels", f"Numbers of {frame.stored} bits do not fit into 16.")
    return numbers.astype(np.uint16)
