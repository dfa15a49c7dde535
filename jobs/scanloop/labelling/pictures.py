"""The picture of a scan that a labeller sees."""

from __future__ import annotations

from scanloop.scans.planes import read_planes
from scanloop.scans.views import as_seen, encode_png
from scanloop.steps import step
from scanloop.store import Store, StoredObject

PICTURES_PREFIX = "scans/views"


def put_picture(store: Store, planes_key: str) -> StoredObject:
    """Draw a scan as officers know it (colours of two energies or its own, grey where it has one plane) and keep it under its own hash."""
    pixels = as_seen(read_planes(store.get(planes_key)))
    stored = store.put_content(PICTURES_PREFIX, encode_png(pixels), ".png")
    step("labelling.after_picture")
    return stored
