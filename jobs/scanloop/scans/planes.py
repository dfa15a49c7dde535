"""How curated planes are kept: a zstd TIFF with one page a plane, at the depth they were delivered in, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scanloop.errors import DataWrong

MATERIAL = "material"
"""The plane that is computed on read from `high` and `low`, and never stored."""
FULL_SCALE = 65535
"""Unattenuated beam in planes as `read_planes` returns them."""
_ZSTD_LEVEL = 3
_STRIP_BYTES = 1 << 18
_MAX_SAMPLE_VALUE_TAG = 281


def scale_to_16_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Planes of `bits` significant bits, (H, W) uint16, with full scale moved to 65535. 16-bit planes are returned unchanged."""
    if bits == 16:
        return pixels
    full = (1 << bits) - 1
    return ((pixels.astype(np.uint32) * FULL_SCALE + full // 2) // full).astype(np.uint16)


def encode_planes(planes: Mapping[str, np.ndarray], bits: Mapping[str, int] | None = None) -> bytes:
    """Encode planes, (H, W) uint16, as one TIFF in the order given.

    A page's ImageDescription is the plane's name and its MaxSampleValue tells the significant bits. Horizontal differences (predictor 2) before zstd
    save about a third on line-scanner pictures.
    """
    import tifffile

    target = io.BytesIO()
    with tifffile.TiffWriter(target, byteorder="<") as tiff:
        for name, pixels in planes.items():
            tiff.write(
                np.ascontiguousarray(pixels, dtype=np.uint16),
                photometric="minisblack",
                compression="zstd",
                compressionargs={"level": _ZSTD_LEVEL},
                predictor=True,
                rowsperstrip=max(1, _STRIP_BYTES // (2 * pixels.shape[1])),
                description=name,
                metadata=None,
                software=False,
                extratags=[(_MAX_SAMPLE_VALUE_TAG, "H", 1, (1 << (bits or {}).get(name, 16)) - 1, True)],
            )
    return target.getvalue()


def read_planes(source: bytes | Path, names: Sequence[str] | None = None, *, is_native: bool = False) -> dict[str, np.ndarray]:
    """Read planes that `encode_planes` wrote, each (H, W) uint16.

    `names` picks planes and their order (default: all that are stored); `material` is computed from `high` and `low`. Full scale is 65535
    whatever the delivered depth, unless `is_native` asks for the values as delivered.

    Raises:
        DataWrong: it is no planes file, or it lacks a plane that was asked for.
    """
    import tifffile

    stored: dict[str, np.ndarray] = {}
    pages: list[str] = []
    wanted = None if names is None else {*names, *(("high", "low") if MATERIAL in names else ())}
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as tiff:
            for page in tiff.pages:
                assert isinstance(page, tifffile.TiffPage)
                name = page.description
                pages.append(name)
                if wanted is None or name in wanted:
                    bits = int(page.tags.valueof(_MAX_SAMPLE_VALUE_TAG, 65535)).bit_length()
                    stored[name] = page.asarray() if is_native else scale_to_16_bits(page.asarray(), bits)
    except (tifffile.TiffFileError, ValueError, LookupError, RuntimeError) as error:
        raise DataWrong(f"Expected a planes TIFF, found something else: {error}.") from None
    if not pages:
        raise DataWrong("Expected a planes TIFF, found one without a page.")
    if names is None:
        return stored
    if MATERIAL in names and {"high", "low"} <= stored.keys():
        from scanloop.scans.material import material

        stored[MATERIAL] = material(stored["high"], stored["low"])
    if absent := [name for name in names if name not in stored]:
        raise DataWrong(f"Expected the planes {', '.join(absent)}, found only {', '.join(pages)}.")
    return {name: stored[name] for name in names}
