"""What reports say about a scan, as boxes in the scan's own planes. Rules, without a catalog."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_files import corners

from scanloop.intake.report_boxes import Categories, OutsideScan, ScanPlace, bounds_of, category_of, found_in, is_uncertain, named

CATEGORIES = Categories.of(
    "t-1",
    [
        {"id": "weapon", "name": "Weapon", "parent": None},
        {"id": "firearm", "name": "Firearm", "parent": "weapon"},
        {"id": "handgun", "name": "Handgun", "parent": "firearm"},
        {"id": "blade", "name": "Blade", "parent": "weapon"},
        {"id": "knife", "name": "Kitchen knife", "parent": "blade"},
        {"id": "pipe_bomb", "name": "Explosive", "parent": None},
        {"id": "explosive", "name": "Explosive device", "parent": None},
    ],
)
VIEW = ScanPlace("2.25.1", height_px=40, width_px=32, depth_px=None, bands=2, is_reordered=False)
VOLUME = ScanPlace("2.25.1", height_px=40, width_px=32, depth_px=10, bands=2, is_reordered=False)


def place(*uids: str, polygon: list[float] | None = None, regions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    numbers = polygon or []
    return {
        "references": [{"sop_class_uid": "", "sop_instance_uid": uid} for uid in uids],
        "polygon": [numbers[at : at + 3] for at in range(0, len(numbers), 3)],
        "regions": regions or [],
    }


def assessment(description: str = "knife", flag: str = "threat", probability: float | None = None, category: str = "PI") -> dict[str, Any]:
    return {"description": description, "flag": flag, "probability": probability, "category": category}


def threat(*places: dict[str, Any], number: int = 1, assessments: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"number": number, "assessments": assessments or [assessment()], "representations": list(places)}


def report(*threats: dict[str, Any], **changes: Any) -> dict[str, Any]:
    alarms = {"alarm_objects": changes.pop("alarm_objects", None)}
    usual = {"tdr_type": "ground_truth", "decision": "alarm" if threats else "clear", "is_aborted": False, "attributes": alarms}
    return {**usual, "threats": list(threats), **changes}


def boxes_in(scan: ScanPlace, *threats: dict[str, Any], is_only: bool = False) -> list[Any]:
    return [box["bbox_xywh"] for box in found_in(report(*threats), scan, CATEGORIES, is_only=is_only).boxes]


@given(
    st.integers(0, 1),
    st.tuples(st.floats(0, 30, width=32), st.floats(0, 38, width=32)),
    st.tuples(st.floats(0.5, 60, width=32), st.floats(0.5, 60, width=32)),
)
def test_a_box_in_any_band_of_a_stacked_view_lands_where_it_is_in_the_planes(
    band: int, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    (x, y), width, height = corner, min(size[0], 32 - corner[0]), min(size[1], 40 - corner[1])
    (found,) = boxes_in(VIEW, threat(place("2.25.1", polygon=corners(x, y + 40 * band, width, height))))
    assert found == pytest.approx([x, y, width, height], abs=1e-4)


@given(st.integers(0, 1), st.integers(0, 8), st.integers(1, 2))
def test_frames_of_the_second_energy_of_a_volume_are_counted_from_its_first(energy: int, front: int, depth: int) -> None:
    region = {"base": [3.0, 4.0, float(front + 10 * energy)], "extents": [5.0, 6.0, float(depth)], "mask": "key"}
    (box,) = found_in(report(threat(place("2.25.1", regions=[region]))), VOLUME, CATEGORIES, is_only=False).boxes
    assert (box["bbox_xywh"], box["z"]) == ([3, 4, 5, 6], [front, front + depth])
    assert box["masks"] == [{"key": "key", "base": [3, 4, front], "extents": [5, 6, depth]}]


def test_of_slices_in_another_order_only_the_footprint_is_said() -> None:
    region = {"base": [3.0, 4.0, 2.0], "extents": [5.0, 6.0, 2.0], "mask": "key"}
    shuffled = ScanPlace("2.25.1", height_px=40, width_px=32, depth_px=10, bands=1, is_reordered=True)
    (box,) = found_in(report(threat(place("2.25.1", regions=[region]))), shuffled, CATEGORIES, is_only=False).boxes
    assert box.keys() == {"category", "bbox_xywh", "threat"}


@pytest.mark.parametrize(
    "polygon",
    [corners(30, 5, 10, 5), corners(5, 35, 5, 10), corners(5, 85, 5, 5), corners(40, 5, 5, 5), corners(5, 100, 5, 5)],
    ids=["right edge", "between bands", "below the last band", "right of it", "far below"],
)
def test_a_place_that_is_not_in_the_scan_is_refused(polygon: list[float]) -> None:
    with pytest.raises(OutsideScan):
        boxes_in(VIEW, threat(place("2.25.1", polygon=polygon)))


def test_a_place_that_reaches_a_pixel_too_far_is_cut_off() -> None:
    assert boxes_in(VIEW, threat(place("2.25.1", polygon=corners(20, 30, 13, 10.5)))) == [[20, 30, 12, 10]]


def test_a_threat_has_one_box_round_all_its_places_in_a_scan() -> None:
    high, low, elsewhere = (
        place(uid, polygon=corners(x, y, 5, 5)) for uid, x, y in (("2.25.1", 4, 4), ("2.25.1", 5, 46), ("2.25.2", 20, 1))
    )
    assert boxes_in(VIEW, threat(high, low, elsewhere)) == [[4, 4, 6, 7]]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (place(polygon=[1, 2, 3, 7, 9, 11]), (1, 2, 3, 7, 9, 11)),
        (place(polygon=[1, 2, 3, 1, 9, 11]), None),
        (place(polygon=[1, 2, 3, 1, 9, 11], regions=[{"base": [0, 0, 0], "extents": [2, 3, 1], "mask": None}]), (0, 0, 0, 2, 3, 1)),
        (
            place(
                regions=[{"base": [4, 5, 6], "extents": [2, 3, 1], "mask": None}, {"base": [1, 9, 2], "extents": [1, 1, 1], "mask": None}]
            ),
            (1, 5, 2, 6, 10, 7),
        ),
        (place(), None),
    ],
)
def test_polygons_come_before_regions_and_several_regions_are_one_place(where: dict[str, Any], expected: Any) -> None:
    assert bounds_of(where) == expected


def test_a_place_without_a_scan_is_meant_only_where_there_is_one() -> None:
    unnamed = threat(place(polygon=corners(1, 2, 3, 4)))
    assert boxes_in(VIEW, unnamed) == []
    assert boxes_in(VIEW, unnamed, is_only=True) == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("description", "code", "expected"),
    [
        ("KITCHEN-KNIFE", "", ("knife", True)),
        ("Pipe bomb", "", ("pipe_bomb", True)),
        ("explosive", "", ("explosive", True)),
        ("", "EXPLOSIVE", ("explosive", True)),
        ("", "PI", ("pi", False)),
        ("Laptop", "LAPTOP", ("laptop", False)),
        ("", "", ("unknown", False)),
    ],
)
def test_a_category_is_found_by_id_before_name_and_description_before_code(description: str, code: str, expected: tuple[str, bool]) -> None:
    assert category_of(assessment(description, category=code), CATEGORIES) == expected


def test_the_likeliest_assessment_names_a_threat_and_others_are_not_excluded() -> None:
    said = [assessment("knife", probability=0.2), assessment("handgun", probability=0.7), assessment("pipe bomb", "no_threat", 0.9)]
    found = named(threat(assessments=said), CATEGORIES)
    assert found is not None
    assert (found.category, found.score, found.also) == ("handgun", 0.7, ("knife",))
    everything = found_in(report(threat(place("2.25.1", polygon=corners(1, 1, 2, 2)), assessments=said)), VIEW, CATEGORIES, is_only=False)
    assert set(everything.looked_for) == {"handgun", "pipe_bomb", "explosive"}


@pytest.mark.parametrize(
    ("flags", "is_threat", "uncertain"),
    [
        (["threat"], True, False),
        ([""], True, False),
        (["no_threat"], False, False),
        (["unknown"], False, True),
        (["no_threat", "high_threat"], True, False),
    ],
)
def test_flags_decide_what_is_a_threat(flags: list[str], is_threat: bool, uncertain: bool) -> None:
    found = threat(assessments=[assessment(flag=flag) for flag in flags])
    assert (named(found, CATEGORIES) is not None, is_uncertain(found)) == (is_threat, uncertain)


def test_relatives_of_what_is_boxed_are_not_called_absent() -> None:
    at = place("2.25.1", polygon=corners(1, 1, 2, 2))
    of_a_kind = found_in(report(threat(at, assessments=[assessment("firearm")])), VIEW, CATEGORIES, is_only=False)
    assert set(of_a_kind.looked_for) == {"firearm", "blade", "knife", "pipe_bomb", "explosive"}
