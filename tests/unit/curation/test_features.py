from __future__ import annotations

import numpy as np
import pytest

from scanloop.curation.features import DIMENSIONS, describe, thumbnail


def test_a_thumbnail_keeps_the_mean_of_what_divides_evenly():
    values = np.random.default_rng(0).random((64, 32))
    assert thumbnail(values).shape == (16, 16)
    assert thumbnail(values).mean() == pytest.approx(values.mean())
    assert thumbnail(values)[0, 0] == pytest.approx(values[:4, :2].mean())


@pytest.mark.parametrize("shape", [(16, 16), (100, 37), (5, 300), (1, 1)])
def test_every_shape_has_a_thumbnail(shape):
    assert thumbnail(np.ones(shape)) == pytest.approx(np.ones((16, 16)))


def test_descriptions_are_the_same_for_the_same_pixels_and_far_apart_for_other_ones():
    random = np.random.default_rng(1)
    empty = np.full((120, 90), 65535, np.uint16)
    full = random.integers(2000, 30000, (120, 90)).astype(np.uint16)
    noisy = np.clip(full + random.normal(0, 200, full.shape), 1, 65535).astype(np.uint16)
    first, again, noise, air = (np.array(describe({"high": plane, "low": plane})) for plane in (full, full.copy(), noisy, empty))
    assert first.shape == (DIMENSIONS,)
    assert np.array_equal(first, again)
    assert np.linalg.norm(first - noise) * 10 < np.linalg.norm(first - air)


def test_a_missing_plane_counts_as_air():
    plane = np.full((32, 32), 20000, np.uint16)
    assert describe({"high": plane}) == describe({"high": plane, "low": np.full((32, 32), 65535, np.uint16)})
