"""The table that expectations are about: one row a scan, from its catalog row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_WORST = {
    "air_mean": min,
    "saturated_share": max,
    "dark_share": max,
    "dead_columns": max,
    "dead_rows": max,
    "is_blank": max,
}
"""How the planes of one scan become one figure: the worst counts."""
_NOT_OF_A_SET = ("has_both_energies", "year", "air_mean", "saturated_share", "dark_share", "dead_columns", "dead_rows")
"""What is not asked of a picture of a research set: it has a vendor's colours instead of energies, and tells no time."""


def scan_record(scan: Mapping[str, Any]) -> dict[str, Any]:
    """One scan as a flat record. `scan` has the columns of scans and manufacturer, model and serial of its scanner.

    What the file did not say is None, whatever stands in for it in an id.
    """
    attributes, planes, statistics = scan["attributes"], scan["planes"], scan["statistics"]
    missing = set(attributes.get("missing", ()))
    acquired_at: datetime | None = scan["acquired_at"]
    said = {"site": scan["site_id"], "bag": scan["bag_id"], "view": scan["view_name"]}
    said |= {name: scan[name] for name in ("manufacturer", "model", "serial")}
    figures = {name: worst([plane[name] for plane in statistics.values()]) for name, worst in _WORST.items()}
    record = {
        "scan_id": scan["scan_id"],
        **{name: None if name in missing else value for name, value in said.items()},
        "delivered_site": attributes.get("delivered_site") or None,
        "acquired_at": acquired_at.isoformat() if acquired_at else None,
        "year": acquired_at.year if acquired_at else None,
        "scan_type": scan["scan_type"],
        "source_format": scan["source_format"],
        "has_both_energies": {"high", "low"} <= {plane["name"] for plane in planes},
        "height_px": min(plane["height_px"] for plane in planes),
        "width_px": min(plane["width_px"] for plane in planes),
        "bits": min(plane["bits"] for plane in planes),
        **figures,
    }
    return record | dict.fromkeys(_NOT_OF_A_SET) | {"acquired_at": "not told"} if attributes.get("dataset") else record


def scan_frame(scans: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records of many scans as a data frame."""
    import pandas as pd

    return pd.DataFrame([scan_record(scan) for scan in scans])
