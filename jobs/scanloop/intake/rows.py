"""Catalog rows from what was read. Pure: the same content gives the same rows, whoever received it and however often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.fingerprint import perceptual_hash, volume_hash
from scanloop.scans.pictures import listed_views
from scanloop.scans.planes import scale_to_16_bits
from scanloop.scans.statistics import PlaneStatistics, plane_statistics, volume_statistics

Row = dict[str, Any]
RAW_PREFIX = "scans/raw"
PLANES_PREFIX = "scans/planes"


def raw_key(sha256: str) -> str:
    """Where the received bytes with this digest are kept."""
    return f"{RAW_PREFIX}/{sha256[:2]}/{sha256}"


def identity_rows(content: ScanContent) -> dict[str, Row]:
    """Table to row for site, scanner and bag of a scan."""
    about = content.metadata
    return {
        "sites": {"site_id": about.site_id, "name": about.site or about.site_id},
        "scanners": {
            "scanner_id": about.scanner_id,
            "site_id": about.site_id,
            "manufacturer": about.manufacturer,
            "model": about.model,
            "serial": about.serial,
        },
        "bags": {"bag_id": about.bag_id, "site_id": about.site_id},
    }


def measurement(content: ScanContent, planes_key: str, *, delivered_site: str, sidecar_sha256: str | None) -> Row:
    """The columns of a scan that reading it again may change."""
    statistics, phash = _figures(content)
    about = content.metadata
    attributes: Row = {**about.attributes, "delivered_site": delivered_site, "missing": list(about.missing), "views": listed_views(content)}
    if sidecar_sha256:
        attributes |= {"sidecar_sha256": sidecar_sha256, "sidecar_key": raw_key(sidecar_sha256)}
    return {
        "site_id": about.site_id,
        "scanner_id": about.scanner_id,
        "bag_id": about.bag_id,
        "view_name": about.view or "unknown",
        "modality": about.modality,
        "source_format": content.source_format,
        "acquired_at": about.acquired_at.isoformat() if about.acquired_at else None,
        "scan_type": about.scan_type,
        "is_projected": about.is_projected,
        "planes_key": planes_key,
        "planes": [_plane(content, name) for name in content.planes],
        "attributes": attributes,
        "statistics": {name: figures.as_dict() for name, figures in statistics.items()},
        "phash": phash,
        "state": "received",
    }


def _figures(content: ScanContent) -> tuple[dict[str, PlaneStatistics], str]:
    """Statistics of every plane, and the fingerprint of the one that tells most."""
    leading = "high" if "high" in content.planes else next(iter(content.planes))
    if content.is_volume:
        figures = {name: volume_statistics(volume, content.bits[name]) for name, volume in content.planes.items()}
        return figures, volume_hash(content.planes[leading])
    scaled = {name: scale_to_16_bits(pixels, content.bits[name]) for name, pixels in content.planes.items()}
    return {name: plane_statistics(pixels) for name, pixels in scaled.items()}, perceptual_hash(scaled[leading])


def _plane(content: ScanContent, name: str) -> Row:
    """What the catalog says about a plane; of a volume also its depth and voxels, and its scale where the file's numbers are not kept as they are."""
    *depth, height_px, width_px = content.planes[name].shape
    row: Row = {"name": name, "height_px": height_px, "width_px": width_px, "bits": content.bits[name]}
    if depth:
        row |= {"depth_px": depth[0], "spacing_mm": list(content.spacing_mm) if content.spacing_mm else None}
    if name in content.scales:
        row["scale"] = asdict(content.scales[name])
    return row


def quarantine_row(sha256: str, refusal: ScanRefused, landing_key: str, site: str) -> Row:
    """A content that could not be read."""
    return {
        "quarantine_id": sha256,
        "raw_key": raw_key(sha256),
        "reason_code": refusal.reason_code,
        "reason": refusal.message,
        "site_id": site,
        "landing_key": landing_key,
        "stage": "intake",
        "state": "held",
    }


def delivery_row(identity: str, landing_key: str, site: str, size_bytes: int, sha256: str, outcome: Mapping[str, str | None]) -> Row:
    """One line of the ledger. `outcome` holds outcome, scan_id, quarantine_id and report_id."""
    return {
        "delivery_id": identity,
        "landing_key": landing_key,
        "site_id": site,
        "size_bytes": size_bytes,
        "content_sha256": sha256,
        "outcome": outcome["outcome"],
        "scan_id": outcome.get("scan_id"),
        "quarantine_id": outcome.get("quarantine_id"),
        "report_id": outcome.get("report_id"),
    }
