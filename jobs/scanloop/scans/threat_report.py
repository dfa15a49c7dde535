"""What a report about threats says once it has been read: who found what, in which scans, where.

Coordinates are those of the picture or volume that a representation refers to, in pixels or voxels of the file: x along columns, y along rows, z
along frames, each from 0 at the outer edge of the first one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from scanloop.scans.content import STUDY_ISSUER, ScanContent, bag_id, site_id
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import (
    MAX_COORDINATE,
    MAX_MASK_VOXELS,
    MAX_PLACES,
    MAX_POLYGON_POINTS,
    MAX_REFERENCES,
    MAX_THREATS,
)

Point = tuple[float, float, float]
"""x, y, z."""
TDR_TYPES = ("machine", "operator", "ground_truth", "aggregate", "other")
"""Whose word a report is. An aggregate holds that of machines and operators; other is none that the standard names."""
OF_PEOPLE = frozenset({"operator", "aggregate", "other"})
"""Types whose free text may be a person's."""
DECISIONS = ("alarm", "clear", "unknown")
"""Alarm decision of a report."""
FLAGS = ("high_threat", "threat", "no_threat", "unknown", "")
"""Assessment of a potential threat; empty: not said."""
THREAT_FLAGS = frozenset({"high_threat", "threat", ""})
"""Flags of what counts as a threat: an assessment without a flag says so by being there."""
UID = re.compile(r"[0-9.]{1,64}")
CODE = re.compile(r"[A-Z0-9][A-Z0-9 _]{0,31}")
"""A threat category code, such as PI or EXPLOSIVE."""


@dataclass(frozen=True)
class Reference:
    """A scan that is referred to."""

    sop_class_uid: str
    """Kind of object; empty: not said."""
    sop_instance_uid: str
    """The file."""


@dataclass(frozen=True)
class Region:
    """A box of whole voxels, and which of them are the threat."""

    base: Point
    """Its first corner."""
    extents: Point
    """Its size; z is at least 1."""
    mask: bytes | None = None
    """One bit a voxel, least significant first, x fastest, then y, then z, unused bits 0; None: all of it, or not said."""

    def __post_init__(self) -> None:
        check_place(self.base, "base of a region")
        check_place(self.extents, "extents of a region")
        if min(self.extents) <= 0:
            raise ScanRefused("malformed", "Expected a region with extents above 0.")
        if self.mask is not None:
            if len(self.mask) != mask_bytes(self.extents):
                raise ScanRefused("malformed", f"Expected a mask of {mask_bytes(self.extents)} bytes, found {len(self.mask)}.")
            if self.mask[-1] >> 8 - (-self.voxels % 8):
                raise ScanRefused("malformed", "Bits of a mask are set beyond its last voxel.")

    @property
    def voxels(self) -> int:
        """Its number of voxels."""
        return voxel_count(self.extents)

    def volume(self) -> np.ndarray:
        """The mask as (D, H, W) bool. Raises ValueError if there is none."""
        if self.mask is None:
            raise ValueError("the region has no mask")
        return unpack_mask(self.mask, self.extents)


def voxel_count(extents: Point) -> int:
    """Voxels of a region with a mask. Raises ScanRefused: the extents are not whole, or beyond MAX_MASK_VOXELS."""
    if any(side != int(side) for side in extents):
        raise ScanRefused("malformed", "Expected a mask's region to have whole extents.")
    count = math.prod(int(side) for side in extents)
    if count > MAX_MASK_VOXELS:
        raise ScanRefused("too_large", f"Expected at most {MAX_MASK_VOXELS} voxels in a mask, found {count}.")
    return count


def mask_bytes(extents: Point) -> int:
    """Bytes of a region's mask. Raises as `voxel_count`."""
    return -(-voxel_count(extents) // 8)


def unpack_mask(packed: bytes, extents: Sequence[float]) -> np.ndarray:
    """A packed mask as (D, H, W) bool."""
    width, height, depth = (int(side) for side in extents)
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=width * height * depth, bitorder="little")
    return bits.view(bool).reshape(depth, height, width)


def pack_mask(volume: np.ndarray) -> bytes:
    """A mask (D, H, W), true where the threat is, in the form of `Region.mask`."""
    return np.packbits(np.ascontiguousarray(volume, bool), axis=None, bitorder="little").tobytes()


def check_place(point: Sequence[float], noun: str) -> None:
    """Refuse three numbers that are no place: not finite, negative, or beyond any picture. Raises ScanRefused."""
    if not all(math.isfinite(number) and 0 <= number <= MAX_COORDINATE for number in point):
        raise ScanRefused("malformed", f"Expected the {noun} to be of numbers from 0 to {MAX_COORDINATE}.")


@dataclass(frozen=True)
class Representation:
    """Where a threat is in one scan."""

    references: tuple[Reference, ...]
    """The scan; several only if they share their geometry."""
    polygon: tuple[Point, ...]
    """Corners of what bounds it, two or more; empty: not said."""
    regions: tuple[Region, ...]
    """Regions of interest."""

    def __post_init__(self) -> None:
        for point in self.polygon:
            check_place(point, "corner of a polygon")
        if len(self.polygon) == 1:
            raise ScanRefused("malformed", "Expected a polygon of two corners or more.")


