"""What must hold of every file, whatever is wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scan_files import PEOPLE

from scanloop.intake.reports import report_row
from scanloop.intake.rows import identity_rows, measurement
from scanloop.scans.content import MAX_TEXT, clean_text
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import REASONS, ScanRefused
from scanloop.scans.limits import MAX_DEPTH_PX, MAX_PLANES, MAX_SCAN_PX, MAX_SIDE_PX, MAX_VOLUME_PX
from scanloop.scans.planes import encode_planes, read_planes
from scanloop.scans.threat_report import OF_PEOPLE, Content, ReportContent

_ID = re.compile(r"[a-z0-9-]{1,160}(/[a-z0-9-]{1,64}){0,2}")
_TEXTS = ("manufacturer", "model", "serial", "site", "issuer", "bag", "view", "scan_type")
MAX_MESSAGE = 512
_LONG_TEXT = 48


class Violation(AssertionError):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Verdict:
    """What became of a file."""

    code: str
    """Reason code, or `accepted`."""
    shape: str
    """The message without its numbers, or what was read: verdicts of one shape came the same way."""


def judge(content: bytes, about: bytes | None, *, is_thorough: bool = False) -> Verdict:
    """Read a file in this process and check the answer. Anything but a scan or a refusal passes through.

    Raises:
        Violation: the answer is not what an answer must be.
    """
    try:
        scan = read_scan(content, about)
    except ScanRefused as refusal:
        check_refusal(refusal)
        return Verdict(refusal.reason_code, _without_numbers(refusal.message))
    check_scan(scan)
    _must(same_scan(scan, read_scan(content, about)), "Reading it twice gives two scans.")
    if is_thorough:
        check_use(scan)
    return Verdict("accepted", _shape(scan))


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation(otherwise)


def check_refusal(refusal: ScanRefused) -> None:
    """A refusal is counted under a known reason, and its sentence is short, printable and without personal data."""
    _must(refusal.reason_code in REASONS, f"{refusal.reason_code} is no reason.")
    _must(0 < len(refusal.message) <= MAX_MESSAGE and refusal.message.isprintable(), f"{refusal.message[:600]!r} is no sentence.")
    _must(not any(part in refusal.message for part in PEOPLE.split("^")), "A refusal quotes personal data.")


def check_report(report: ReportContent) -> None:
    """A report's texts are clean, and what intake makes of it can be kept."""
    keys = [f"mask {number}" for number, _ in enumerate(report.regions())]
    row = report_row("0" * 64, "scans/raw/x", report, keys, delivered="north", known_names=())
    said = json.dumps(row, allow_nan=False)
    _must(_is_encodable([row]), "A row cannot be stored.")
    _must(report.tdr_type not in OF_PEOPLE or PEOPLE not in said, "Personal data are in a row.")
    for text in (report.site, report.issuer, report.bag, *(one.description for threat in report.threats for one in threat.assessments)):
        _must(len(text) <= MAX_TEXT and text == clean_text(text), f"The text {text[:200]!r} is not clean.")
    _must(not report.bag or _ID.fullmatch(report.bag_id("north")) is not None, "The bag has no id.")
    for region in report.regions():
        _must(region.volume().size == region.voxels, "A mask is of another size than its region.")


def check_scan(scan: Content) -> None:
    """A scan is within every limit, its texts are clean, and its ids safe."""
    if isinstance(scan, ReportContent):
        check_report(scan)
        return
    shapes = {pixels.shape for pixels in scan.planes.values()}
    *depth, height_px, width_px = next(iter(shapes))
    most = MAX_VOLUME_PX if depth else MAX_SCAN_PX
    _must(len(shapes) == 1 and 1 <= len(scan.planes) <= MAX_PLANES, f"Planes of shapes {shapes}.")
    _must(1 <= height_px <= MAX_SIDE_PX and 1 <= width_px <= MAX_SIDE_PX, f"A side of {height_px} x {width_px}.")
    _must(not depth or depth[0] <= MAX_DEPTH_PX, f"A depth of {depth}.")
    _must(sum(pixels.size for pixels in scan.planes.values()) <= most, "More pixels than a scan may have.")
    for name, pixels in scan.planes.items():
        _must(pixels.dtype == np.uint16 and int(pixels.max()) < 1 << scan.bits[name] <= 1 << 16, f"Numbers beyond {scan.bits[name]} bits.")
        _must(scan.stored(name).shape == pixels.shape, "The file's own numbers are of another shape.")
    about = scan.metadata
    texts = [getattr(about, name) for name in _TEXTS] + [value for value in about.attributes.values() if isinstance(value, str)]
    for text in texts:
        _must(len(text) <= MAX_TEXT and text == clean_text(text) and text.isprintable(), f"The text {text[:200]!r} is not clean.")
    _must(not any(PEOPLE in text for text in texts), "Personal data are among the metadata.")
    for identity in (about.site_id, about.scanner_id, about.bag_id):
        _must(_ID.fullmatch(identity) is not None, f"{identity[:300]!r} is no id.")


def same_scan(one: Content, other: Content) -> bool:
    """Whether two scans are equal, pixel for pixel."""
    if isinstance(one, ReportContent) or isinstance(other, ReportContent):
        return one == other
    facts = [(scan.bits, scan.metadata, scan.source_format, dict(scan.scales), scan.spacing_mm) for scan in (one, other)]
    return (
        facts[0] == facts[1]
        and list(one.planes) == list(other.planes)
        and all(np.array_equal(pixels, other.planes[name]) for name, pixels in one.planes.items())
    )


def check_use(scan: Content) -> None:
    """What intake makes of a scan can be kept: rows in a catalog, an answer of the reader, planes that come back."""
    if isinstance(scan, ReportContent):
        return
    rows = [*identity_rows(scan).values(), measurement(scan, "scans/planes/x.tiff", delivered_site="", sidecar_sha256=None)]
    said = json.dumps(rows, allow_nan=False)
    _must(_is_encodable(rows), "A row cannot be stored.")
    _must(PEOPLE not in said, "Personal data are in a row.")
    again = read_planes(encode_planes(scan.planes, scan.bits), is_native=True)
    _must(all(np.array_equal(again[name], pixels) for name, pixels in scan.planes.items()), "Kept planes do not come back.")


def _is_encodable(rows: list[dict[str, Any]]) -> bool:
    said = json.dumps(rows, ensure_ascii=False)
    try:
        said.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in said


def _without_numbers(message: str) -> str:
    return re.sub(r"\[[^\]]*\]|\([^)]*\)|b'[^']*'|-?\d+(\.\d+)*", "#", message)


def _shape(scan: Content) -> str:
    if isinstance(scan, ReportContent):
        places = [place for threat in scan.threats for place in threat.representations]
        return f"report {scan.tdr_type} {scan.decision} {min(len(scan.threats), 3)} threats {min(len(places), 3)} places"
    about = scan.metadata
    scale = next(iter(scan.scales.values()), None)
    parts = [
        scan.source_format,
        about.modality,
        f"{min(len(scan.planes), 4)} planes",
        "volume" if scan.is_volume else "view",
        f"{next(iter(scan.bits.values()))} bits",
        "scaled" if scale else "",
        "signed" if scale and scale.is_signed else "",
        "inverted" if scale and scale.is_inverted else "",
        "spaced" if scan.spacing_mm else "",
        "projected" if about.is_projected else "",
        " ".join(sorted(about.attributes)),
        " ".join(f"no {name}" for name in about.missing),
        "" if any(len(text) > _LONG_TEXT for text in (about.site, about.bag)) else "long",
    ]
    return ", ".join(filter(None, parts))
