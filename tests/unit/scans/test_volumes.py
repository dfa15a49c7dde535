"""CT volumes are kept as exactly as views are, and measured slice by slice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scanloop.errors import DataWrong
from scanloop.intake.rows import measurement
from scanloop.scans.content import PlaneScale, ScanContent, ScanMetadata, stored_numbers
from scanloop.scans.errors import ScanRefused
from scanloop.scans.fingerprint import hamming, volume_hash
from scanloop.scans.limits import check_plane_sizes
from scanloop.scans.planes import encode_planes, read_planes
from scanloop.scans.statistics import volume_statistics


def volume(seed: int = 0, depth_px: int = 9, height_px: int = 12, width_px: int = 10) -> np.ndarray:
    """Signed CT numbers of a made-up bag, kept 32768 higher: air around a few blocks."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(-1000, 4, (depth_px, height_px, width_px))
    for _ in range(4):
        at = [int(generator.integers(0, extent // 2)) for extent in numbers.shape]
        numbers[at[0] : at[0] + 4, at[1] : at[1] + 4, at[2] : at[2] + 4] += generator.uniform(500, 2500)
    return (np.rint(numbers).astype(np.int16).view(np.uint16)) ^ np.uint16(0x8000)


def content(**planes: np.ndarray) -> ScanContent:
    scales = dict.fromkeys(planes, PlaneScale(0.5, -10.0, "HU", is_signed=True))
    return ScanContent(planes, dict.fromkeys(planes, 16), ScanMetadata(modality="CT"), "dicos", scales, (2.0, 0.9, 0.9))


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.booleans(), min_size=1, max_size=3),
    st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)),
    st.integers(0, 2**32 - 1),
)
def test_planes_and_volumes_come_back_from_their_tiff_as_they_went_in(
    kinds: dict[str, bool], shape: tuple[int, int, int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    planes = {name: generator.integers(0, 65536, shape if deep else shape[1:], np.uint16) for name, deep in kinds.items()}
    again = read_planes(encode_planes(planes), is_native=True)
    assert list(again) == list(planes)
    assert all(again[name].shape == pixels.shape and (again[name] == pixels).all() for name, pixels in planes.items())


def test_a_volume_keeps_its_numbers_whatever_its_depth_in_bits() -> None:
    numbers = volume() >> 4
    again = read_planes(encode_planes({"density": numbers}, {"density": 12}))
    assert (again["density"] == numbers).all()
    with pytest.raises(DataWrong, match="material"):
        read_planes(encode_planes({"high": numbers, "low": numbers}), ["high", "material"])


@given(
    arrays(np.int16, (3, 4)),
    arrays(np.uint16, (3, 4), elements=st.integers(0, 4095)),
)
def test_the_numbers_of_the_file_can_be_given_back(signed: np.ndarray, unsigned: np.ndarray) -> None:
    kept = (signed.astype(np.int32) + 32768).astype(np.uint16)
    assert stored_numbers(kept, 16, PlaneScale(is_signed=True)).dtype == np.int16
    assert (stored_numbers(kept, 16, PlaneScale(is_signed=True)) == signed).all()
    assert (stored_numbers(4095 - unsigned, 12, PlaneScale(is_inverted=True)) == unsigned).all()
    assert (stored_numbers(unsigned, 12, PlaneScale()) == unsigned).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"planes": {"a": volume(), "b": volume(depth_px=3)}, "bits": {"a": 16, "b": 16}},
        {"planes": {"a": volume(), "b": volume()[0]}, "bits": {"a": 16, "b": 16}},
        {"planes": {"a": volume()[None]}, "bits": {"a": 16}},
        {"bits": {"a": 12}},
        {"scales": {"b": PlaneScale()}},
        {"scales": {"a": PlaneScale(is_signed=True)}, "planes": {"a": volume() >> 4}, "bits": {"a": 12}},
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"spacing_mm": (float("nan"), 1.0, 1.0)},
        {"source_format": "Dicos\n"},
    ],
    ids=str,
)
def test_content_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    right = {"planes": {"a": volume()}, "bits": {"a": 16}, "metadata": ScanMetadata(), "source_format": "dicos"}
    ScanContent(**right)  # type: ignore[arg-type]
    with pytest.raises(ScanRefused):
        ScanContent(**(right | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [{"slope": float("inf")}, {"intercept": float("nan")}, {"is_signed": True, "is_inverted": True}], ids=str
)
def test_scales_that_cannot_be_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ScanRefused):
        PlaneScale(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 16384, 16384), (5000, 4, 4), (600, 512, 512), (0, 5, 5)], ids=str)
def test_volumes_beyond_the_limits_are_refused_by_arithmetic(shape: tuple[int, int, int]) -> None:
    assert check_plane_sizes(1, 512, 512, 16, 480) == 2 * 480 * 512 * 512
    with pytest.raises(ScanRefused, match=r"Expected|more than"):
        check_plane_sizes(1, *shape[1:], 16, shape[0])


def test_a_volume_is_measured_as_a_whole() -> None:
    numbers = volume()
    figures = volume_statistics(numbers, 16)
    assert figures.mean == pytest.approx(numbers.mean() / 65535, abs=1e-6)
    assert figures.std == pytest.approx(numbers.std() / 65535, abs=1e-6)
    assert (figures.minimum, figures.maximum) == (round(numbers.min() / 65535, 6), round(numbers.max() / 65535, 6))
    assert figures.air_mean == pytest.approx((32768 - 1000) / 65535, abs=1e-3)
    assert 0.5 < figures.air_share < 1
    assert not figures.is_blank
    assert volume_statistics(np.full((2, 3, 4), 7, np.uint16), 16).is_blank


def test_the_hash_of_a_volume_forgives_noise_and_gain_and_tells_bags_apart() -> None:
    one, other = volume(1, 40, 48, 44), volume(2, 40, 48, 44)
    noisy = one + np.random.default_rng(0).integers(0, 3, one.shape).astype(np.uint16)
    assert hamming(volume_hash(one), volume_hash(noisy)) <= 6
    assert hamming(volume_hash(one), volume_hash(other)) > 12


def test_the_catalog_row_of_a_volume_says_how_to_read_its_numbers() -> None:
    row = measurement(content(density=volume()), "scans/planes/x.tiff", delivered_site="", sidecar_sha256=None)
    assert row["modality"] == "CT"
    assert row["planes"] == [
        {
            "name": "density",
            "depth_px": 9,
            "height_px": 12,
            "width_px": 10,
            "bits": 16,
            "spacing_mm": [2.0, 0.9, 0.9],
            "scale": {"slope": 0.5, "intercept": -10.0, "unit": "HU", "is_signed": True, "is_inverted": False},
        }
    ]
    assert len(row["phash"]) == 16
    assert row["statistics"].keys() == {"density"}
