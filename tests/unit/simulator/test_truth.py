"""Ground truth: boxes are tight on the threat's own shadow, occlusion grows with clutter, elements of a machine stay its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanloop.simulator.bags import Bag, Thing, simulate_bag
from scanloop.simulator.detector import detect, simulate_scan, true_box
from scanloop.simulator.items.threats import THREATS
from scanloop.simulator.parts import box
from scanloop.simulator.projection import VISIBLE_ATTENUATION, attenuation, box_of
from scanloop.simulator.scanners import SCANNER_MODELS


@pytest.mark.parametrize("view_number", [0, 1])
@pytest.mark.parametrize("category", THREATS)
def test_boxes_are_tight_on_the_threats_own_shadow(category: str, view_number: int) -> None:
    scanner = SCANNER_MODELS[1]
    bag = simulate_bag(11, (category,), clean_fraction=0.0)
    scan = simulate_scan(bag, scanner, view_number, seed=0)
    assert len(scan.boxes) == len(bag.threats)
    for threat, truth in zip(bag.threats, scan.boxes, strict=True):
        shadow = attenuation(threat.parts, scanner.views[view_number], scanner.energies_kev)[0] > VISIBLE_ATTENUATION
        x, y, width, height = truth.bbox_xywh
        inside = shadow[y : y + height, x : x + width]
        assert inside.sum() == shadow.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        assert truth.category == category


def test_boxes_show_in_the_pixels() -> None:
    """Taking the threat out changes the pixels inside its box and no others, but for blur."""
    scanner = replace(SCANNER_MODELS[0], photons=(1e9, 1e9), dark_noise=0.0, banding=0.0)
    bag = simulate_bag(21, ("handgun",), clean_fraction=0.0)
    without = Bag(bag.kind, tuple(thing for thing in bag.things if thing.category is None))
    scans = [simulate_scan(which, scanner, 0, seed=4) for which in (bag, without)]
    changed = np.abs(scans[0].planes["high"].astype(int) - scans[1].planes["high"]) > 300
    for x, y, width, height in (truth.bbox_xywh for truth in scans[0].boxes):
        changed[max(y - 3, 0) : y + height + 3, max(x - 3, 0) : x + width + 3] = False
    assert scans[0].boxes
    assert not changed.any()


def test_both_views_put_the_threat_at_the_same_belt_position() -> None:
    bag = simulate_bag(33, ("hammer",), clean_fraction=0.0)
    top, side = (simulate_scan(bag, SCANNER_MODELS[0], number, seed=0).boxes[0].bbox_xywh for number in (0, 1))
    assert top[0] == pytest.approx(side[0], abs=2)
    assert top[2] == pytest.approx(side[2], abs=3)


def test_occlusion_grows_with_what_lies_over_a_threat() -> None:
    scanner, threat = SCANNER_MODELS[0], Thing("knife", THREATS["knife"](np.random.default_rng(0)), "knife")
    covers = [(), (Thing("book", (box((40, 30, 3), "paper", (0, 0, 5)),)),), (Thing("plate", (box((40, 30, 1), "steel", (0, 0, 5)),)),)]
    shares = [simulate_scan(Bag("heap", (*cover, threat)), scanner, 0, seed=0).boxes[0].occlusion for cover in covers]
    assert shares[0] == 0
    assert 0.05 < shares[1] < shares[2] < 1


def test_a_threat_too_thin_to_see_has_no_box() -> None:
    shadow = np.zeros((20, 20), np.float32)
    assert true_box("knife", shadow, shadow + 1) is None
    shadow[5:8, 3:17] = 1.0
    assert true_box("knife", shadow, shadow + 1) is None


def test_a_box_counts_both_its_edges() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3:6, 2:9] = True
    assert box_of(mask) == (2, 3, 7, 3)


def test_a_clean_bag_has_no_boxes() -> None:
    assert simulate_scan(simulate_bag(2, clean_fraction=1.0), SCANNER_MODELS[2], 0, seed=0).boxes == ()


def test_dead_elements_belong_to_the_machine() -> None:
    scanner = replace(SCANNER_MODELS[0], weak_elements=(0.0, 0.05))
    air = np.zeros((2, 200, 60), np.float32)
    dead = [
        set(np.flatnonzero((detect(air, scanner, np.random.default_rng(noise), np.random.default_rng(machine)) == 0).all(axis=(0, 2))))
        for noise, machine in ((1, 7), (2, 7), (1, 8))
    ]
    assert dead[0]
    assert dead[0] == dead[1]
    assert dead[0] != dead[2]


@pytest.mark.parametrize("scanner", SCANNER_MODELS, ids=lambda scanner: scanner.code)
@pytest.mark.parametrize("view_number", [0, 1])
def test_planes_are_what_the_model_promises(scanner, view_number: int) -> None:
    scan = simulate_scan(simulate_bag(8), scanner, view_number, seed=1)
    view = scanner.views[view_number]
    assert list(scan.planes) == ["high", "low"]
    for pixels in scan.planes.values():
        assert pixels.dtype == np.uint16
        assert pixels.shape == (view.rows_px, view.columns_px)
        assert pixels.max() <= scanner.full_scale
        assert pixels.max() > 0.9 * scanner.full_scale
        assert pixels.min() < 0.5 * scanner.full_scale
