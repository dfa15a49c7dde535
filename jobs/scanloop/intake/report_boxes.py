"""What a report says about one scan, as boxes and as categories that were looked for. Rules only.

Places are in pixels or voxels of the file that a report names. A view whose energies are stacked in the rows of one picture may be referred to by
any of its bands: rows are counted from the top of the band. A volume whose energies follow each other in one file likewise, by its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scanloop.scans.content import UNKNOWN, slug
from scanloop.scans.threat_report import THREAT_FLAGS

Row = Mapping[str, Any]
Bounds = tuple[float, float, float, float, float, float]
"""Left, top, front, right, bottom, back."""
TOLERANCE_PX = 1.0
"""A place may reach so far beyond the picture: toolkits count corners from the middle of pixels, or from their edges."""


@dataclass(frozen=True)
class Categories:
    """A version of the taxonomy, as reports are understood by it."""

    version: str
    """Its name."""
    parents: Mapping[str, str | None]
    """Id to the id of the parent."""
    names: Mapping[str, str]
    """Slug of an id or a name to the id."""

    @classmethod
    def of(cls, version: str, categories: Iterable[Row]) -> Categories:
        """From the rows of the catalog; where names collide, ids come first."""
        found = list(categories)
        by_name = {slug(category["name"]): category["id"] for category in reversed(found)}
        return cls(
            version,
            {category["id"]: category.get("parent") for category in found},
            by_name | {slug(category["id"]): category["id"] for category in found},
        )

    def ancestors(self, category: str) -> set[str]:
        """Ids of everything that a category is a kind of."""
        found: set[str] = set()
        above = self.parents.get(category)
        while above is not None and above not in found:
            found.add(above)
            above = self.parents.get(above)
        return found

    def relatives(self, category: str) -> set[str]:
        """Ids of everything that a thing of this category may also be called: what it is a kind of, and its own kinds."""
        return self.ancestors(category) | {other for other in self.parents if category in self.ancestors(other)}


@dataclass(frozen=True)
class ScanPlace:
    """What of a scan a report's coordinates depend on."""

    sop_instance_uid: str
    """What reports call its file."""
    height_px: int
    """Rows of a plane."""
    width_px: int
    """Columns of a plane."""
    depth_px: int | None
    """Slices of a volume; None for a view."""
    bands: int
    """Planes that lie one after the other in the file, in its rows for a view, in its frames for a volume."""
    is_reordered: bool
    """Whether the slices lie in another order than the frames of the file."""

    @classmethod
    def of(cls, scan: Row) -> ScanPlace:
        """From a row of the catalog."""
        plane, attributes = scan["planes"][0], scan["attributes"]
        depth = plane.get("depth_px")
        bands = attributes.get("stacked_planes", 1) if depth is None else len(scan["planes"])
        is_reordered = attributes.get("frame_order") == "reordered"
        uid = str(attributes.get("sop_instance_uid", ""))
        return cls(uid, plane["height_px"], plane["width_px"], depth, int(bands), is_reordered)


class OutsideScan(ValueError):
    """A place lies outside the scan: the report cannot be about it."""


@dataclass(frozen=True)
class FoundInScan:
    """What a report says about one scan."""

    looked_for: tuple[str, ...]
    """Categories that it speaks about, boxes or none."""
    boxes: tuple[dict[str, Any], ...]
    """One a threat that it locates in the scan."""


@dataclass(frozen=True)
class Named:
    """What a threat is taken for."""

    category: str
    """Id in the taxonomy, or the slug of what its author calls it."""
    is_known: bool
    """Whether the taxonomy has it."""
    score: float | None
    """Probability, where one is said."""
    also: tuple[str, ...]
    """Other categories that it may be."""


def category_of(assessment: Row, categories: Categories) -> tuple[str, bool]:
    """The category of one assessment, by its description or else by its code; and whether the taxonomy has it."""
    for text in (assessment["description"], assessment["category"]):
        if text and (known := categories.names.get(slug(text))) is not None:
            return known, True
    return slug(assessment["description"] or assessment["category"]) or UNKNOWN, False


def named(threat: Row, categories: Categories) -> Named | None:
    """What a threat is: its likeliest assessment as one; None if it is assessed as no threat, or not at all for certain."""
    found = [one for one in threat["assessments"] if one["flag"] in THREAT_FLAGS]
    if not found:
        return None
    ranked = sorted(found, key=lambda one: -1.0 if one["probability"] is None else one["probability"], reverse=True)
    category, is_known = category_of(ranked[0], categories)
    others = dict.fromkeys(category_of(one, categories)[0] for one in ranked[1:])
    return Named(category, is_known, ranked[0]["probability"], tuple(other for other in others if other != category))


def is_uncertain(threat: Row) -> bool:
    """Whether nobody decided if this is a threat."""
    flags = [one["flag"] for one in threat["assessments"]]
    return not any(flag in THREAT_FLAGS for flag in flags) and (not flags or "unknown" in flags)


