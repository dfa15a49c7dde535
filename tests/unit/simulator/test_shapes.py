"""Path lengths against points sampled densely along each ray, for every shape in any pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanloop.simulator.geometry import ViewGeometry
from scanloop.simulator.parts import Part, Waves, ball, box, circle, move, plate, rod, rounded, scaled, turn
from scanloop.simulator.projection import path_length, window
from scanloop.simulator.shapes import Cylinder, Ellipsoid, Prism, Slabs

VIEW = ViewGeometry("top", 7.0, 70.0, 105.0, 200, 220, 0.36, 0.24)
WHOLE = (slice(0, VIEW.rows_px), slice(0, VIEW.columns_px))
STAR = np.array([(r * np.cos(a), r * np.sin(a)) for a, r in zip(np.linspace(0, 2 * np.pi, 14, endpoint=False), (6, 3) * 7, strict=True)])
WAVES = Waves(np.array([[1.1, 0.4, 0.0], [0.2, -0.7, 2.5]]), np.array([0.5, 0.3]), np.array([0.3, 1.0]))
PARTS = {
    "box": box((10, 6, 4), "steel"),
    "bevelled box": box((10, 6, 4), "steel", bevel=0.8),
    "rounded box": rounded((14, 10, 6), 3, "steel", bevel=1),
    "ellipsoid": ball((3, 5, 2), "water"),
    "small ball": ball(0.4, "water"),
    "cylinder": rod((2, 3), 9, "water"),
    "star with a hole": plate(STAR, 2.5, "steel", holes=[circle(1.5, 12)]),
    "waved box": box((10, 6, 4), "textile", waves=WAVES),
    "waved ball": ball((4, 3, 3), "textile", waves=WAVES),
}
STEP_CM = 0.01


def inside(part: Part, points: np.ndarray) -> np.ndarray:
    """Density of the part at points (N, 3), by the definition of each shape."""
    local = (points - part.centre) @ part.rotation
    shape = part.shape
    if isinstance(shape, Slabs):
        within = (np.abs(local @ shape.normals.T) <= shape.halves_cm).all(axis=1)
    elif isinstance(shape, Ellipsoid):
        within = ((local / shape.radii_cm) ** 2).sum(axis=1) <= 1
    elif isinstance(shape, Cylinder):
        within = (((local[:, :2] / shape.radii_cm) ** 2).sum(axis=1) <= 1) & (np.abs(local[:, 2]) <= shape.half_length_cm)
    else:
        assert isinstance(shape, Prism)
        within = np.abs(local[:, 2]) <= shape.half_thickness_cm
        for ring in shape.rings:
            # Even-odd rule: count the edges that a line to the right crosses.
            a, b = ring, np.roll(ring, -1, axis=0)
            spans = (a[:, 1] > local[:, 1, None]) != (b[:, 1] > local[:, 1, None])
            at = a[:, 0] + (local[:, 1, None] - a[:, 1]) * (b[:, 0] - a[:, 0]) / np.where(spans, b[:, 1] - a[:, 1], 1)
            odd = (spans & (local[:, 0, None] < at)).sum(axis=1) % 2 == 1
            within &= odd if ring is shape.rings[0] else ~odd
    density = np.ones(len(points))
    if part.waves is not None:
        density += np.sin(local @ part.waves.vectors.T + part.waves.phases) @ part.waves.amplitudes
    return within * density


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=6, deadline=None)
@given(angles=st.tuples(*[st.floats(0, 360)] * 3), at=st.tuples(*[st.floats(-5, 5)] * 3), pick=st.integers(0, 2**31))
def test_path_length_is_the_length_inside(name: str, angles: tuple[float, ...], at: tuple[float, ...], pick: int) -> None:
    rotation = turn("x", angles[0]) @ turn("y", angles[1]) @ turn("z", angles[2])
    (part,) = move([PARTS[name]], at, rotation)
    where = window(part, VIEW)
    assert where is not None
    lengths = path_length(part, VIEW, where)
    rng = np.random.default_rng(pick)
    distances = np.arange(50, 90, STEP_CM)
    for _ in range(5):
        row, column = rng.integers(lengths.shape[0]), rng.integers(lengths.shape[1])
        points = VIEW.origins[where[1].start + column] + distances[:, None] * VIEW.directions[where[0].start + row]
        assert lengths[row, column] == pytest.approx(inside(part, points).sum() * STEP_CM, abs=4 * STEP_CM)


@pytest.mark.parametrize("name", PARTS)
def test_nothing_shows_outside_the_window(name: str) -> None:
    (part,) = move([PARTS[name]], (3, -2, 4), turn("x", 33) @ turn("y", 71))
    where = window(part, VIEW)
    assert where is not None
    everywhere = path_length(part, VIEW, WHOLE)
    total = everywhere.sum()
    everywhere[where] = 0
    assert total > 1
    assert np.abs(everywhere).sum() < 1e-6 * total


def test_a_part_outside_the_picture_has_no_window() -> None:
    assert window(box((2, 2, 2), "steel", (200, 0, 0)), VIEW) is None


@pytest.mark.parametrize("name", PARTS)
def test_scaling_multiplies_every_measure(name: str) -> None:
    (twice,) = scaled([PARTS[name]], 2.0)
    np.testing.assert_allclose(twice.shape.half_extent_cm, 2 * PARTS[name].shape.half_extent_cm)


def test_a_hollow_is_the_matter_between() -> None:
    outer, inner = ball(5, "steel"), ball(4, "steel", fill=-1.0)
    through = (path_length(outer, VIEW, WHOLE) + path_length(inner, VIEW, WHOLE)).max(axis=None)
    middle = path_length(outer, VIEW, WHOLE)[100, 110] + path_length(inner, VIEW, WHOLE)[100, 110]
    assert middle == pytest.approx(2.0, abs=0.02)
    assert through == pytest.approx(2 * np.sqrt(25 - 16), rel=0.03)
