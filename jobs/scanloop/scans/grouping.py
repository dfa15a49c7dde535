"""The views of one bag, put together from its scans: energies of a view may have come as separate files.

Pure: takes catalog rows, gives views, and says what does not fit together instead of choosing in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PlaceOfPlane:
    """Which scan holds a plane."""

    name: str
    """Name of the plane."""
    scan_id: str
    """The scan that holds it."""
    planes_key: str
    """Where its planes are kept."""


@dataclass(frozen=True)
class BagView:
    """One view, or one section of a CT scan, of a bag."""

    view_name: str
    """What its scans call it."""
    modality: str
    """DX, CT or OT."""
    shape: tuple[int, ...]
    """(H, W) of its planes, or (D, H, W)."""
    planes: tuple[PlaceOfPlane, ...]
    """Its planes, each once."""
    scan_ids: tuple[str, ...]
    """Every scan of it, earliest first."""
    contradictions: tuple[str, ...]
    """What does not fit together; empty if all does."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def views_of_bag(scans: Iterable[Mapping[str, Any]]) -> list[BagView]:
    """Group the scans of one bag, rows of the catalog, into its views, by name.

    A plane comes from the earliest scan that holds it and has the shape of the view, which is that of its earliest scan.
    """
    members: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for scan in sorted(scans, key=lambda row: (str(row["acquired_at"] or "9"), row["scan_id"])):
        members.setdefault((scan["view_name"], scan["modality"]), []).append(scan)
    return [_view(name, modality, rows) for (name, modality), rows in sorted(members.items())]


def _view(name: str, modality: str, scans: Sequence[Mapping[str, Any]]) -> BagView:
    shape = _shape(scans[0]["planes"][0]) if scans[0]["planes"] else ()
    planes: dict[str, PlaceOfPlane] = {}
    contradictions: list[str] = []
    for scan in scans:
        short = scan["scan_id"][:12]
        for plane in scan["planes"]:
            if _shape(plane) != shape:
                found, expected = (" x ".join(map(str, sides)) for sides in (_shape(plane), shape))
                contradictions.append(f"{plane['name']} of {short} is {found}, the view is {expected}")
            elif plane["name"] in planes:
                contradictions.append(f"{plane['name']} is in {planes[plane['name']].scan_id[:12]} and again in {short}")
            else:
                planes[plane["name"]] = PlaceOfPlane(plane["name"], scan["scan_id"], scan["planes_key"])
    if len(machines := {scan["scanner_id"] for scan in scans}) > 1:
        contradictions.append(f"its scans are of several scanners: {', '.join(sorted(machines))}")
    return BagView(name, modality, shape, tuple(planes.values()), tuple(scan["scan_id"] for scan in scans), tuple(contradictions))


def _shape(plane: Mapping[str, Any]) -> tuple[int, ...]:
    depth = (plane["depth_px"],) if plane.get("depth_px") else ()
    return (*depth, plane["height_px"], plane["width_px"])
