"""Beer-Lambert: attenuation adds, a known slab transmits what the tables say, and noise is what photons make it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanloop.simulator.bags import Bag, Thing
from scanloop.simulator.detector import detect, simulate_scan
from scanloop.simulator.geometry import ViewGeometry
from scanloop.simulator.materials import GRID_KEV, MATERIALS, mu_per_cm
from scanloop.simulator.parts import ball, box, move, turn, wire
from scanloop.simulator.projection import attenuation
from scanloop.simulator.scanners import SCANNER_MODELS

ENERGIES = (100.0, 60.0)
VIEW = SCANNER_MODELS[0].views[0]
MODELS = pytest.mark.parametrize("scanner", SCANNER_MODELS, ids=lambda scanner: scanner.code)


@pytest.mark.parametrize(
    ("material", "energy_kev", "cm2_g"),
    [
        ("water", 60.0, 0.2059),
        ("water", 100.0, 0.1707),
        ("aluminium", 60.0, 0.2778),
        ("steel", 60.0, 1.205),
        ("steel", 100.0, 0.3717),
        ("copper", 80.0, 0.7630),
        ("lead", 100.0, 5.549),
    ],
)
def test_coefficients_are_those_of_the_tables(material: str, energy_kev: float, cm2_g: float) -> None:
    assert mu_per_cm(material, energy_kev) / MATERIALS[material].density_g_cm3 == pytest.approx(cm2_g, rel=2e-3)


@pytest.mark.parametrize("energy_kev", [20.0, 90.0, 200.0])
def test_energies_without_a_coefficient_are_refused(energy_kev: float) -> None:
    with pytest.raises(ValueError, match="effective energy"):
        mu_per_cm("lead", energy_kev)


@pytest.mark.parametrize("material", MATERIALS)
def test_coefficients_fall_with_energy_but_for_the_edge_of_lead(material: str) -> None:
    below, above = np.array([mu_per_cm(material, e) for e in GRID_KEV[:3]]), np.array([mu_per_cm(material, e) for e in GRID_KEV[3:]])
    assert (np.diff(below) < 0).all()
    assert (np.diff(above) < 0).all()


@pytest.mark.parametrize(
    ("lighter", "heavier"), [("water", "aluminium"), ("aluminium", "steel"), ("polyethylene", "water"), ("glass", "steel")]
)
def test_the_dual_energy_ratio_tells_materials_apart(lighter: str, heavier: str) -> None:
    ratios = [mu_per_cm(name, 60.0) / mu_per_cm(name, 100.0) for name in (lighter, heavier)]
    assert ratios[0] < ratios[1]


@settings(max_examples=15, deadline=None)
@given(at=st.tuples(*[st.floats(-8, 8)] * 3), degrees=st.floats(0, 360))
def test_attenuation_adds(at: tuple[float, float, float], degrees: float) -> None:
    one = move([box((9, 5, 3), "aluminium", bevel=0.5)], at, turn("x", degrees))
    other = move([ball((4, 3, 2), "water")], (1, 0, 0), turn("z", degrees))
    together = attenuation((*one, *other), VIEW, ENERGIES)
    np.testing.assert_allclose(together, attenuation(one, VIEW, ENERGIES) + attenuation(other, VIEW, ENERGIES), atol=2e-6)
    assert together.max() > 0.1


@MODELS
def test_a_slab_transmits_what_its_thickness_says(scanner) -> None:
    scanner = replace(scanner, weak_elements=(0.0, 0.0), banding=0.0)
    slab = Bag("slab", (Thing("slab", (box((30, 20, 4.0), "water"),)),))
    scan = simulate_scan(slab, scanner, 0, seed=3)
    view = scanner.views[0]
    row, column = view.rows_px // 2, view.columns_px // 2
    for plane, energy, air in zip(("high", "low"), scanner.energies_kev, scanner.air_level, strict=True):
        centre = scan.planes[plane][row - 8 : row + 8, column - 30 : column + 30] / (air * scanner.full_scale)
        # The tilt of a view lengthens the path; rows off the centre see a little more.
        path_cm = 4.0 / abs(np.cos(np.deg2rad(view.angle_deg)))
        assert centre.mean() == pytest.approx(np.exp(-mu_per_cm("water", energy) * path_cm) + scanner.scatter, rel=3e-3)
        edge = scan.planes[plane][:5, 5:50] / scanner.full_scale
        assert edge.mean() == pytest.approx(min(1.0, air * (1 + scanner.scatter)), rel=2e-3)


def test_noise_is_that_of_the_photons() -> None:
    scanner = replace(SCANNER_MODELS[3], weak_elements=(0.0, 0.0), banding=0.0, scatter=0.0)
    for depth in (0.5, 2.0, 4.0):
        pixels = detect(np.full((2, 200, 300), depth, np.float32), scanner, np.random.default_rng(1), np.random.default_rng(2))
        for plane, photons, air in zip(pixels, scanner.photons, scanner.air_level, strict=True):
            signal = plane / (air * scanner.full_scale)
            expected = np.sqrt(np.exp(-depth) / photons + scanner.dark_noise**2)
            assert signal.mean() == pytest.approx(np.exp(-depth), rel=0.01)
            assert signal.std() == pytest.approx(expected, rel=0.02)


def test_thin_wires_lose_no_matter_where_they_are_drawn_wider() -> None:
    fine = ViewGeometry("top", 0.0, 74.0, 108.0, 600, 600, 0.02, 0.02)
    path = [(-3.0, 0.3, 0.0), (3.0, -0.4, 0.0)]
    true, drawn = (attenuation(wire(path, 0.05, "copper", min_radius=r), fine, (100.0,)).sum() for r in (0.05, 0.15))
    assert drawn == pytest.approx(true, rel=0.02)


@MODELS
def test_both_views_see_one_bag(scanner) -> None:
    points = np.array([(-12.0, 6.0, 3.0), (5.0, -9.0, -4.0), (14.0, 2.0, 6.0)])
    columns = []
    for view in scanner.views:
        found = []
        for point in points:
            shadow = attenuation((ball(0.8, "steel", point),), view, (100.0,))[0]
            rows, cols = np.indices(shadow.shape)
            centre = np.array([(cols * shadow).sum(), (rows * shadow).sum()]) / shadow.sum()
            np.testing.assert_allclose(centre, view.project(point[None])[0], atol=0.25)
            found.append(centre[0])
        columns.append(found)
    np.testing.assert_allclose(columns[0], columns[1], atol=0.3)


def test_what_is_nearer_to_the_source_appears_larger() -> None:
    sizes = [(attenuation((ball(3, "steel", (0, 0, z)),), VIEW, (100.0,))[0] > 0).any(axis=1).sum() for z in (-10, 0, 10)]
    assert sizes[0] > sizes[1] > sizes[2]
