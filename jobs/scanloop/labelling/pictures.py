"""The picture of a scan that a labeller sees."""

from __future__ import annotations

from scanloop.scans.planes import read_planes
from scanloop.scans.views import encode_png, grey, pseudo_colour
from scanloop.steps import step
from scanloop.store import Store, StoredObject

PICTURES_PREFIX = "scans/views"


def put_picture(store: Store, planes_key: str) -> StoredObject:
    """Draw a scan as officers know it (pseudo-colour of `high` and `low`, grey where it has one plane) and keep it under its own hash."""
    planes = read_planes(store.get(planes_key))
    is_dual = {"high", "low"} <= planes.keys()
    pixels = pseudo_colour(planes["high"], planes["low"]) if is_dual else grey(next(iter(planes.values())))
    stored = store.put_content(PICTURES_PREFIX, encode_png(pixels), ".png")
    step("labelling.after_picture")
    return stored
