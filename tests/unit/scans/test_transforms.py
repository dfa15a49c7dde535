"""There and back is the same number; a picture's pixels are those of the volume at the place that the transform says."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import DataWrong, WrongArguments
from scanloop.scans.projections import KINDS, for_people, plan_projections, project
from scanloop.scans.transforms import AXES, IDENTITY, AxisTransform, ViewTransform, fuse

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(10**6), 10**6) | st.fractions(-1000, 1000, max_denominator=997)
STEPS = st.fractions(-50, 50, max_denominator=97).filter(bool)
DIRECTIONS = st.permutations(AXES)


@st.composite
def transforms(draw: st.DrawFn) -> ViewTransform:
    down, right, away = draw(DIRECTIONS)
    rows, columns = (AxisTransform(axis, draw(st.fractions(-500, 500, max_denominator=97)), draw(STEPS)) for axis in (down, right))
    if not draw(st.booleans()):
        return ViewTransform(rows, columns)
    first = draw(st.integers(0, 500))
    return ViewTransform(rows, columns, away, first, first + draw(st.integers(1, 500)))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    x0, x1 = sorted(draw(st.lists(NUMBERS.map(Fraction), min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(NUMBERS.map(Fraction), min_size=2, max_size=2, unique=True)))
    return x0, y0, x1, y1


@given(transforms(), NUMBERS, NUMBERS)
def test_a_point_comes_back_where_it_was(transform: ViewTransform, x: float, y: float) -> None:
    assert transform.point_to_view(transform.point_to_scan(x, y)) == (Fraction(x), Fraction(y))


@given(transforms(), boxes())
def test_a_box_comes_back_as_it_was(transform: ViewTransform, box: tuple[Fraction, Fraction, Fraction, Fraction]) -> None:
    region = transform.box_to_scan(box)
    assert transform.box_to_view(region) == box
    assert transform.shows(region)
    assert all(begin < end for begin, end in region.values())


@given(transforms())
def test_a_transform_survives_json(transform: ViewTransform) -> None:
    assert ViewTransform.from_dict(json.loads(json.dumps(transform.as_dict()))) == transform


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rows": {}, "columns": {}},
        IDENTITY.as_dict() | {"axis": "y", "first": 0, "end": 1},
        IDENTITY.as_dict() | {"axis": "z", "first": 5, "end": 5},
        IDENTITY.as_dict() | {"rows": {"axis": "y", "origin": "0", "step": "0"}},
        IDENTITY.as_dict() | {"rows": {"axis": "y", "origin": "1/0", "step": "1"}},
        IDENTITY.as_dict() | {"rows": {"axis": "t", "origin": "0", "step": "1"}},
        {"rows": None, "columns": None},
    ],
    ids=["nothing", "empty", "axis twice", "no slab", "no step", "no number", "no axis", "null"],
)
def test_what_is_no_transform_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(DataWrong):
        ViewTransform.from_dict(values)


VOLUMES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
SPACINGS = st.none() | st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.25, 3.0])] * 3)


@given(VOLUMES, SPACINGS, st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_each_pixel_of_a_projection_is_that_of_the_volume_where_its_transform_says(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None, slabs: int, seed: int
) -> None:
    volume = np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)
    made = list(project(volume, plan_projections(shape, spacing_mm, slabs)))
    assert len({one.name for one, _ in made}) == len(made)
    for one, picture in made:
        axis = AXES.index(one.axis)
        slab = np.take(volume, range(one.first, one.end), axis=axis).astype(np.float64)
        flat = slab.max(axis=axis) if one.kind == "max" else np.floor(slab.mean(axis=axis) + 0.5)
        left = [name for name in AXES if name != one.axis]
        for row in range(picture.shape[0]):
            for column in range(picture.shape[1]):
                point = one.transform.point_to_scan(column + Fraction(1, 2), row + Fraction(1, 2))
                index = tuple(min(int(point[name]), shape[AXES.index(name)] - 1) for name in left)
                assert picture[row, column] == flat[index]


@given(VOLUMES, st.integers(0, 6))
def test_slabs_cover_an_axis_without_a_gap(shape: tuple[int, int, int], slabs: int) -> None:
    for axis, extent in zip(AXES, shape, strict=True):
        for kind in KINDS:
            planned = [one for one in plan_projections(shape, None, slabs) if (one.axis, one.kind) == (axis, kind)]
            covered = [index for one in planned if not one.is_whole for index in range(one.first, one.end)]
            assert covered == (list(range(extent)) if min(slabs, extent) > 1 else [])
            assert [(one.first, one.end) for one in planned if one.is_whole] == [(0, extent)]


def test_a_volume_of_tall_voxels_is_shown_with_square_pixels() -> None:
    volume = np.zeros((10, 6, 8), np.uint16)
    sizes = {one.name: picture.shape for one, picture in project(volume, plan_projections((10, 6, 8), (2.0, 1.0, 1.0), 0))}
    assert sizes == {"z_max": (6, 8), "z_mean": (6, 8), "y_max": (20, 8), "y_mean": (20, 8), "x_max": (20, 6), "x_mean": (20, 6)}


def test_a_negative_number_of_slabs_is_refused() -> None:
    with pytest.raises(WrongArguments):
        plan_projections((4, 4, 4), None, -1)


def test_for_people_dense_is_bright_and_a_blank_picture_is_black() -> None:
    picture = np.zeros((40, 40), np.uint16)
    picture[10:20, 10:20] = 30_000
    shown = for_people(picture)
    assert (shown[0, 0], shown[15, 15]) == (0, 255)
    assert not for_people(np.full((4, 4), 500, np.uint16)).any()


@given(VOLUMES, st.data())
def test_boxes_of_three_projections_give_back_the_box_in_the_volume(shape: tuple[int, int, int], data: st.DataObject) -> None:
    region = {}
    for axis, extent in zip(AXES, shape, strict=True):
        begin = data.draw(st.integers(0, extent - 1))
        region[axis] = (Fraction(begin), Fraction(data.draw(st.integers(begin + 1, extent))))
    planned = [one for one in plan_projections(shape, (2.5, 0.8, 1.0), 0) if one.kind == "max"]
    seen = {one.name: (one.transform, one.transform.box_to_view(region)) for one in planned}
    assert fuse(seen) == region
    pair = dict(list(seen.items())[:2])
    fused = fuse(pair)
    assert fused is not None
    assert all(fused[axis][0] <= region[axis][0] and fused[axis][1] >= region[axis][1] for axis in AXES)


def test_boxes_that_contradict_each_other_are_no_box() -> None:
    top, front, _ = (one.transform for one in plan_projections((10, 10, 10), None, 0) if one.kind == "max")
    assert fuse({"top": (top, (0, 0, 3, 3)), "front": (front, (5, 0, 8, 3))}) is None
