"""How curated planes are kept: a zstd TIFF with one page a plane, or a slice of a volume, at the depth they were delivered in, the same bytes
every time.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanloop.errors import DataWrong

if TYPE_CHECKING:
    import tifffile

MATERIAL = "material"
"""The plane that is computed on read from `high` and `low`, and never stored."""
FULL_SCALE = 65535
"""Unattenuated beam in planes as `read_planes` returns them."""
_ZSTD_LEVEL = 3
_STRIP_BYTES = 1 << 18
_MAX_SAMPLE_VALUE_TAG = 281
_PAGE_NUMBER_TAG = 297


def scale_to_16_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Planes of `bits` significant bits, (H, W) uint16, with full scale moved to 65535. 16-bit planes are returned unchanged."""
    if bits == 16:
        return pixels
    full = (1 << bits) - 1
    return ((pixels.astype(np.uint32) * FULL_SCALE + full // 2) // full).astype(np.uint16)


def encode_planes(planes: Mapping[str, np.ndarray], bits: Mapping[str, int] | None = None) -> bytes:
    """Encode planes, each (H, W) or (D, H, W) uint16, as one TIFF in the order given.

    A page's ImageDescription is the plane's name and its MaxSampleValue tells the significant bits. Slices of a volume follow each other, each with
    its PageNumber: index and depth. Horizontal differences (predictor 2) before zstd save about a third on line-scanner pictures.
    """
    import tifffile

    target = io.BytesIO()
    with tifffile.TiffWriter(target, byteorder="<") as tiff:
        for name, pixels in planes.items():
            is_volume = pixels.ndim == 3
            for index, page in enumerate(pixels if is_volume else (pixels,)):
                number = [(_PAGE_NUMBER_TAG, "H", 2, (index, len(pixels)), True)] if is_volume else []
                tiff.write(
                    np.ascontiguousarray(page, dtype=np.uint16),
                    photometric="minisblack",
                    compression="zstd",
                    compressionargs={"level": _ZSTD_LEVEL},
                    predictor=True,
                    rowsperstrip=max(1, _STRIP_BYTES // (2 * page.shape[1])),
                    description=name,
                    metadata=None,
                    software=False,
                    extratags=[(_MAX_SAMPLE_VALUE_TAG, "H", 1, (1 << (bits or {}).get(name, 16)) - 1, True), *number],
                )
    return target.getvalue()


def read_planes(source: bytes | Path, names: Sequence[str] | None = None, *, is_native: bool = False) -> dict[str, np.ndarray]:
    """Read planes that `encode_planes` wrote, each (H, W) or (D, H, W) uint16.

    `names` picks planes and their order (default: all that are stored); `material` is computed from `high` and `low` of a view. Full scale of a
    view is 65535 whatever the delivered depth, unless `is_native` asks for the values as delivered. Volumes always have the values as delivered,
    for their scale is that of the catalog (slope, intercept, offset of signed numbers).

    Raises:
        DataWrong: it is no planes file, or it lacks a plane that was asked for.
    """
    import tifffile

    stored: dict[str, np.ndarray] = {}
    found: list[str] = []
    wanted = None if names is None else {*names, *(("high", "low") if MATERIAL in names else ())}
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as tiff:
            for page in tiff.pages:
                assert isinstance(page, tifffile.TiffPage)
                name = page.description
                if name not in found:
                    found.append(name)
                if wanted is None or name in wanted:
                    _add_page(stored, name, page, is_native=is_native)
    except (tifffile.TiffFileError, ValueError, LookupError, RuntimeError) as error:
        raise DataWrong(f"Expected a planes TIFF, found something else: {error}.") from None
    if not found:
        raise DataWrong("Expected a planes TIFF, found one without a page.")
    if names is None:
        return stored
    if MATERIAL in names and {"high", "low"} <= stored.keys() and stored["high"].ndim == 2:
        from scanloop.scans.material import material

        stored[MATERIAL] = material(stored["high"], stored["low"])
    if absent := [name for name in names if name not in stored]:
        raise DataWrong(f"Expected the planes {', '.join(absent)}, found only {', '.join(found)}.")
    return {name: stored[name] for name in names}


def _add_page(stored: dict[str, np.ndarray], name: str, page: tifffile.TiffPage, *, is_native: bool) -> None:
    number = page.tags.valueof(_PAGE_NUMBER_TAG)
    if number is None:
        bits = int(page.tags.valueof(_MAX_SAMPLE_VALUE_TAG, 65535)).bit_length()
        stored[name] = page.asarray() if is_native else scale_to_16_bits(page.asarray(), bits)
        return
    index, depth = number
    if name not in stored:
        stored[name] = np.zeros((depth, *page.shape), np.uint16)
    stored[name][index] = page.asarray()