def bounds_of(place: Row) -> Bounds | None:
    """What bounds a representation: its polygon, or where that has no area all its regions together. None if it names no place."""
    if place["polygon"]:
        axes = list(zip(*place["polygon"], strict=True))
        found = (*map(min, axes), *map(max, axes))
        if found[3] > found[0] and found[4] > found[1]:
            return found
    if not place["regions"]:
        return None
    starts = [region["base"] for region in place["regions"]]
    ends = [[base + side for base, side in zip(region["base"], region["extents"], strict=True)] for region in place["regions"]]
    lowest, highest = (map(min, zip(*starts, strict=True)), map(max, zip(*ends, strict=True)))
    return (*lowest, *highest)


def found_in(report: Row, scan: ScanPlace, categories: Categories, *, is_only: bool) -> FoundInScan:
    """What `report`, a row of the catalog, says about `scan`. `is_only`: a representation that names no scan means this one.

    Ground truth looked for everything, and shows that what it does not box is not there, provided that it boxes in this scan every threat that it
    lists or announces, by a name that the taxonomy knows. Not claimed even then: kinds of what it boxes, and what that is a kind of. All other
    reports say only what they box.

    Raises:
        OutsideScan: a place is not in the scan.
    """
    boxes, is_whole = [], not report["is_aborted"]
    likenesses: set[str] = set()
    threats = [(threat, name) for threat in report["threats"] if (name := named(threat, categories)) is not None]
    for threat, name in threats:
        box = _box(threat, name, scan, is_only=is_only)
        is_whole = is_whole and box is not None and name.is_known
        likenesses |= set(name.also).union(*(categories.relatives(one) for one in (name.category, *name.also)))
        if box is not None:
            boxes.append(box)
    if any(is_uncertain(threat) for threat in report["threats"]) or (report["attributes"]["alarm_objects"] or 0) > len(threats):
        is_whole = False
    if not threats and report["decision"] != "clear":
        is_whole = False
    if report["tdr_type"] == "ground_truth" and is_whole:
        looked_for = set(categories.parents) - likenesses
    else:
        looked_for = {box["category"] for box in boxes} & categories.parents.keys()
    return FoundInScan(tuple(sorted(looked_for)), tuple(boxes))


def _box(threat: Row, name: Named, scan: ScanPlace, *, is_only: bool) -> dict[str, Any] | None:
    """One threat in one scan: what bounds all its representations there. None if it has none."""
    places = []
    for place in threat["representations"]:
        uids = {reference["sop_instance_uid"] for reference in place["references"]}
        if (bounds := bounds_of(place)) is not None and (scan.sop_instance_uid in uids if uids else is_only):
            places.append((place, bounds, _shift(bounds, scan)))
    if not places:
        return None
    moved = [_inside(bounds, shift, scan) for _, bounds, shift in places]
    left, top, front = (min(bounds[axis] for bounds in moved) for axis in range(3))
    right, bottom, back = (max(bounds[axis] for bounds in moved) for axis in range(3, 6))
    box: dict[str, Any] = {"category": name.category, "bbox_xywh": [left, top, right - left, bottom - top], "threat": threat["number"]}
    if name.score is not None:
        box["score"] = name.score
    if scan.depth_px is not None and not scan.is_reordered:
        box["z"] = [front, back]
    polygons = [[_moved(point, shift) for point in place["polygon"]] for place, _, shift in places if place["polygon"]]
    masks = [
        {"key": region["mask"], "base": _moved(region["base"], shift), "extents": region["extents"]}
        for place, _, shift in places
        for region in place["regions"]
        if region["mask"] is not None and not scan.is_reordered
    ]
    return box | ({"polygons": polygons} if polygons else {}) | ({"masks": masks} if masks else {})


def _shift(bounds: Bounds, scan: ScanPlace) -> tuple[int, int]:
    """Rows and frames that lie before the band which a place is in."""
    axis, size = (1, scan.height_px) if scan.depth_px is None else (2, scan.depth_px)
    band = min(int((bounds[axis] + bounds[axis + 3]) / 2 // size), scan.bands - 1)
    return (band * size, 0) if axis == 1 else (0, band * size)


def _moved(point: Sequence[float], shift: tuple[int, int]) -> list[float]:
    return [point[0], point[1] - shift[0], point[2] - shift[1]]


def _inside(bounds: Bounds, shift: tuple[int, int], scan: ScanPlace) -> Bounds:
    """The place in a plane's own coordinates, cut off at its edges. Raises OutsideScan if it is not there."""
    start, end = _moved(bounds[:3], shift), _moved(bounds[3:], shift)
    sizes = (scan.width_px, scan.height_px, scan.depth_px)
    for low, high, size in zip(start, end, sizes, strict=True):
        if size is not None and not (-TOLERANCE_PX <= low < size and 0 <= high <= size + TOLERANCE_PX):
            raise OutsideScan(f"a place from {low:g} to {high:g} is not within {size} pixels")
    start = [max(0.0, low) for low in start]
    end = [high if size is None else min(high, float(size)) for high, size in zip(end, sizes, strict=True)]
    if end[0] <= start[0] or end[1] <= start[1]:
        raise OutsideScan("a place is empty within the picture")
    return start[0], start[1], start[2], end[0], end[1], end[2]
