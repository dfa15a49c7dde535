"""PNG of several samples a pixel, sample for sample as an independent writer wrote them."""

from __future__ import annotations

import io
import itertools

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


def test_a_palette_is_refused() -> None:
    target = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P").save(target, "PNG")
    with pytest.raises(ScanRefused) as refusal:
        read_png(target.getvalue())
    assert refusal.value.reason_code == "unsupported_pixels"
