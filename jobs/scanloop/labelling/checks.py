"""What an annotation from outside must be before it is believed to be one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scanloop.labelling.boxes import Box

MAX_BOXES = 500
"""No bag holds more threats; more is a broken client."""
TOLERANCE_PX = 1.0
"""How far a box may stick out of the picture, for tools that round."""
_AUTHOR = re.compile(r"^[\w.@+-][\w .@+-]{0,99}$")


def problems_of(boxes: Sequence[Mapping[str, Any]], author: str, looked_for: Iterable[str], height_px: int, width_px: int) -> list[str]:
    """What is wrong with an annotation, one sentence each; empty if nothing is."""
    problems = []
    if not _AUTHOR.match(author):
        problems.append(f"the author's name {author[:40]!r} is not a name")
    if len(boxes) > MAX_BOXES:
        return [*problems, f"it has {len(boxes)} boxes; at most {MAX_BOXES} are believed"]
    known = set(looked_for)
    for number, box in enumerate(boxes, start=1):
        wrong = _wrong_with(box, known, height_px, width_px)
        if wrong:
            problems.append(f"box {number} {wrong}")
    return problems


def _wrong_with(box: Mapping[str, Any], known: set[str], height_px: int, width_px: int) -> str | None:
    category, numbers = box.get("category"), box.get("bbox_xywh")
    if category not in known:
        return f"has the category {str(category)[:40]!r}, which nobody was asked to look for"
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 4 or not all(_is_finite(value) for value in numbers):
        return "is not four finite numbers"
    x, y, width, height = (float(value) for value in numbers)
    if width <= 0 or height <= 0:
        return f"is empty ({width:g} × {height:g} px)"
    if min(x, y) < -TOLERANCE_PX or x + width > width_px + TOLERANCE_PX or y + height > height_px + TOLERANCE_PX:
        return f"is outside the picture of {width_px} × {height_px} px"
    if x >= width_px or y >= height_px or x + width <= 0 or y + height <= 0:
        return "is outside the picture"
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)


def clipped(boxes: Iterable[Mapping[str, Any]], height_px: int, width_px: int) -> tuple[Box, ...]:
    """Boxes that passed `problems_of`, cut at the picture's edge."""
    found = []
    for box in boxes:
        x, y, width, height = (float(value) for value in box["bbox_xywh"])
        left, top = max(x, 0.0), max(y, 0.0)
        found.append(Box(str(box["category"]), (left, top, min(x + width, width_px) - left, min(y + height, height_px) - top)))
    return tuple(found)
