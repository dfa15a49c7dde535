"""CT files whose functional groups say much, little, or in odd places; written from bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dicom_writer as writer
import numpy as np
import pytest

from scanloop.scans.content import ScanContent
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused

DICOS_CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.501.1", "1.2.840.10008.5.1.4.1.1.2.1"
Group = dict[int, writer.Value]
SHARED, PER_FRAME = 0x52009229, 0x52009230


def frame_type(energy: str) -> Group:
    return {0x00189329: ("SQ", [{0x00089007: ("CS", f"ORIGINAL\\{energy}\\VOLUME\\NONE")}])}


def position(z_mm: float) -> Group:
    return {0x00209113: ("SQ", [{0x00200032: ("DS", f"0\\0\\{z_mm:g}")}])}


def measures(step_mm: float = 2.5) -> Group:
    return {0x00289110: ("SQ", [{0x00280030: ("DS", "0.75\\0.5"), 0x00180050: ("DS", f"{step_mm:g}")}])}


def orientation() -> Group:
    return {0x00209116: ("SQ", [{0x00200037: ("DS", "1\\0\\0\\0\\1\\0")}])}


def rescale(slope: float, intercept: float) -> Group:
    return {0x00289145: ("SQ", [{0x00281052: ("DS", f"{intercept:g}"), 0x00281053: ("DS", f"{slope:g}"), 0x00281054: ("LO", "MHU")}])}


def ct(
    frames: Sequence[Group],
    shared: Group | None = None,
    extra: dict[int, writer.Value] | None = None,
    *,
    syntax: str = writer.EXPLICIT,
    **options: Any,
) -> tuple[bytes, np.ndarray]:
    """A CT file with per-frame and shared functional groups, and its slices (N, H, W)."""
    layout = writer.Layout(frames=options.pop("count", len(frames)), is_signed=options.pop("is_signed", False))
    groups: Group = {}
    if frames:
        groups[PER_FRAME] = ("SQ", list(frames))
    if shared is not None:
        groups[SHARED] = ("SQ", [shared])
    content, numbers = writer.scan_file(options.pop("sop_class", DICOS_CT), syntax, layout, groups | (extra or {}), **options)
    return content, numbers[..., 0]


SYNTAXES = [writer.EXPLICIT, writer.IMPLICIT, writer.BIG, writer.DEFLATED, writer.EXTENDED, f"{writer.UID}.4.70", f"{writer.UID}.5"]


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_volume_knows_its_spacing_scale_and_order(syntax: str, is_open: bool) -> None:
    frames = [position(z_mm) for z_mm in (4.0, 6.5, 9.0)]
    content, slices = ct(frames, {**measures(), **orientation(), **rescale(2, -1000)}, syntax=syntax, is_open=is_open)
    scan = read_scan(content)
    assert np.array_equal(scan.stored("ct"), slices)
    assert scan.spacing_mm == (2.5, 0.75, 0.5)
    scale = scan.scale("ct")
    assert (scale.slope, scale.intercept, scale.unit) == (2, -1000, "MHU")
    assert scan.metadata.attributes["position_mm"] == "0\\0\\4"
    assert "slices" not in scan.metadata.attributes


def order_of(scan: ScanContent, slices: np.ndarray, name: str = "ct") -> list[int]:
    """Which slice of the file each slice of the volume is."""
    return [next(index for index, one in enumerate(slices) if np.array_equal(one, kept)) for kept in scan.stored(name)]


@pytest.mark.parametrize(
    ("places", "expected", "note"),
    [
        ((0.0, 1.0, 2.0, 3.0), [0, 1, 2, 3], None),
        ((3.0, 2.0, 1.0, 0.0), [0, 1, 2, 3], None),
        ((2.0, 0.0, 3.0, 1.0), [1, 3, 0, 2], None),
        ((0.0, 1.0, 2.0, 9.0), [0, 1, 2, 3], "unevenly spaced"),
        ((0.0, 0.0, 1.0, 1.0), [0, 1, 2, 3], "share positions"),
    ],
)
def test_slices_lie_in_order_of_their_positions(places: tuple[float, ...], expected: list[int], note: str | None) -> None:
    content, slices = ct([position(z_mm) for z_mm in places], measures())
    scan = read_scan(content)
    assert order_of(scan, slices) == expected
    assert scan.metadata.attributes.get("slices") == note


def test_each_energy_is_a_volume() -> None:
    frames = [{**frame_type(energy), **position(z_mm)} for z_mm in (0.0, 1.0) for energy in ("HIGH_ENERGY", "LOW_ENERGY", "Z_EFFECTIVE")]
    content, slices = ct(frames, measures())
    scan = read_scan(content)
    assert tuple(scan.planes) == ("high", "low", "zeff")
    assert [order_of(scan, slices, name) for name in scan.planes] == [[0, 3], [1, 4], [2, 5]]


def test_energies_of_different_depth_are_refused() -> None:
    content, _ = ct([frame_type(energy) for energy in ("HIGH_ENERGY", "HIGH_ENERGY", "LOW_ENERGY")])
    with pytest.raises(ScanRefused, match="different numbers of slices"):
        read_scan(content)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {0x00280030: ("DS", "0.75\\0.5"), 0x00180050: ("DS", "2.5")},
        {0x00280030: ("DS", "0.75\\0.5"), 0x00180088: ("DS", "2.5"), 0x00180050: ("DS", "1")},
        {0x00280030: ("DS", "nonsense"), 0x00180050: ("DS", "2.5")},
        {0x00280030: ("DS", "0\\0"), 0x00180050: ("DS", "-1e9")},
    ],
)
def test_without_functional_groups_the_dataset_is_asked(extra: dict[int, writer.Value]) -> None:
    content, slices = ct([], None, extra, count=4)
    scan = read_scan(content)
    assert np.array_equal(scan.stored("ct"), slices)
    is_whole = extra.get(0x00280030) == ("DS", "0.75\\0.5")
    assert scan.spacing_mm == ((2.5, 0.75, 0.5) if is_whole else None)


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_that_are_not_one_a_frame_are_refused(groups: int) -> None:
    content, _ = ct([position(index) for index in range(groups)], measures(), count=3)
    with pytest.raises(ScanRefused, match="per-frame functional groups"):
        read_scan(content)


def test_frames_that_lack_a_piece_take_it_from_the_shared_groups_or_do_without() -> None:
    frames = [position(0), {}, position(2)]
    content, slices = ct(frames, {**measures(), **rescale(3, 5)})
    scan = read_scan(content)
    assert np.array_equal(scan.stored("ct"), slices)
    assert scan.spacing_mm == (2.5, 0.75, 0.5)
    assert scan.scale("ct").slope == 3


def test_frames_on_different_scales_claim_no_physical_value() -> None:
    content, slices = ct([rescale(1, 0), rescale(2, 0)], measures())
    scan = read_scan(content)
    assert np.array_equal(scan.stored("ct"), slices)
    assert (scan.scale("ct").slope, scan.scale("ct").unit) == (1.0, "")


def test_signed_voxels_keep_their_numbers() -> None:
    content, slices = ct([position(0), position(1)], {**measures(), **rescale(1, -1024)}, is_signed=True, sop_class=ENHANCED_CT)
    scan = read_scan(content)
    assert scan.stored("ct").dtype == np.int16
    assert np.array_equal(scan.stored("ct"), slices)
    assert scan.scale("ct").intercept == -1024


@pytest.mark.parametrize("inner", [writer.IMPLICIT, writer.EXPLICIT])
def test_groups_that_a_toolkit_made_unknown_are_read(inner: str) -> None:
    """PS3.5 section 6.2.2, note 2: what does not know a sequence copies it as UN, and its items are implicit; some leave them as they were."""
    items = [{0x00209113: ("SQ", [{0x00200032: ("DS", f"0\\0\\{z_mm}")}])} for z_mm in (5, 3, 4)]
    unknown = writer.element(PER_FRAME, "SQ", items, inner)[8 if inner == writer.IMPLICIT else 12 :]
    content, slices = ct([], measures(), {PER_FRAME: ("UN", unknown)}, count=3)
    scan = read_scan(content)
    assert order_of(scan, slices) == [1, 2, 0]


def test_sections_are_told_apart_by_number_or_place() -> None:
    numbered, _ = ct([position(0), position(1)], measures(), {0x00209162: ("US", 2), 0x00209163: ("US", 3)})
    placed, _ = ct([position(50), position(51)], measures())
    assert read_scan(numbered).metadata.view == "section 2 of 3"
    assert read_scan(placed).metadata.view == "section at 0 0 50 mm"
