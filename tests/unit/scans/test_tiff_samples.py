"""Planes as samples of a pixel, chunky and planar, pixel for pixel as an independent writer wrote them."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
import tifffile

from scanloop.scans.errors import ScanRefused
from scanloop.scans.tiff import read_tiff


def written(pixels: np.ndarray, **options: Any) -> bytes:
    target = io.BytesIO()
    with tifffile.TiffWriter(target, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", "<")) as tiff:
        tiff.write(pixels, metadata=None, **options)
    return target.getvalue()


@pytest.mark.parametrize(
    ("samples", "bits", "planar", "layout", "compression", "order"),
    [
        *itertools.product((2, 3, 4), (8, 16), ("contig", "separate"), ("strips", "tiles"), (None, "zlib"), ("<",)),
        *itertools.product((3,), (16,), ("contig", "separate"), ("strips",), ("lzw", "packbits", "zstd"), ("<", ">")),
    ],
)
def test_every_sample_is_a_plane(samples: int, bits: int, planar: str, layout: str, compression: str | None, order: str) -> None:
    generator = np.random.default_rng(samples * bits)
    planes = generator.integers(0, 1 << bits, (samples, 37, 53)).astype(np.uint8 if bits == 8 else np.uint16)
    given = planes if planar == "separate" else np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    options: dict[str, Any] = {"tile": (16, 16)} if layout == "tiles" else {"rowsperstrip": 10}
    options |= {"predictor": compression in ("zlib", "lzw", "zstd"), "compression": compression, "byteorder": order}
    photometric = "rgb" if samples >= 3 else "minisblack"
    found, depth = read_tiff(written(given, photometric=photometric, planarconfig=planar, **options))
    assert depth == bits
    assert len(found) == samples
    assert all((one == other).all() for one, other in zip(found, planes, strict=True))


def test_pages_of_several_samples_follow_each_other() -> None:
    first, second = (np.random.default_rng(seed).integers(0, 65536, (20, 24, 3), np.uint16) for seed in (1, 2))
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as tiff:
        for pixels in (first, second):
            tiff.write(pixels, photometric="rgb", metadata=None)
    found, _ = read_tiff(target.getvalue())
    expected = [*np.moveaxis(first, 2, 0), *np.moveaxis(second, 2, 0)]
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.zeros((8, 8, 3), np.float32), {"photometric": "rgb"}),
        (np.zeros((8, 8, 3), np.int16), {"photometric": "rgb"}),
        (np.zeros((8, 8, 3), np.uint32), {"photometric": "rgb"}),
    ],
    ids=["float", "signed", "32 bits"],
)
def test_what_is_no_plane_of_counts_is_refused(pixels: np.ndarray, options: dict[str, Any]) -> None:
    with pytest.raises(ScanRefused) as refusal:
        read_tiff(written(pixels, **options))
    assert refusal.value.reason_code == "unsupported_pixels"


def test_a_few_bytes_that_announce_many_samples_are_refused_by_arithmetic() -> None:
    content = bytearray(written(np.zeros((8, 8, 3), np.uint16), photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        where = tiff.pages[0].tags["SamplesPerPixel"].valueoffset
    content[where : where + 2] = (60_000).to_bytes(2, "little")
    with pytest.raises(ScanRefused) as refusal:
        read_tiff(bytes(content))
    assert refusal.value.reason_code == "too_large"


@pytest.mark.parametrize(("scale", "bits"), [(1, 8), (256, 8), (257, 8), (251, 16)])
@pytest.mark.parametrize("is_grey", [True, False])
def test_a_palette_is_resolved(scale: int, bits: int, is_grey: bool) -> None:
    """Colours of 16 bits that say 8, in each of the ways that writers have."""
    generator = np.random.default_rng(scale)
    eight = generator.integers(0, 256, (1 if is_grey else 3, 256)).repeat(3 if is_grey else 1, 0)
    indices = generator.integers(0, 256, (20, 24), np.uint8)
    found, depth = read_tiff(written(indices, photometric="palette", colormap=(eight * scale).astype(np.uint16)))
    expected = eight * (scale if bits == 16 else 1)
    assert depth == bits
    assert len(found) == (1 if is_grey else 3)
    assert all(np.array_equal(plane, expected[sample][indices]) for sample, plane in enumerate(found))
