"""What a scan is once it has been read, and the names that its metadata give to sites, scanners and bags."""

from __future__ import annotations

import hashlib
import math
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
STUDY_ISSUER = "study"
"""Issuer of a bag number that is a DICOM StudyInstanceUID (0020,000D), for want of a PatientID (0010,0020)."""
MAX_TEXT = 128
"""Characters kept of any text from outside."""
FORMAT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""What a format may be called."""
MAX_SPACING_MM = 1000.0
"""More between two voxels is no scan of a bag."""
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
class PlaneScale:
    """How the numbers of a plane are related to those in the received file, and to physical values."""

    slope: float = 1.0
    """Physical value = slope * number in the file + intercept."""
    intercept: float = 0.0
    """See slope."""
    unit: str = ""
    """Unit of the physical value as delivered, such as HU or US (unspecified); empty: not said."""
    is_signed: bool = False
    """Whether the file's numbers are signed; they are then kept 32768 higher, at 16 bits."""
    is_inverted: bool = False
    """Whether the file has dark air; numbers are then kept turned round, full scale minus the file's."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ScanRefused("malformed", "Expected a finite slope and intercept.")
        if self.is_signed and self.is_inverted:
            raise ScanRefused("unsupported_pixels", "Signed numbers with dark air cannot be kept as counts.")


SIGNED_OFFSET = 32768
"""Added to signed numbers, so that they are kept as uint16."""


def stored_numbers(pixels: np.ndarray, bits: int, scale: PlaneScale) -> np.ndarray:
    """The numbers exactly as the received file holds them: uint16, or int16 where they are signed. `pixels` is left unchanged."""
    if scale.is_signed:
        return (pixels ^ np.uint16(SIGNED_OFFSET)).view(np.int16)
    return np.uint16((1 << bits) - 1) - pixels if scale.is_inverted else pixels


@dataclass(frozen=True)
class ScanContent:
    """One view, or one CT volume, as it was measured."""

    planes: Mapping[str, np.ndarray]
    """Name to (H, W) uint16, detector counts proportional to transmission: bright is air. Of a CT volume (D, H, W) uint16, where dense is
    bright. All planes have the same shape."""
    bits: Mapping[str, int]
    """Name to significant bits; full scale of a view, 2**bits - 1, is unattenuated beam."""
    metadata: ScanMetadata
    """What is known about the acquisition."""
    source_format: str
    """dicos, dicom, png, tiff, jpeg, or what a decoder plug-in calls its format."""
    scales: Mapping[str, PlaneScale] = field(default_factory=dict)
    """Name to scale; a plane that is not in it is kept as it was stored."""
    spacing_mm: tuple[float, float, float] | None = None
    """Distances of voxel centres along (z, y, x) of a volume; None: not said, or no volume."""

    @property
    def is_volume(self) -> bool:
        """Whether the planes are volumes (D, H, W)."""
        return next(iter(self.planes.values())).ndim == 3

    def scale(self, name: str) -> PlaneScale:
        """The scale of a plane."""
        return self.scales.get(name, _AS_STORED)

    def stored(self, name: str) -> np.ndarray:
        """A plane's numbers exactly as the received file holds them: uint16, or int16 where they are signed."""
        return stored_numbers(self.planes[name], self.bits[name], self.scale(name))

    def __post_init__(self) -> None:
        if not self.planes or self.planes.keys() != self.bits.keys():
            raise ScanRefused("malformed", f"Expected bits for every plane, found planes {list(self.planes)} and bits {list(self.bits)}.")
        shapes = {pixels.shape for pixels in self.planes.values()}
        if len(shapes) != 1 or any(pixels.ndim not in (2, 3) or pixels.dtype != np.uint16 for pixels in self.planes.values()):
            raise ScanRefused("malformed", f"Expected planes of one shape (H, W) or (D, H, W) and 16 bits, found {sorted(shapes)}.")
        *depth, height_px, width_px = shapes.pop()
        check_plane_sizes(len(self.planes), height_px, width_px, 16, depth[0] if depth else None)
        if not FORMAT_NAME.fullmatch(self.source_format):
            raise ScanRefused("malformed", "The name of the format is none.")
        if self.scales.keys() - self.planes.keys():
            raise ScanRefused("malformed", f"Scales without a plane: {sorted(self.scales.keys() - self.planes.keys())}.")
        if self.spacing_mm is not None and not all(0 < distance < MAX_SPACING_MM for distance in self.spacing_mm):
            raise ScanRefused("malformed", f"Expected distances of voxels between 0 and {MAX_SPACING_MM:g} mm.")
        for name, pixels in self.planes.items():
            if not _PLANE_NAME.match(name):
                raise ScanRefused("malformed", "Expected plane names of lower-case letters, digits and underscores, found another.")
            # Nothing lies beyond 16 bits, and looking at every pixel is what most scans need not pay.
            if not 1 <= self.bits[name] <= 16 or (self.bits[name] < 16 and int(pixels.max()) >> self.bits[name]):
                raise ScanRefused("malformed", f"Plane {name} has values beyond its {self.bits[name]} bits.")
            if self.scale(name).is_signed and self.bits[name] != 16:
                raise ScanRefused("malformed", f"Plane {name} holds signed numbers, which are kept at 16 bits, and says {self.bits[name]}.")


_AS_STORED = PlaneScale()
