"""A contact sheet of simulated bags in their vendors' colours, with the true boxes: to look at what the simulator makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanloop.scans.planes import scale_to_16_bits
from scanloop.scans.views import pseudo_colour
from scanloop.simulator.delivery import Delivered, DeliveryOrder, make
from scanloop.simulator.detector import TrueBox

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_BOX_COLOUR = (220, 20, 40)
_TEXT_COLOUR = (70, 70, 70)
_GAP_PX = 6


def contact_sheet(order: DeliveryOrder, *, with_boxes: bool = True) -> np.ndarray:
    """Every bag of the order, top view beside side view, two bags a row: (H, W, 3) uint8 RGB."""
    tiles = [_bag_tile([*make(order, number)], with_boxes=with_boxes) for number in range(order.bags)]
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    padded = [_padded(tile, height, width) for tile in tiles]
    if len(padded) % 2 and len(padded) > 1:
        padded.append(np.full_like(padded[0], 255))
    rows = [np.hstack(padded[at : at + 2]) for at in range(0, len(padded), 2)]
    return np.vstack(rows)


def _bag_tile(views: list[Delivered], *, with_boxes: bool) -> np.ndarray:
    pictures = [_view_picture(view, with_boxes=with_boxes) for view in views]
    height = max(picture.shape[0] for picture in pictures)
    return np.hstack([_padded(picture, height, picture.shape[1] + _GAP_PX) for picture in pictures])


def _view_picture(item: Delivered, *, with_boxes: bool) -> np.ndarray:
    from PIL import Image, ImageDraw

    high, low = (scale_to_16_bits(item.scan.planes[name], item.scan.bits) for name in ("high", "low"))
    picture = Image.fromarray(pseudo_colour(high, low, item.acquisition.machine.scanner.palette))
    draw = ImageDraw.Draw(picture)
    draw.text((4, 2), f"{item.acquisition.machine.scanner.model}, {item.scan.view_name}", fill=_TEXT_COLOUR)
    for box in item.scan.boxes if with_boxes else ():
        _draw_box(draw, box)
    return np.asarray(picture)


def _draw_box(draw: ImageDraw, box: TrueBox) -> None:
    x, y, width, height = box.bbox_xywh
    draw.rectangle((x - 1, y - 1, x + width, y + height), outline=_BOX_COLOUR)
    draw.text((x, y - 12 if y > 12 else y + height), f"{box.category}, {box.occlusion:.0%} covered", fill=_BOX_COLOUR)


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture on a white field of that size, at the top left."""
    field = np.full((height, width, 3), 255, np.uint8)
    field[: picture.shape[0], : picture.shape[1]] = picture
    return field
