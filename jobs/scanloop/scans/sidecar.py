"""The JSON file that comes with an exported picture and says what it is."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError, model_validator

from scanloop.scans.content import ScanMetadata, clean_text
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_PLANES, MAX_SIDECAR_BYTES
from scanloop.scans.people import without_person

SUFFIX = ".json"
"""A sidecar is named like its picture, with this behind."""


class Sidecar(BaseModel):
    """What an exporter writes beside a PNG, TIFF or JPEG. Other fields may be there; they are not read."""

    # Serial numbers and bags are numbers to some exporters.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=False, coerce_numbers_to_str=True)

    manufacturer: str = Field(default="", max_length=256)
    model: str = Field(default="", max_length=256)
    serial: str = Field(default="", max_length=256)
    site: str = Field(default="", max_length=256)
    bag_id: str = Field(default="", max_length=256)
    issuer: str = Field(default="", max_length=256)
    view: str = Field(default="", max_length=256)
    acquired_at: AwareDatetime | NaiveDatetime | None = None
    planes: tuple[str, ...] = Field(min_length=1, max_length=MAX_PLANES)
    scan_type: str = Field(default="operational", max_length=64)
    software: str = Field(default="", max_length=256)
    is_projected: bool = False
    dataset: Any = None
    split: Any = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, content: Any) -> Any:
        """Null is how some exporters say that they do not say."""
        return {name: value for name, value in content.items() if value is not None} if isinstance(content, dict) else content

    def metadata(self) -> ScanMetadata:
        """The same facts in the form that every format shares."""
        moment = self.acquired_at
        scan_type = clean_text(self.scan_type).lower()
        software = clean_text(self.software)
        attributes = {"software": software} if re.fullmatch(r"[\w .-]{0,31}\d[\w .-]{0,31}", software) else {}
        # A picture of a research set says so: what is expected of a scanner's own export is not expected of it.
        attributes |= {name: said for name, said in (("dataset", self.dataset), ("split", self.split)) if is_set_name(said)}
        return ScanMetadata(
            manufacturer=_identifying(self.manufacturer),
            model=_identifying(self.model),
            serial=_identifying(self.serial),
            site=_identifying(self.site),
            issuer=_identifying(self.issuer),
            bag=_identifying(self.bag_id),
            view=_identifying(self.view),
            acquired_at=None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC),
            scan_type=scan_type if re.fullmatch(r"[a-z_ ]{1,16}", scan_type) else "operational",
            is_projected=self.is_projected,
            attributes=attributes,
        )


def _identifying(text: str) -> str:
    return without_person(clean_text(text))


def is_set_name(value: object) -> bool:
    """Whether a value is what a research set or one of its splits may be called."""
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,47}", value) is not None


def read_sidecar(content: bytes) -> Sidecar:
    """Read a sidecar.

    Raises:
        ScanRefused: it is too large, no JSON object, or a field is not what is expected; the message names the field and not its value.
    """
    if len(content) > MAX_SIDECAR_BYTES:
        raise ScanRefused("sidecar_invalid", f"Expected a sidecar of at most {MAX_SIDECAR_BYTES} bytes, found {len(content)}.")
    try:
        return Sidecar.model_validate_json(content.removeprefix(BOM_UTF8))
    except (ValidationError, OverflowError) as error:
        first = (
            error.errors(include_input=False, include_context=False)[0]
            if isinstance(error, ValidationError)
            else {"loc": (), "type": "overflow"}
        )
        field = str(first["loc"][0]) if first["loc"] else "the whole"
        place = field if field in Sidecar.model_fields else "the whole"
        raise ScanRefused("sidecar_invalid", f"The sidecar is not as expected: {place} ({first['type']}).") from None


def name_planes(pages: list[np.ndarray], names: tuple[str, ...]) -> Mapping[str, np.ndarray]:
    """Give pictures (H, W) their names: one page a plane, or all planes stacked from top to bottom in one page.

    Raises:
        ScanRefused: they do not match.
    """
    if len(set(names)) != len(names):
        raise ScanRefused("sidecar_invalid", "The sidecar names a plane twice.")
    if len(pages) == 1 and len(names) > 1:
        if len(pages[0]) % len(names):
            raise ScanRefused("malformed", f"A picture of {len(pages[0])} rows cannot hold {len(names)} planes of equal height.")
        pages = np.split(pages[0], len(names))
    if len(pages) != len(names):
        raise ScanRefused("malformed", f"The sidecar names {len(names)} planes, the file holds {len(pages)}.")
    return dict(zip(names, pages, strict=True))
