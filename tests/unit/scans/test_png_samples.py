"""PNG of several samples a pixel, sample for sample as an independent writer wrote them."""

from __future__ import annotations

import io
import itertools

import format_matrix as matrix
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from scan_files import sidecar

from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused
from scanloop.scans.png import read_png


@pytest.mark.parametrize(("samples", "bits"), list(itertools.product((1, 2, 3, 4), (8, 16))))
def test_every_sample_is_a_plane(samples: int, bits: int) -> None:
    planes = np.random.default_rng(samples * bits).integers(0, 1 << bits, (samples, 31, 45)).astype(np.uint8 if bits == 8 else np.uint16)
    pixels = np.ascontiguousarray(np.moveaxis(planes, 0, 2)) if samples > 1 else planes[0]
    found, depth = read_png(imagecodecs.png_encode(pixels))
    assert depth == bits
    assert len(found) == samples
    assert all((one == other).all() for one, other in zip(found, planes, strict=True))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opacity_that_is_full_everywhere_is_left_out(mode: str) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (9, 7, len(mode)), np.uint8)
    colours[:, :, -1] = 255
    target = io.BytesIO()
    Image.fromarray(colours, mode).save(target, "PNG")
    found, _ = read_png(target.getvalue())
    assert len(found) == len(mode) - 1
    assert all((one == colours[:, :, index]).all() for index, one in enumerate(found))


def test_the_sidecar_names_the_samples() -> None:
    pixels = np.random.default_rng(2).integers(0, 65536, (20, 24, 3)).astype(np.uint16)
    content = imagecodecs.png_encode(pixels)
    scan = read_scan(content, sidecar(planes=["high", "low", "zeff"]))
    assert all((scan.planes[name] == pixels[:, :, index]).all() for index, name in enumerate(("high", "low", "zeff")))
    with pytest.raises(ScanRefused, match="names 2 planes, the file holds 3"):
        read_scan(content, sidecar(planes=["high", "low"]))


@pytest.mark.parametrize("colours", [2, 3, 13, 200])
def test_a_palette_is_resolved(colours: int) -> None:
    generator = np.random.default_rng(colours)
    palette = generator.integers(0, 256, (colours, 3), np.uint8)
    pixels = palette[generator.integers(0, colours, (19, 23))]
    target = io.BytesIO()
    indexed = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    indexed.save(target, "PNG", optimize=True)
    expected = np.asarray(indexed.convert("RGB"))
    found, bits = read_png(target.getvalue())
    assert bits == 8
    assert np.array_equal(np.stack(found, -1), expected)
    assert np.array_equal(expected, pixels)


def test_a_palette_of_greys_is_one_plane() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (19, 23), np.uint8)
    target = io.BytesIO()
    indexed = Image.fromarray(pixels, "P")
    indexed.putpalette(np.repeat(np.arange(256, dtype=np.uint8)[::-1], 3).tobytes())
    indexed.save(target, "PNG")
    found, _ = read_png(target.getvalue())
    assert len(found) == 1
    assert np.array_equal(found[0], 255 - pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_keep_their_numbers(bits: int) -> None:
    pixels = np.random.default_rng(bits).integers(0, 1 << bits, (19, 23), np.uint8)
    target = io.BytesIO()
    picture = Image.fromarray(pixels * 255) if bits == 1 else Image.fromarray(pixels)
    if bits == 1:
        picture.convert("1").save(target, "PNG")
        found, depth = read_png(target.getvalue())
    else:
        found, depth = read_png(matrix.png_chunks(pixels, bits, 0, is_interlaced=False))
    assert depth == bits
    assert np.array_equal(found[0], pixels)
