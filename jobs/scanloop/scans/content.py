"""What a scan is once it has been read, and the names that its metadata give to sites, scanners and bags."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import check_plane_sizes

UNKNOWN = "unknown"
"""Stands in an id for a part that the metadata lack; validation finds it through `ScanContent.missing`."""
MAX_TEXT = 128
"""Characters kept of any text from outside."""
_PLANE_NAME = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
_UNSAFE = re.compile(r"[^a-z0-9]+")


def clean_text(text: object, limit: int = MAX_TEXT) -> str:
    """Text from outside as one printable line of at most `limit` characters, Unicode NFC; control and format characters become spaces."""
    printable = (" " if unicodedata.category(character)[0] in "CZ" else character for character in unicodedata.normalize("NFC", str(text)))
    return " ".join("".join(printable).split())[:limit].strip()


def slug(text: str) -> str:
    """`text` as lower-case ASCII letters, digits and single hyphens, so that it is safe in keys, URLs and shells.

    What is lost beyond case, accents on nothing and punctuation (other scripts, look-alikes, length) is kept apart by eight hex digits of
    the text's SHA-256: two names that differ in letters never share a slug.
    """
    if not text:
        return UNKNOWN
    ascii_part = _UNSAFE.sub("-", text.lower()).strip("-")
    if text.isascii() and ascii_part and len(ascii_part) <= 48:
        return ascii_part
    return "-".join(filter(None, (ascii_part[:39].strip("-"), hashlib.sha256(text.encode()).hexdigest()[:8])))


def site_id(name: str) -> str:
    """The id of the site called `name`."""
    return slug(clean_text(name))


def scanner_id(manufacturer: str, model: str, serial: str) -> str:
    """The id of one machine: manufacturer, model and serial number."""
    return "-".join(slug(clean_text(part)) for part in (manufacturer, model, serial))


def bag_id(site: str, issuer: str, bag: str) -> str:
    """The id of one inspected object. `site` is a site id; `bag` is unique only within its `issuer`."""
    return f"{site}/{slug(clean_text(issuer))}/{slug(clean_text(bag))}"


@dataclass(frozen=True)
class ScanMetadata:
    """What the file (or its sidecar) says about the acquisition. Texts are as delivered but for `clean_text`; empty: not said."""

    manufacturer: str = ""
    """Maker of the scanner."""
    model: str = ""
    """The maker's name of the scanner's type."""
    serial: str = ""
    """Serial number of this machine."""
    site: str = ""
    """Name of the place where it stands."""
    issuer: str = ""
    """Who numbers the bags."""
    bag: str = ""
    """The inspected object's number, unique within `issuer`."""
    view: str = ""
    """Which view of the bag this is."""
    acquired_at: datetime | None = None
    """When the scan was made, UTC."""
    scan_type: str = "operational"
    """operational or test."""
    is_projected: bool = False
    """Whether a threat was projected into the picture."""
    modality: str = "DX"
    """DX (a view), CT or OT."""
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    """Allow-listed facts beyond the above, such as software versions; no personal data."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the fields that identify a scan and are empty."""
        return tuple(name for name in ("manufacturer", "model", "serial", "site", "bag", "view", "acquired_at") if not getattr(self, name))

    @property
    def site_id(self) -> str:
        """Id of the site."""
        return site_id(self.site)

    @property
    def scanner_id(self) -> str:
        """Id of the scanner."""
        return scanner_id(self.manufacturer, self.model, self.serial)

    @property
    def bag_id(self) -> str:
        """Id of the bag."""
        return bag_id(self.site_id, self.issuer, self.bag)


@dataclass(frozen=True)
class ScanContent:
    """One view as it was measured."""

    planes: Mapping[str, np.ndarray]
    """Name to (H, W) uint16, detector counts proportional to transmission: bright is air. All planes have the same shape."""
    bits: Mapping[str, int]
    """Name to significant bits; full scale, 2**bits - 1, is unattenuated beam."""
    metadata: ScanMetadata
    """What is known about the acquisition."""
    source_format: str
    """dicos, dicom, png or tiff."""

    def __post_init__(self) -> None:
        if not self.planes or self.planes.keys() != self.bits.keys():
            raise ScanRefused("malformed", f"Expected bits for every plane, found planes {list(self.planes)} and bits {list(self.bits)}.")
        shapes = {pixels.shape for pixels in self.planes.values()}
        if len(shapes) != 1 or any(pixels.ndim != 2 or pixels.dtype != np.uint16 for pixels in self.planes.values()):
            raise ScanRefused("malformed", f"Expected planes of one shape (H, W) and 16 bits, found {sorted(shapes)}.")
        height_px, width_px = shapes.pop()
        check_plane_sizes(len(self.planes), height_px, width_px, 16)
        for name, pixels in self.planes.items():
            if not _PLANE_NAME.match(name):
                raise ScanRefused("malformed", f"{name!r} is no plane name: expected lower-case letters, digits and underscores.")
            if not 1 <= self.bits[name] <= 16 or int(pixels.max()) >> self.bits[name]:
                raise ScanRefused("malformed", f"Plane {name} has values beyond its {self.bits[name]} bits.")
