"""The page of formats is what reading files of every kind gives today."""

from __future__ import annotations

from pathlib import Path

import dicom_writer as writer
import format_matrix as matrix
import numpy as np
import pytest
from scan_files import sidecar

from scanloop.scans.dicom_structure import ENCAPSULATED
from scanloop.scans.errors import REASONS

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"
KNOWN = {matrix.EXACT, matrix.LOSSY, matrix.NOT_MADE, *(f"`{code}`" for code in REASONS)}


def test_the_page_is_what_files_that_are_made_now_give() -> None:
    assert PAGE.read_text() == matrix.page(), "Run `make docs`."


def test_nothing_is_read_wrongly() -> None:
    assert matrix.WRONG not in PAGE.read_text()
    for (title, _, head, _), rows in matrix.sections():
        assert all(len(row) == len(head) for row in rows), title


def test_the_comparison_can_fail() -> None:
    content, numbers = writer.scan_file(matrix.DX, writer.EXPLICIT, writer.Layout())
    planes = list(matrix.planes_of(numbers, is_volume=False))
    assert matrix.outcome(content, None, planes) == matrix.EXACT
    off = planes[0].copy()
    off[3, 4] += 1
    assert matrix.outcome(content, None, [off]) == matrix.WRONG
    assert matrix.outcome(content, None, [off], is_lossy=True) == matrix.LOSSY
    assert matrix.outcome(content, None, planes * 2) == matrix.WRONG
    assert matrix.outcome(content[:-9], None, planes) == "`truncated`"


def test_every_transfer_syntax_that_is_read_has_a_file() -> None:
    assert ENCAPSULATED.keys() == writer.ENCODERS.keys()


@pytest.mark.parametrize("uid", sorted(writer.ENCODERS.keys() - writer.LOSSY))
def test_every_lossless_transfer_syntax_is_exact(uid: str) -> None:
    found = {name: matrix.dicom_outcome(matrix.DX, uid, layout) for name, layout in matrix.LAYOUTS.items()}
    rare = found.pop("12 in the high bits of 16")
    assert set(found.values()) == {matrix.EXACT}
    assert rare == ("`unsupported_pixels`" if uid.endswith(".110") else matrix.EXACT)


def test_a_tiff_with_dark_air_gives_its_own_numbers_back() -> None:
    from scanloop.scans.decode import read_scan

    pixels = matrix.picture(16, 1)
    scan = read_scan(matrix.tiff(pixels, photometric="miniswhite", pages=2), sidecar())
    assert scan.scale("low").is_inverted
    assert np.array_equal(scan.planes["high"], 65535 - pixels)
    assert np.array_equal(scan.stored("high"), pixels)


def test_samples_of_a_lossless_stream_are_called_what_they_are() -> None:
    """Luminance and chrominance are turned into colours by lossy JPEG only."""
    from scanloop.scans.decode import read_scan

    layout = matrix.LAYOUTS["YBR_FULL 8"]
    names = {
        uid: tuple(read_scan(writer.scan_file(matrix.DX, f"{writer.UID}{uid}", layout)[0]).planes)
        for uid in (".4.50", ".4.57", ".4.80", ".5")
    }
    assert names == {".4.50": ("red", "green", "blue"), **dict.fromkeys((".4.57", ".4.80", ".5"), ("luma", "cb", "cr"))}


def test_a_frame_that_says_what_its_samples_are_is_believed() -> None:
    """A toolkit writes RGB where the JPEG stream has luminance and chrominance, and says so by its JFIF marker."""
    layout = matrix.LAYOUTS["colours 8"]
    content, numbers = writer.scan_file(matrix.DX, f"{writer.UID}.4.50", layout)
    assert b"JFIF" in content
    assert matrix.outcome(content, None, matrix.planes_of(numbers, is_volume=False), is_lossy=True) == matrix.LOSSY
