"""Samples: boxes follow pixels, whatever is mirrored, cut or unknown."""

from __future__ import annotations

import numpy as np
import pytest

from scanloop.training import dataset as module
from scanloop.training.augment import cropped, mirrored, overlaid, transposed
from scanloop.training.dataset import ScanDataset, packed
from scanloop.training.options import TrainingOptions
from scanloop.training.preprocess import prepare_input
from scanloop.training.sample import make_sample
from scanloop.training.sampling import Draw

CATEGORIES = ("handgun", "knife")
SPEC = ("high", "low", "material")


def sample(number: int = 0):
    """A scan with one dark block, and its box."""
    high = np.full((60, 100), 65535, dtype=np.uint16)
    x, y = 10 + number, 20
    high[y : y + 20, x : x + 30] = 20000
    boxes = [("knife", (x, y, 30, 20)), ("unknown", (0, 0, 5, 5)), ("handgun", (50, 50, 0.5, 0.5))]
    planes = {"high": high, "low": (high * 0.9).astype(np.uint16)}
    return make_sample(planes, boxes, ("knife",), categories=CATEGORIES, size_px=100, planes_spec=SPEC)


def block_of(pixels: np.ndarray) -> list[int]:
    """Left, top, right and bottom of what is dark."""
    rows, columns = np.nonzero(pixels[0] > 0.3)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_known_and_visible_boxes_are_kept():
    made = sample()
    assert made.boxes_xyxy.tolist() == [[10, 20, 40, 40]]
    assert made.category_ids.tolist() == [1]
    assert made.looked_for == (False, True)
    assert block_of(made.pixels) == [10, 20, 40, 40]


@pytest.mark.parametrize("horizontally", [False, True])
@pytest.mark.parametrize("vertically", [False, True])
def test_boxes_are_mirrored_with_the_pixels(horizontally, vertically):
    turned = mirrored(sample(), horizontally, vertically)
    assert turned.boxes_xyxy.tolist() == [block_of(turned.pixels)]
    back = mirrored(turned, horizontally, vertically)
    assert np.array_equal(back.pixels, sample().pixels)


def test_boxes_are_transposed_with_the_pixels():
    turned = transposed(sample())
    assert turned.boxes_xyxy.tolist() == [block_of(turned.pixels)] == [[20, 10, 40, 40]]
    assert np.array_equal(transposed(turned).pixels, sample().pixels)


def test_a_scan_laid_over_a_scan_is_both_in_the_beam():
    """What `prepare_input` makes of the product of transmissions, Beer and Lambert's law."""
    random = np.random.default_rng(0)
    scans = [{name: random.integers(20000, 65536, (64, 64), dtype=np.uint16) for name in ("high", "low")} for _ in range(2)]
    one, two = (
        make_sample(scan, [("knife", (n, n, 9, 9))], CATEGORIES[n:], categories=CATEGORIES, size_px=64, planes_spec=SPEC)
        for n, scan in enumerate(scans)
    )
    both = {name: np.rint(scans[0][name].astype(np.float64) * scans[1][name] / 65535).astype(np.uint16) for name in ("high", "low")}
    together = overlaid(one, two, SPEC)
    assert np.allclose(together.pixels, prepare_input(both, 64, SPEC)[0], atol=2e-3)
    assert together.boxes_xyxy.tolist() == [[0, 0, 9, 9], [1, 1, 10, 10]]
    assert together.category_ids.tolist() == [1, 1]
    assert together.looked_for == (False, True)


def test_material_alone_cannot_be_laid_over():
    made = sample()
    assert overlaid(made, made, ("material", "high", "high")) is made


@pytest.mark.parametrize("focus", [0.0, 1.0])
def test_a_window_shows_the_same_place(focus):
    whole = sample()
    for number in range(50):
        window = cropped(whole, 64, focus, np.random.default_rng(number))
        assert window.pixels.shape == (3, 64, 64)
        places = [
            (top, left)
            for top in range(37)
            for left in range(37)
            if np.array_equal(whole.pixels[:, top : top + 64, left : left + 64], window.pixels)
        ]
        for (x1, y1, x2, y2), category in zip(window.boxes_xyxy, window.category_ids, strict=True):
            assert category == 1
            assert block_of(window.pixels) == [x1, y1, x2, y2]
        assert places
        if focus:
            assert (window.boxes_xyxy[:, 2:] - window.boxes_xyxy[:, :2]).tolist() == [[30, 20]]


def test_a_box_mostly_outside_the_window_is_dropped():
    whole = make_sample({"high": np.full((96, 96), 9000, np.uint16)}, [("knife", (0, 0, 96, 96))], CATEGORIES, categories=CATEGORIES, size_px=96,
                        planes_spec=("high",))  # fmt: skip
    assert len(cropped(whole, 64, 0.0, np.random.default_rng(0)).boxes_xyxy) == 0
    assert cropped(whole, 0, 0.0, np.random.default_rng(0)) is whole


def test_a_draw_decides_how_it_is_shown():
    shown = ScanDataset(sample, 3, CATEGORIES, TrainingOptions(seed=4, crop_px=0, overlay_probability=0))
    again = ScanDataset(sample, 3, CATEGORIES, TrainingOptions(seed=4, crop_px=0, overlay_probability=0))
    draws = [Draw(1, position) for position in range(12)]
    pixels = [shown[draw]["inputs"].numpy() for draw in draws]
    assert all(np.array_equal(first, again[draw]["inputs"].numpy()) for first, draw in zip(pixels, draws, strict=True))
    assert len({array.tobytes() for array in pixels}) > 4


def test_what_does_not_fit_into_memory_is_read_again(monkeypatch):
    read = []

    def load(index):
        read.append(index)
        return sample(index)

    monkeypatch.setattr(module, "CACHE_BYTES", 2 * sample().pixels.nbytes)
    shown = ScanDataset(load, 3, CATEGORIES, TrainingOptions(flip_probability=0, crop_px=0, overlay_probability=0))
    shown.warm_up(2)
    read.clear()
    for index in (0, 1, 2, 2):
        shown[Draw(index, 0)]
    assert read == [2, 2]


def test_mmdet_gets_ground_truth_and_what_was_looked_for():
    made = packed(sample())
    truth = made["data_samples"]
    assert truth.gt_instances.bboxes.tolist() == [[10, 20, 40, 40]]
    assert truth.gt_instances.labels.tolist() == [1]
    assert truth.metainfo["looked_for"] == (False, True)
    assert made["inputs"].shape == (3, 100, 100)
