"""JPEG exports, as an independent writer wrote them; and pictures of eight bits and three colours whatever their format."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from scan_files import PEOPLE, png, sidecar

from scanloop.scans.decode import read_scan
from scanloop.scans.errors import REASONS, ScanRefused
from scanloop.scans.jpeg import read_jpeg_picture

COLOURS = ("red", "green", "blue")


def smooth(samples: int, height_px: int = 37, width_px: int = 45) -> np.ndarray:
    """A picture (H, W) or (H, W, S) that JPEG keeps nearly as it is."""
    y, x = np.mgrid[:height_px, :width_px]
    planes = [(120 + 100 * np.sin(y / (9 + sample)) * np.cos(x / (11 - sample))).astype(np.uint8) for sample in range(samples)]
    return planes[0] if samples == 1 else np.stack(planes, -1)


def jpeg(pixels: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    """`pixels` as Pillow writes them."""
    target = io.BytesIO()
    picture = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels, mode)
    picture.save(target, "JPEG", **{"quality": 95, "subsampling": 0} | options)
    return target.getvalue()


def refused(content: bytes, about: bytes | None = None) -> ScanRefused:
    """The refusal that reading `content` ends in; anything else fails the test."""
    with pytest.raises(ScanRefused) as refusal:
        read_scan(content, sidecar(planes=["high"]) if about is None else about)
    return refusal.value


KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "coarse chrominance": {"subsampling": 2},
    "restarts": {"restart_marker_blocks": 3},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 3])
def test_samples_are_those_that_another_decoder_reads(kind: str, samples: int) -> None:
    pixels = smooth(samples)
    content = jpeg(pixels, **KINDS[kind])
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(picture).reshape(*pixels.shape[:2], samples)
    found, bits = read_jpeg_picture(content)
    assert bits == 8
    assert len(found) == samples
    assert all(np.array_equal(plane, expected[:, :, sample]) for sample, plane in enumerate(found))
    assert np.abs(np.stack(found, -1).astype(int) - pixels.reshape(expected.shape)).mean() < 4


@pytest.mark.parametrize("encode", [jpeg, lambda pixels: bytes(imagecodecs.png_encode(pixels))], ids=["jpeg", "png"])
def test_the_sidecar_names_three_colours_of_eight_bits(encode: Any) -> None:
    pixels = smooth(3)
    scan = read_scan(encode(pixels), sidecar(planes=list(COLOURS)))
    assert tuple(scan.planes) == COLOURS
    assert dict(scan.bits) == dict.fromkeys(COLOURS, 8)
    for sample, name in enumerate(COLOURS):
        assert scan.planes[name].dtype == np.uint16
        assert np.abs(scan.planes[name].astype(int) - pixels[:, :, sample]).max() <= (20 if encode is jpeg else 0)
    assert scan.metadata.bag == "B000123"


def test_planes_may_be_stacked() -> None:
    top, bottom = smooth(1, 40, 48), np.flipud(smooth(1, 40, 48))
    scan = read_scan(jpeg(np.vstack([top, bottom])), sidecar())
    assert scan.source_format == "jpeg"
    assert np.abs(scan.planes["high"].astype(int) - top).mean() < 2
    assert np.abs(scan.planes["low"].astype(int) - bottom).mean() < 2


@pytest.mark.parametrize("is_plain", [True, False])
def test_samples_that_are_colours_already_are_not_converted(is_plain: bool) -> None:
    """Said by an Adobe marker, or by the components' names (T.872, and libjpeg's own rule)."""
    pixels = smooth(3)
    content = bytes(imagecodecs.jpeg8_encode(pixels, level=95, colorspace="RGB", outcolorspace="RGB"))
    assert b"Adobe" in content
    if is_plain:
        start = content.index(b"\xff\xee")
        content = content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]
        frame = content.index(b"\xff\xc0")
        assert content[frame + 10 : frame + 19 : 3] == b"RGB"
    found, _ = read_jpeg_picture(content)
    assert np.abs(np.stack(found, -1).astype(int) - pixels).max() < 12


def test_notes_in_the_file_change_nothing_and_go_nowhere() -> None:
    notes = Image.Exif()
    notes[0x010E], notes[0x0112], notes[0x013B] = PEOPLE, 6, PEOPLE
    pixels = smooth(3)
    plain, noted = jpeg(pixels), jpeg(pixels, exif=notes, comment=PEOPLE.encode(), icc_profile=b"\0" * 70_000)
    assert PEOPLE.encode() in noted
    one, other = (read_scan(content, sidecar(planes=list(COLOURS))) for content in (plain, noted))
    assert all(np.array_equal(one.planes[name], other.planes[name]) for name in COLOURS)
    assert other.metadata == one.metadata
    assert PEOPLE not in repr(other.metadata)


def test_padding_behind_the_end_is_no_obstacle() -> None:
    content = jpeg(smooth(1))
    assert np.array_equal(read_jpeg_picture(content + b"\0" * 300)[0][0], read_jpeg_picture(content)[0][0])


@pytest.mark.parametrize("behind", [b"PK\x03\x04", b"\xff\xd8\xff\xe0", png(), b"\n"], ids=["zip", "jpeg", "png", "line"])
def test_what_follows_the_end_is_refused(behind: bytes) -> None:
    assert refused(jpeg(smooth(1)) + behind).reason_code == "polyglot"


def test_four_samples_are_refused() -> None:
    content = jpeg(np.zeros((16, 16, 4), np.uint8), "CMYK")
    assert refused(content, sidecar(planes=["a", "b", "c", "d"])).reason_code == "unsupported_pixels"


def test_twelve_bits_are_refused() -> None:
    content = bytes(imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint16), bitspersample=12))
    assert refused(content).reason_code == "unsupported_pixels"


@pytest.mark.parametrize("encode", [imagecodecs.ljpeg_encode, imagecodecs.jpegls_encode], ids=["lossless", "jpegls"])
def test_other_processes_are_refused(encode: Any) -> None:
    assert refused(bytes(encode(smooth(1)))).reason_code == "unsupported_encoding"


@pytest.mark.parametrize(("height_px", "width_px"), [(65500, 65500), (1, 65500), (0, 16), (16384, 16384)])
def test_a_size_beyond_the_limits_is_refused_before_anything_is_decoded(height_px: int, width_px: int) -> None:
    content = bytearray(jpeg(smooth(1)))
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height_px, width_px)
    assert refused(bytes(content)).reason_code == "too_large"


def test_a_picture_without_its_sidecar_is_refused() -> None:
    with pytest.raises(ScanRefused) as refusal:
        read_scan(jpeg(smooth(1)))
    assert refusal.value.reason_code == "sidecar_missing"


def whole() -> Iterator[tuple[str, bytes, list[str]]]:
    for kind, options in KINDS.items():
        yield f"grey {kind}", jpeg(smooth(1, 19, 21), **options), ["high"]
    yield "colours", jpeg(smooth(3, 19, 21)), list(COLOURS)


FILES = {kind: (content, names) for kind, content, names in whole()}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    content, names = FILES[kind]
    about = sidecar(planes=names)
    read_scan(content, about)
    for length in range(len(content)):
        with pytest.raises(ScanRefused):
            read_scan(content[:length], about)


@pytest.mark.parametrize("kind", ["grey baseline", "grey restarts", "colours"])
def test_a_file_that_lacks_the_end_of_its_pixels_is_refused(kind: str) -> None:
    """libjpeg would fill up with grey what is missing before the end marker."""
    content, names = FILES[kind]
    for lost in (4, 20, 60):
        assert refused(content[: -2 - lost] + content[-2:], sidecar(planes=names)).reason_code in ("truncated", "malformed")


@pytest.mark.parametrize("kind", FILES)
def test_mangled_files_raise_nothing_but_a_refusal(kind: str) -> None:
    content, names = FILES[kind]
    about, generator = sidecar(planes=names), random.Random(f"jpeg {kind}")
    for _ in range(200):
        mutant = bytearray(content)
        for _ in range(generator.choice((1, 1, 2, 8))):
            at = generator.randrange(2, len(mutant))
            if generator.random() < 0.5:
                mutant[at] ^= 1 << generator.randrange(8)
            else:
                mutant[at : at + 2] = generator.choice((b"\xff\xd9", b"\xff\xff", b"\0\0", b"\xff\xda", b"\xff\xc4"))
        try:
            read_scan(bytes(mutant), about)
        except ScanRefused as refusal:
            assert refusal.reason_code in REASONS  # noqa: PT017  the other outcome, a whole scan, is as good
