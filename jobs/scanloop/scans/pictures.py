"""Every picture that is made of a scan for people, each with the way back: one list for all who show scans."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanloop.scans.content import ScanContent
from scanloop.scans.planes import scale_to_16_bits
from scanloop.scans.projections import for_people, plan_projections, project
from scanloop.scans.transforms import IDENTITY, ViewTransform
from scanloop.scans.views import Palette, as_seen, grey, is_coloured


@dataclass(frozen=True)
class View:
    """One picture of a scan."""

    name: str
    """Unique within the scan: a plane's name, `colour`, or a projection such as `density_z_max`."""
    kind: str
    """grey, colour, max or mean."""
    transform: ViewTransform
    """From the picture back to the scan."""
    pixels: np.ndarray
    """(H, W) or (H, W, 3) uint8."""


def views_of(content: ScanContent, palette: Palette | str = "standard") -> Iterator[View]:
    """Make the pictures of a scan: grey of each plane, and colours of two energies or its own; of a volume the projections of each plane."""
    if content.is_volume:
        for name, volume in content.planes.items():
            shape = volume.shape
            planned = plan_projections((shape[0], shape[1], shape[2]), content.spacing_mm)
            for one, picture in project(volume, planned):
                yield View(f"{name}_{one.name}", one.kind, one.transform, for_people(picture))
        return
    planes = {name: scale_to_16_bits(pixels, content.bits[name]) for name, pixels in content.planes.items()}
    for name, pixels in planes.items():
        yield View(name, "grey", IDENTITY, grey(pixels))
    if _has_colours(planes.keys()):
        yield View(_colour_name(planes.keys()), "colour", IDENTITY, as_seen(planes, palette))


def listed_views(content: ScanContent) -> list[dict[str, Any]]:
    """What `views_of` makes, without making it: name, kind and transform, as plain values.

    A picture of a plane as it is has no transform here: ten million scans would say ten million times that nothing was done.
    """
    if not content.is_volume:
        planes = content.planes.keys()
        colours = [{"name": _colour_name(planes), "kind": "colour"}] if _has_colours(planes) else []
        return [*({"name": name, "kind": "grey"} for name in planes), *colours]
    depth, height, width = next(iter(content.planes.values())).shape
    planned = plan_projections((depth, height, width), content.spacing_mm)
    return [
        {"name": f"{name}_{one.name}", "kind": one.kind, "transform": one.transform.as_dict()} for name in content.planes for one in planned
    ]


def _has_colours(names: Collection[str]) -> bool:
    return {"high", "low"} <= set(names) or is_coloured(names)


def _colour_name(names: Collection[str]) -> str:
    """`colour`; with an ending that no plane's name can have where a plane is called so."""
    return "colour-picture" if "colour" in names else "colour"


def transform_of(views: list[Mapping[str, Any]], name: str) -> ViewTransform:
    """The transform of the view called `name` among those of a scan's row. Raises LookupError, DataWrong."""
    for view in views:
        if view["name"] == name:
            return ViewTransform.from_dict(view["transform"]) if "transform" in view else IDENTITY
    raise LookupError(f"The scan has no view {name!r}; it has {', '.join(str(view['name']) for view in views)}.")
