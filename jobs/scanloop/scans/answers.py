"""What the confined reader may say, and how far it is believed.

Texts are bounded and cleaned again, and planes are read as plain numbers whose count follows from their announced size.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from scanloop.scans.content import FORMAT_NAME, MAX_SPACING_MM, MAX_TEXT, PlaneScale, ScanContent, ScanMetadata, clean_text
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import (
    MAX_COORDINATE,
    MAX_DEPTH_PX,
    MAX_PLACES,
    MAX_PLANES,
    MAX_POLYGON_POINTS,
    MAX_REFERENCES,
    MAX_SIDE_PX,
    MAX_THREATS,
    check_plane_sizes,
)
from scanloop.scans.threat_report import (
    CODE,
    OF_PEOPLE,
    UID,
    Assessment,
    Reference,
    Region,
    ReportContent,
    Representation,
    Threat,
    mask_bytes,
)

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


_Coordinate = Annotated[float, Field(ge=0, le=MAX_COORDINATE, allow_inf_nan=False)]
_Point = tuple[_Coordinate, _Coordinate, _Coordinate]
_Uid = Annotated[str, Field(pattern=f"^({UID.pattern})?$")]


class _ReferenceAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sop_class_uid: _Uid
    sop_instance_uid: str = Field(pattern=f"^{UID.pattern}$")


class _RegionAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    base: _Point
    extents: _Point
    mask: int | None = Field(ge=0, lt=MAX_PLACES)


class _RepresentationAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    references: list[_ReferenceAnswer] = Field(max_length=MAX_REFERENCES)
    polygon: list[_Point] = Field(max_length=MAX_POLYGON_POINTS)
    regions: list[_RegionAnswer] = Field(max_length=MAX_PLACES)


class _AssessmentAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    category: str = Field(pattern=f"^({CODE.pattern})?$")
    description: _Text
    flag: Literal["high_threat", "threat", "no_threat", "unknown", ""]
    probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None


class _ThreatAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int = Field(ge=0, le=0xFFFFFFFF)
    assessments: list[_AssessmentAnswer] = Field(max_length=MAX_THREATS)
    representations: list[_RepresentationAnswer] = Field(max_length=MAX_PLACES)


class ReportAnswer(BaseModel):
    """A report, but for its masks, which are numbered from 0 in the order that they lie in the file."""

    model_config = ConfigDict(extra="forbid")
    tdr_type: Literal["machine", "operator", "ground_truth", "aggregate", "other"]
    decision: Literal["alarm", "clear", "unknown"]
    is_aborted: bool
    decided_at: AwareDatetime | None
    algorithm: list[Annotated[str, Field(max_length=64)]] = Field(max_length=16)
    report_uid: _Uid
    study_uid: _Uid
    references: list[_ReferenceAnswer] = Field(max_length=MAX_REFERENCES)
    site: _Text
    issuer: _Text
    bag: _Text
    total_objects: int | None = Field(ge=0, le=65535)
    alarm_objects: int | None = Field(ge=0, le=65535)
    threats: list[_ThreatAnswer] = Field(max_length=MAX_THREATS)


class Answer(BaseModel):
    """One line of the reader: exactly one of content, report, refused and unavailable is meant."""

    model_config = ConfigDict(extra="forbid")
    content: ContentAnswer | None = None
    report: ReportAnswer | None = None
    refused: str | None = None
    reason: str = Field(default="", max_length=2000)
    unavailable: str | None = Field(default=None, max_length=200)


def clean_sentence(text: str) -> str:
    """A message from the child as one printable line."""
    return clean_text(text, 512)


def _open_plain(out: Path) -> BinaryIO:
    """Open what the reader wrote, if it is a plain file and no link to another. Raises OSError."""
    descriptor = os.open(out, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "what the reader wrote is no plain file")
    return os.fdopen(descriptor, "rb")


def report_of(answer: ReportAnswer, out: Path) -> ReportContent:
    """Read the masks as bits, exactly as many as the regions need; unused ones must be 0. Raises ScanRefused, OSError."""
    regions = [region for threat in answer.threats for place in threat.representations for region in place.regions]
    masked = [region for region in regions if region.mask is not None]
    if [region.mask for region in masked] != list(range(len(masked))):
        raise ScanRefused("reader_died", "The process that read it numbers the masks as no report does.")
    needed = sum(mask_bytes(region.extents) for region in masked)
    with _open_plain(out) as file:
        if (found := os.fstat(file.fileno()).st_size) != needed:
            raise ScanRefused("reader_died", f"Expected {needed} bytes of masks from the process that read it, found {found}.")
        masks = [file.read(mask_bytes(region.extents)) for region in masked]
    return ReportContent(
        tdr_type=answer.tdr_type,
        decision=answer.decision,
        is_aborted=answer.is_aborted,
        decided_at=answer.decided_at,
        report_uid=answer.report_uid,
        study_uid=answer.study_uid,
        site=clean_text(answer.site),
        issuer=clean_text(answer.issuer),
        bag=clean_text(answer.bag),
        total_objects=answer.total_objects,
        alarm_objects=answer.alarm_objects,
        algorithm=() if answer.tdr_type in OF_PEOPLE else tuple(clean_text(part, 64) for part in answer.algorithm),
        references=_references(answer.references),
        threats=tuple(
            Threat(
                threat.number,
                tuple(Assessment(one.category, clean_text(one.description), one.flag, one.probability) for one in threat.assessments),
                tuple(
                    Representation(
                        _references(place.references),
                        tuple(place.polygon),
                        tuple(
                            Region(region.base, region.extents, None if region.mask is None else masks[region.mask])
                            for region in place.regions
                        ),
                    )
                    for place in threat.representations
                ),
            )
            for threat in answer.threats
        ),
    )


def _references(answers: list[_ReferenceAnswer]) -> tuple[Reference, ...]:
    return tuple(Reference(one.sop_class_uid, one.sop_instance_uid) for one in answers)


def content_of(answer: ContentAnswer, out: Path) -> ScanContent:
    """Read the planes as numbers: exactly as many as announced, from a plain file that is no link to another."""
    shape = (*(() if answer.depth_px is None else (answer.depth_px,)), answer.height_px, answer.width_px)
    count = check_plane_sizes(len(answer.planes), answer.height_px, answer.width_px, 16, answer.depth_px) // 2
    with _open_plain(out) as file:
        if (found := os.fstat(file.fileno()).st_size) != 2 * count:
            raise ScanRefused("reader_died", f"Expected {2 * count} bytes of planes from the process that read it, found {found}.")
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
