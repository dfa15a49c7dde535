"""What the confined reader may say, and how far it is believed.

Texts are bounded and cleaned again, and planes are read as plain numbers whose count follows from their announced size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from scanloop.scans.content import FORMAT_NAME, MAX_SPACING_MM, MAX_TEXT, PlaneScale, ScanContent, ScanMetadata, clean_text
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_DEPTH_PX, MAX_PLANES, MAX_SIDE_PX, check_plane_sizes

_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Distance = Annotated[float, Field(gt=0, lt=MAX_SPACING_MM)]


class _ScaleAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    slope: _Number
    intercept: _Number
    unit: str = Field(max_length=32)
    is_signed: bool
    is_inverted: bool


class _PlaneAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    bits: int = Field(ge=1, le=16)
    scale: _ScaleAnswer | None = None


class _MetadataAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    manufacturer: _Text
    model: _Text
    serial: _Text
    site: _Text
    issuer: _Text
    bag: _Text
    view: _Text
    scan_type: str = Field(pattern=r"^[a-z_ ]{1,16}$")
    acquired_at: AwareDatetime | None
    is_projected: bool
    modality: Literal["DX", "CT", "OT"]
    attributes: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")], _Text | int | float] = Field(max_length=32)


class ContentAnswer(BaseModel):
    """A scan, but for its pixels."""

    model_config = ConfigDict(extra="forbid")
    source_format: str = Field(pattern=f"^{FORMAT_NAME.pattern}$")
    depth_px: int | None = Field(default=None, ge=1, le=MAX_DEPTH_PX)
    spacing_mm: tuple[_Distance, _Distance, _Distance] | None = None
    height_px: int = Field(ge=1, le=MAX_SIDE_PX)
    width_px: int = Field(ge=1, le=MAX_SIDE_PX)
    planes: list[_PlaneAnswer] = Field(min_length=1, max_length=MAX_PLANES)
    metadata: _MetadataAnswer


class Answer(BaseModel):
    """One line of the reader: exactly one of content, refused and unavailable is meant."""

    model_config = ConfigDict(extra="forbid")
    content: ContentAnswer | None = None
    refused: str | None = None
    reason: str = Field(default="", max_length=2000)
    unavailable: str | None = Field(default=None, max_length=200)


def clean_sentence(text: str) -> str:
    """A message from the child as one printable line."""
    return clean_text(text, 512)


def content_of(answer: ContentAnswer, out: Path) -> ScanContent:
    """Read the planes as numbers: exactly as many as announced, from a plain file that is no link to another."""
    shape = (*(() if answer.depth_px is None else (answer.depth_px,)), answer.height_px, answer.width_px)
    count = check_plane_sizes(len(answer.planes), answer.height_px, answer.width_px, 16, answer.depth_px) // 2
    descriptor = os.open(out, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != 2 * count:
            raise ScanRefused("reader_died", f"Expected {2 * count} bytes of planes from the process that read it, found {facts.st_size}.")
        stack = np.fromfile(file, "<u2", count).astype(np.uint16, copy=False).reshape(len(answer.planes), *shape)
    about = answer.metadata
    texts = {name: clean_text(getattr(about, name)) for name in ("manufacturer", "model", "serial", "site", "issuer", "bag", "view")}
    return ScanContent(
        planes={plane.name: pixels for plane, pixels in zip(answer.planes, stack, strict=True)},
        bits={plane.name: plane.bits for plane in answer.planes},
        metadata=ScanMetadata(
            **texts,
            acquired_at=about.acquired_at,
            scan_type=about.scan_type,
            is_projected=about.is_projected,
            modality=about.modality,
            attributes={name: clean_text(value) if isinstance(value, str) else value for name, value in about.attributes.items()},
        ),
        source_format=answer.source_format,
        scales={
            plane.name: PlaneScale(**plane.scale.model_dump() | {"unit": clean_text(plane.scale.unit, 32)})
            for plane in answer.planes
            if plane.scale is not None
        },
        spacing_mm=answer.spacing_mm,
    )
