"""What is listed is what is made, and every picture says where it is from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scan_files import picture

from scanloop.scans.content import ScanContent, ScanMetadata
from scanloop.scans.pictures import listed_views, transform_of, views_of
from scanloop.scans.transforms import IDENTITY
from scanloop.scans.views import COLOURS


def volume() -> np.ndarray:
    """A dense bar in light matter, (12, 16, 20) uint16."""
    voxels = np.full((12, 16, 20), 300, np.uint16)
    voxels[3:6, 4:8, 10:15] = 9000
    return voxels


CONTENTS = {
    "two energies": ScanContent(picture(1), {"high": 16, "low": 16}, ScanMetadata(), "png"),
    "one plane": ScanContent({"high": picture(1)["high"]}, {"high": 16}, ScanMetadata(), "png"),
    "a plane called as the picture": ScanContent(
        {**picture(1), "colour": picture(2)["high"]}, {"high": 16, "low": 16, "colour": 16}, ScanMetadata(), "png"
    ),
    "volume": ScanContent({"density": volume()}, {"density": 16}, ScanMetadata(modality="CT"), "dicos", spacing_mm=(2.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_what_is_listed_is_what_is_made(content: ScanContent) -> None:
    made = list(views_of(content))
    listed = json.loads(json.dumps(listed_views(content)))
    assert [(view.name, view.kind) for view in made] == [(one["name"], one["kind"]) for one in listed]
    assert len({view.name for view in made}) == len(made)
    for view in made:
        assert transform_of(listed, view.name) == view.transform
        assert view.pixels.dtype == np.uint8
        assert view.pixels.ndim == (3 if view.kind == "colour" else 2)
    with pytest.raises(LookupError, match="has no view 'sepia'"):
        transform_of(listed, "sepia")


def test_a_view_has_as_many_views_as_planes_and_colours_where_there_are_two_energies() -> None:
    assert [view["name"] for view in listed_views(CONTENTS["two energies"])] == ["high", "low", "colour"]
    assert [view["name"] for view in listed_views(CONTENTS["one plane"])] == ["high"]
    assert all(view.transform == IDENTITY for view in views_of(CONTENTS["two energies"]))


def test_a_bright_place_in_each_projection_leads_back_to_the_dense_bar() -> None:
    for view in views_of(CONTENTS["volume"]):
        if view.kind != "max" or view.name.count("_") != 2:
            continue
        rows, columns = np.nonzero(view.pixels > 200)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        region = view.transform.box_to_scan(box)
        bar = {"z": (3, 6), "y": (4, 8), "x": (10, 15)}
        assert all(region[axis] == bar[axis] for axis in (view.transform.rows.axis, view.transform.columns.axis)), view.name


def test_a_picture_that_came_in_colours_is_seen_in_them() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    planes = {name: pixels[:, :, index].astype(np.uint16) for index, name in enumerate(COLOURS)}
    content = ScanContent(planes, dict.fromkeys(planes, 8), ScanMetadata(), "png")
    views = {view.name: view for view in views_of(content)}
    assert list(views) == [*COLOURS, "colour"] == [view["name"] for view in listed_views(content)]
    assert np.array_equal(views["colour"].pixels, pixels)
