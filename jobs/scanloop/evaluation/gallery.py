"""Bags as pictures: every view in pseudo-colour, what is there and what the detector says drawn on it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.evaluation.reference import DetectionSet, ReferenceSet
from scanloop.store import Store

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

VIEW_HEIGHT_PX = 240
MAX_VIEW_WIDTH_PX = 280
MAX_VIEWS = 3
MAX_DETECTIONS_DRAWN = 4
PRESENT, ALARMING, QUIET = (0, 120, 60), (200, 30, 30), (110, 110, 110)
"""RGB of a threat that is there, of a detection above its threshold, and of one below it."""


@dataclass(frozen=True)
class Mark:
    """One box to draw."""

    bbox_xywh: tuple[float, float, float, float]
    """Left, top, width, height in px of the scan."""
    text: str
    """What to write beside it."""
    colour: tuple[int, int, int]
    """RGB."""
    is_dashed: bool = False
    """Detections below their threshold are dashed."""
    is_below: bool = False
    """Text under the box, so that it does not cover that of a detection."""


@cache
def _font() -> FreeTypeFont:
    from pathlib import Path

    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 11)


def _draw_mark(draw: ImageDraw, mark: Mark, scale: float, width: int, height: int) -> None:
    x, y, w, h = (value * scale for value in mark.bbox_xywh)
    left, top, right, bottom = max(0.0, x), max(0.0, y), min(width - 1.0, x + w), min(height - 1.0, y + h)
    if mark.is_dashed:
        for start in np.arange(left, right, 8):
            for level in (top, bottom):
                draw.line([(start, level), (min(start + 4, right), level)], fill=mark.colour, width=1)
        for start in np.arange(top, bottom, 8):
            for level in (left, right):
                draw.line([(level, start), (level, min(start + 4, bottom))], fill=mark.colour, width=1)
    else:
        draw.rectangle([left, top, max(left, right), max(top, bottom)], outline=mark.colour, width=2)
    text_width = draw.textlength(mark.text, font=_font())
    text_left = min(max(0.0, left), max(0.0, width - text_width - 4))
    above, below = max(0.0, top - 15), min(bottom + 1, height - 15.0)
    text_top = below if mark.is_below or top < 15 else above
    draw.rectangle([text_left, text_top, text_left + text_width + 4, text_top + 14], fill=mark.colour)
    draw.text((text_left + 2, text_top), mark.text, fill=(255, 255, 255), font=_font())


def view_picture(planes: Mapping[str, np.ndarray], marks: Sequence[Mark]) -> Image:
    """One view in colours (grey where it has a single energy), at most 240 px high and 280 px wide, with `marks` drawn in order."""
    from PIL import Image, ImageDraw

    from scanloop.scans.views import as_seen

    picture = Image.fromarray(as_seen(planes)).convert("RGB")
    scale = min(VIEW_HEIGHT_PX / picture.height, MAX_VIEW_WIDTH_PX / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for mark in marks:
        _draw_mark(draw, mark, scale, *size)
    return picture


def marks_of(reference: ReferenceSet, detections: DetectionSet, scan: int, thresholds: Mapping[str, float]) -> list[Mark]:
    """What is there, and the best few detections: alarming ones, and quiet ones that come to half their threshold or more."""
    marks = [Mark(box.bbox_xywh, box.category, PRESENT, is_below=True) for box in reference.scans[scan].boxes]
    drawn = 0
    for row in np.flatnonzero(detections.scan == scan):
        name, score = reference.categories[detections.category[row]], float(detections.scores[row])
        if score < 0.5 * thresholds[name] or drawn == MAX_DETECTIONS_DRAWN:
            continue
        drawn += 1
        alarms = score >= thresholds[name]
        x, y, width, height = detections.boxes_xywh[row].tolist()
        marks.append(Mark((x, y, width, height), f"{name} {score:.2f}", ALARMING if alarms else QUIET, is_dashed=not alarms))
    return marks


def bag_picture(store: Store, reference: ReferenceSet, detections: DetectionSet, bag_id: str, thresholds: Mapping[str, float]) -> bytes:
    """The views of one bag side by side, as JPEG."""
    from PIL import Image

    from scanloop.scans.planes import read_planes

    views = []
    for position, scan in enumerate(reference.scans):
        if scan.bag_id == bag_id:
            planes = read_planes(store.get(scan.planes_key))
            views.append((scan.view_name, view_picture(planes, marks_of(reference, detections, position, thresholds))))
    shown = [picture for _, picture in sorted(views, key=lambda view: view[0])[:MAX_VIEWS]]
    gap = 6
    sheet = Image.new("RGB", (sum(picture.width + gap for picture in shown) - gap, max(picture.height for picture in shown)), "white")
    left = 0
    for picture in shown:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    target = io.BytesIO()
    sheet.save(target, "JPEG", quality=90, subsampling=0)
    return target.getvalue()


def captioned(entry: Mapping[str, Any]) -> str:
    """What to write under the picture of a worst bag."""
    if not entry["score"]:
        return f"{entry['category']}: nothing detected (threshold {entry['threshold']:.2f})"
    return f"{entry['category']}: best score {entry['score']:.2f}, threshold {entry['threshold']:.2f}"
