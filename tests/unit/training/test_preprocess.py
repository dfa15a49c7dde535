"""Planes to network input: shapes, physics, and boxes that go there and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import DataWrong
from scanloop.training.preprocess import FULL_SCALE, Letterbox, prepare_input, preprocess_config

ALL = ("high", "low", "material")


def uniform(high: float, low: float, shape: tuple[int, int] = (60, 80)) -> dict[str, np.ndarray]:
    """Planes of one material: attenuations `high` and `low` everywhere."""
    return {
        "high": np.full(shape, round(FULL_SCALE * np.exp(-high)), dtype=np.uint16),
        "low": np.full(shape, round(FULL_SCALE * np.exp(-low)), dtype=np.uint16),
    }


def test_air_is_zero_like_the_padding_around_it() -> None:
    pixels, _ = prepare_input(uniform(0, 0), 64, ALL)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert not pixels.any()


def test_attenuation_is_what_beer_lambert_says() -> None:
    pixels, box = prepare_input(uniform(1.0, 1.6), 80, ALL)
    inside = pixels[:, : box.input_height_px, : box.input_width_px]
    assert np.allclose(inside[0], 0.5, atol=1e-4)
    assert np.allclose(inside[1], 0.8, atol=1e-4)


def test_material_tells_steel_from_water() -> None:
    steel, _ = prepare_input(uniform(1.0, 1.9), 80, ("material",))
    water, _ = prepare_input(uniform(1.0, 1.2), 80, ("material",))
    assert steel[0, 10, 10] > 0.5 > 0 > water[0, 10, 10]


def test_colours_are_channels_like_energies() -> None:
    planes = {
        name: np.full((60, 80), round(FULL_SCALE * np.exp(-value)), np.uint16)
        for name, value in (("red", 0.4), ("green", 1.0), ("blue", 2.0))
    }
    pixels, box = prepare_input(planes, 80, ("red", "green", "blue"))
    inside = pixels[:, : box.input_height_px, : box.input_width_px]
    assert np.allclose(inside[:, 5, 5], (0.2, 0.5, 1.0), atol=1e-4)


def test_a_black_place_stays_finite() -> None:
    planes = {name: np.zeros((40, 40), dtype=np.uint16) for name in ("high", "low")}
    pixels, _ = prepare_input(planes, 64, ALL)
    assert np.isfinite(pixels).all()
    assert pixels[0].max() == pytest.approx(-np.log(1e-3) / 2, abs=1e-5)


def test_channels_come_in_the_order_asked_for() -> None:
    planes = uniform(0.5, 0.9)
    assert np.array_equal(prepare_input(planes, 64, ("low", "high"))[0], prepare_input(planes, 64, ("high", "low"))[0][::-1])


def test_planes_are_left_unchanged() -> None:
    planes = uniform(0.5, 0.9)
    before = {name: plane.copy() for name, plane in planes.items()}
    prepare_input(planes, 64, ALL)
    assert all(np.array_equal(planes[name], before[name]) for name in planes)


@pytest.mark.parametrize(
    ("planes", "spec"),
    [
        pytest.param({"high": np.zeros((4, 4), np.uint16)}, ("high", "low"), id="missing plane"),
        pytest.param({"high": np.zeros((4, 4), np.uint16)}, ("material",), id="material needs both"),
        pytest.param({"high": np.zeros((4, 4), np.uint8)}, ("high",), id="eight bits"),
        pytest.param({"high": np.zeros((4, 4), np.uint16), "low": np.zeros((4, 5), np.uint16)}, ("high", "low"), id="other shape"),
        pytest.param({"high": np.zeros((0, 4), np.uint16)}, ("high",), id="no pixels"),
        pytest.param({"high": np.zeros((4, 4), np.uint16)}, ("zeff",), id="unknown channel"),
        pytest.param({"high": np.zeros((4, 4), np.uint16)}, (), id="no channel"),
    ],
)
def test_what_cannot_be_prepared_is_refused(planes: dict[str, np.ndarray], spec: tuple[str, ...]) -> None:
    with pytest.raises(DataWrong):
        prepare_input(planes, 64, spec)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    size=st.sampled_from([64, 256, 320]),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    extent=st.tuples(st.floats(0.01, 0.1), st.floats(0.01, 0.1)),
)
def test_boxes_go_to_the_input_and_back(
    height: int, width: int, size: int, corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    box = Letterbox.fit(height, width, size)
    assert max(box.input_height_px, box.input_width_px) == size
    x1, y1 = corner[0] * width, corner[1] * height
    boxes = np.array([[x1, y1, x1 + extent[0] * width, y1 + extent[1] * height]], dtype=np.float32)
    there = box.to_input(boxes)
    assert (there >= 0).all()
    assert (there[:, [0, 2]] <= box.input_width_px + 1e-3).all()
    assert (there[:, [1, 3]] <= box.input_height_px + 1e-3).all()
    assert np.allclose(box.to_scan(there), boxes, atol=1e-3 * max(height, width) / 100)


def test_boxes_beyond_the_scan_are_cut() -> None:
    box = Letterbox.fit(100, 200, 64)
    assert box.to_scan(np.array([[-5, -5, 500, 500]])).tolist() == [[0, 0, 200, 100]]


def test_config_names_version_and_channels() -> None:
    assert preprocess_config(320, ALL) == {"version": 1, "size_px": 320, "planes": ["high", "low", "material"]}


def test_a_device_needs_no_torch() -> None:
    code = (
        "import sys; import scanloop.training.preprocess, scanloop.training.postprocess, scanloop.training.detections; "
        "sys.exit(bool({'torch', 'mmdet', 'mmengine', 'mmcv', 'sqlalchemy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
