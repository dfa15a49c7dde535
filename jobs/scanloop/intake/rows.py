"""Catalog rows from what was read. Pure: the same content gives the same rows, whoever received it and however often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.fingerprint import perceptual_hash
from scanloop.scans.planes import scale_to_16_bits
from scanloop.scans.statistics import plane_statistics

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
    scaled = {name: scale_to_16_bits(pixels, content.bits[name]) for name, pixels in content.planes.items()}
    about = content.metadata
    attributes: Row = {**about.attributes, "delivered_site": delivered_site, "missing": list(about.missing)}
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
        "planes": [_plane(name, pixels, content.bits[name]) for name, pixels in content.planes.items()],
        "attributes": attributes,
        "statistics": {name: plane_statistics(pixels).as_dict() for name, pixels in scaled.items()},
        "phash": perceptual_hash(scaled.get("high", next(iter(scaled.values())))),
        "state": "received",
    }


def _plane(name: str, pixels: np.ndarray, bits: int) -> Row:
    return {"name": name, "height_px": pixels.shape[0], "width_px": pixels.shape[1], "bits": bits}


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
    """One line of the ledger. `outcome` holds outcome, scan_id and quarantine_id."""
    return {
        "delivery_id": identity,
        "landing_key": landing_key,
        "site_id": site,
        "size_bytes": size_bytes,
        "content_sha256": sha256,
        "outcome": outcome["outcome"],
        "scan_id": outcome.get("scan_id"),
        "quarantine_id": outcome.get("quarantine_id"),
    }