@dataclass(frozen=True)
class Assessment:
    """What a threat is taken for."""

    category: str
    """Category code of the standard; empty: not said."""
    description: str
    """What its author calls it."""
    flag: str
    """One of FLAGS."""
    probability: float | None
    """From 0 to 1; None: not said."""

    def __post_init__(self) -> None:
        if self.probability is not None and not (math.isfinite(self.probability) and 0 <= self.probability <= 1):
            raise ScanRefused("malformed", "Expected a probability from 0 to 1.")
        if self.flag not in FLAGS:
            raise ScanRefused("malformed", "The flag of an assessment is none.")


@dataclass(frozen=True)
class Threat:
    """A potential threat object."""

    number: int
    """Its id within the report."""
    assessments: tuple[Assessment, ...]
    """What it is taken for."""
    representations: tuple[Representation, ...]
    """Where it is."""


@dataclass(frozen=True)
class ReportContent:
    """A DICOS Threat Detection Report, without anything about the person who wrote it."""

    tdr_type: str
    """One of TDR_TYPES."""
    decision: str
    """One of DECISIONS."""
    is_aborted: bool
    """Whether its author gave up before the end."""
    decided_at: datetime | None
    """When, UTC."""
    algorithm: tuple[str, ...]
    """Of a machine: maker, version, parameters. Empty for people."""
    report_uid: str
    """Its own SOP instance UID; empty: none."""
    study_uid: str
    """StudyInstanceUID; empty: none."""
    references: tuple[Reference, ...]
    """Scans that it speaks about as a whole."""
    site: str
    """Name of the site; empty: not said."""
    issuer: str
    """Who numbers the bags; empty: not said."""
    bag: str
    """The inspected object's number; empty: not said."""
    total_objects: int | None
    """Potential threat objects that it announces."""
    alarm_objects: int | None
    """Threats that it announces."""
    threats: tuple[Threat, ...]
    """What it lists."""

    def __post_init__(self) -> None:
        if self.tdr_type not in TDR_TYPES or self.decision not in DECISIONS:
            raise ScanRefused("malformed", "The type or the decision of the report is none.")
        if self.algorithm and self.tdr_type in OF_PEOPLE:
            raise ScanRefused("malformed", "A report of a person names no algorithm.")
        places = [place for threat in self.threats for place in threat.representations]
        regions = [region for place in places for region in place.regions]
        counts = (
            ("threats", len(self.threats), MAX_THREATS),
            ("assessments", sum(len(threat.assessments) for threat in self.threats), 2 * MAX_THREATS),
            ("representations", len(places), MAX_PLACES),
            ("regions", len(regions), MAX_PLACES),
            ("corners of polygons", sum(len(place.polygon) for place in places), MAX_POLYGON_POINTS),
            ("references", len(self.references) + sum(len(place.references) for place in places), MAX_REFERENCES + MAX_PLACES),
            ("voxels in masks", sum(region.voxels for region in regions if region.mask is not None), MAX_MASK_VOXELS),
        )
        for noun, found, most in counts:
            if found > most:
                raise ScanRefused("too_large", f"Expected at most {most} {noun} in a report, found {found}.")

    def regions(self) -> Iterator[Region]:
        """Every region with a mask, in order."""
        for threat in self.threats:
            for place in threat.representations:
                yield from (region for region in place.regions if region.mask is not None)

    def site_id(self, delivered: str) -> str:
        """Id of the site: the one that it names, else the one that delivered it."""
        return site_id(self.site) if self.site else delivered

    def bag_id(self, site: str) -> str:
        """Id of the bag at the site with this id, as its scans have it; empty if it names neither bag nor study."""
        if self.bag:
            return bag_id(site, self.issuer, self.bag)
        return bag_id(site, STUDY_ISSUER, self.study_uid) if self.study_uid else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values; of a mask its number among the report's masks, from 0."""
        numbers = iter(range(MAX_PLACES))
        return {
            **{
                name: getattr(self, name)
                for name in (
                    *("tdr_type", "decision", "is_aborted", "report_uid", "study_uid", "site", "issuer", "bag"),
                    *("total_objects", "alarm_objects"),
                )
            },
            "decided_at": self.decided_at.isoformat() if self.decided_at else None,
            "algorithm": list(self.algorithm),
            "references": [dict(vars(reference)) for reference in self.references],
            "threats": [
                {
                    "number": threat.number,
                    "assessments": [dict(vars(assessment)) for assessment in threat.assessments],
                    "representations": [
                        {
                            "references": [dict(vars(reference)) for reference in place.references],
                            "polygon": [list(point) for point in place.polygon],
                            "regions": [
                                {
                                    "base": list(region.base),
                                    "extents": list(region.extents),
                                    "mask": None if region.mask is None else next(numbers),
                                }
                                for region in place.regions
                            ],
                        }
                        for place in threat.representations
                    ],
                }
                for threat in self.threats
            ],
        }


Content = ScanContent | ReportContent
"""What received bytes can be read as."""
