"""From a box as an index has it to one that an annotation may hold. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from scanloop.imports.records import IndexBox

Xywh = tuple[float, float, float, float]
MIN_SIDE_PX = 1.0
"""What is left of a box inside its picture must be at least so wide and high."""


@dataclass(frozen=True)
class Misplaced:
    """Why a box is not taken as it stands."""

    kind: str
    """A kind of `problems.KINDS`."""
    expected: str
    """What was expected."""
    found: str
    """What was found."""


def usable(box: IndexBox) -> Xywh | Misplaced:
    """The box if it is one at all, wherever it lies."""
    left, top, width, height = box.bbox_xywh
    if left is None or top is None or width is None or height is None:
        shown = ", ".join("none" if value is None else f"{value:g}" for value in box.bbox_xywh)
        return Misplaced("box_unreadable", "four finite numbers", shown)
    if box.is_crowd:
        return Misplaced("box_crowd", "a box around one object", "one marked as a crowd, or to be ignored")
    if width <= 0 or height <= 0:
        return Misplaced("box_without_area", "a width and height above 0", f"{width:g} x {height:g}")
    return (left, top, width, height)


def placed(box: Xywh, width_px: int, height_px: int) -> tuple[Xywh | None, Misplaced | None]:
    """The part of a box inside its picture, and what was not as it should be; (None, …) for a box of which nothing worth keeping is inside."""
    left, top, width, height = box
    x1, y1, x2, y2 = max(left, 0.0), max(top, 0.0), min(left + width, float(width_px)), min(top + height, float(height_px))
    expected = f"inside {width_px} x {height_px}"
    if x2 - x1 < MIN_SIDE_PX or y2 - y1 < MIN_SIDE_PX:
        is_tiny = x1 == left and y1 == top and x2 == left + width and y2 == top + height
        if is_tiny:
            return None, Misplaced("box_without_area", f"at least {MIN_SIDE_PX:g} px a side", f"{width:g} x {height:g}")
        return None, Misplaced("box_outside", expected, f"{left:g}, {top:g} to {left + width:g}, {top + height:g}")
    beyond = {"left": -left, "top": -top, "right": left + width - width_px, "bottom": top + height - height_px}
    over = ", ".join(f"{amount:.6g} px {side}" for side, amount in beyond.items() if amount > 0)
    if not over:
        return box, None
    return (x1, y1, x2 - x1, y2 - y1), Misplaced("box_clipped", expected, f"beyond it by {over}")
