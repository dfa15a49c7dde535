"""The tables that expectations are about: one row a scan, from its catalog row; and one row a time, view and plane of a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_WORST = {
    "air_mean": min,
    "air_share": max,
    "saturated_share": max,
    "dark_share": max,
    "dead_columns": max,
    "dead_rows": max,
    "is_blank": max,
}
"""How the planes of one scan become one figure: the worst counts."""
_COLOURS = frozenset({"red", "green", "blue"})
_GREYS = frozenset({"grey", "gray", "luminance"})
_TEXTS = ("scan_id", "site", "bag", "view", "manufacturer", "model", "serial", "delivered_site", "acquired_at", "scan_type", "source_format",
          "software", "calibrated_on", "object_type")  # fmt: skip
_NUMBERS = ("year", "days_since_calibration", "planes", "height_px", "width_px", "depth_px", "bits", *_WORST, "gain_change")
_FACTS = ("has_both_energies", "makes_a_picture", "has_own_suite", "is_covered")
SCAN_COLUMNS = frozenset((*_TEXTS, *_NUMBERS, *_FACTS))
"""Columns of the table of scans."""
HISTORY_TEXTS = ("row_id", "scanner_id", "view", "plane", "since", "until", "compared_with")
HISTORY_NUMBERS = (
    "scans",
    "history",
    "air_level",
    "expected_air_level",
    "gain_change",
    "gain_change_since_calibration",
    "air_shift",
    "air_noise",
    "expected_air_noise",
    "noise_change",
    "noise_change_since_calibration",
    "dead_columns",
    "expected_dead_columns",
    "new_dead_columns",
    "dead_rows",
    "expected_dead_rows",
    "new_dead_rows",
    "saturated_share",
    "expected_saturated_share",
    "more_saturated",
    "dark_share",
    "expected_dark_share",
    "more_dark",
    "blank_share",
    "sigmas",
)
HISTORY_COLUMNS = frozenset((*HISTORY_TEXTS, *HISTORY_NUMBERS, "has_history"))
"""Columns of the table of machines; `history.py` fills it."""


def is_copy(scan: Mapping[str, Any]) -> bool:
    """Whether a scan is a picture of a scan: a secondary capture, or a member of an imported set."""
    return scan["modality"] == "OT" or bool(scan["attributes"].get("dataset"))


def kind_of(scan: Mapping[str, Any]) -> str:
    """Projection (planes of energies), volume, or picture (colours, one grey plane, or a copy)."""
    names = {plane["name"] for plane in scan["planes"]}
    if scan["modality"] == "CT" or any(plane.get("depth_px") for plane in scan["planes"]):
        return "volume"
    return "picture" if is_copy(scan) or (names and (names <= _COLOURS or names <= _GREYS)) else "projection"


def day_of(text: object) -> datetime | None:
    """The start of a day YYYYMMDD, UTC; None if it is none."""
    try:
        return datetime.strptime(str(text), "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def scan_record(
    scan: Mapping[str, Any], *, has_own_suite: bool = False, is_covered: bool = False, gain_change: float | None = None
) -> dict[str, Any]:
    """One scan as a flat record. `scan` has the columns of scans and manufacturer, model and serial of its scanner.

    What the file did not say is None, whatever stands in for it in an id. `gain_change` is the relative change of its level of air against its
    machine's own history, if there is enough of that.
    """
    attributes, planes, statistics = scan["attributes"], scan["planes"], scan["statistics"]
    missing = set(attributes.get("missing", ()))
    acquired_at: datetime | None = scan["acquired_at"]
    calibrated = day_of(attributes.get("calibrated_on"))
    said = {"site": scan["site_id"], "bag": scan["bag_id"], "view": scan["view_name"]}
    said |= {name: scan[name] for name in ("manufacturer", "model", "serial")}
    figures = {name: worst((plane[name] for plane in statistics.values() if name in plane), default=None) for name, worst in _WORST.items()}
    names = [plane["name"] for plane in planes]
    return {
        "scan_id": scan["scan_id"],
        **{name: None if name in missing else value for name, value in said.items()},
        "delivered_site": attributes.get("delivered_site") or None,
        "acquired_at": acquired_at.isoformat() if acquired_at else None,
        "year": acquired_at.year if acquired_at else None,
        "scan_type": scan["scan_type"],
        "source_format": scan["source_format"],
        "software": attributes.get("software") or None,
        "calibrated_on": attributes.get("calibrated_on") or None,
        "object_type": attributes.get("object_type") or None,
        "days_since_calibration": (acquired_at - calibrated).days if acquired_at and calibrated else None,
        "has_both_energies": {"high", "low"} <= set(names),
        "makes_a_picture": len(names) == 1 or set(names) == _COLOURS,
        "has_own_suite": has_own_suite,
        "is_covered": is_covered,
        "planes": len(planes),
        "height_px": min(plane["height_px"] for plane in planes),
        "width_px": min(plane["width_px"] for plane in planes),
        "depth_px": min((plane["depth_px"] for plane in planes if plane.get("depth_px")), default=None),
        "bits": min(plane["bits"] for plane in planes),
        **figures,
        "gain_change": gain_change,
    }


def scan_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records of many scans as a data frame."""
    return frame_of(records, _NUMBERS)


def history_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of machines as a data frame."""
    return frame_of(records, HISTORY_NUMBERS)


def frame_of(records: Iterable[Mapping[str, Any]], numbers: Iterable[str]) -> pd.DataFrame:
    """A data frame in which what is a number is one in every row, or none."""
    import pandas as pd

    frame = pd.DataFrame(list(records))
    for name in numbers:
        if frame[name].dtype != bool:
            frame[name] = pd.to_numeric(frame[name])
    return frame
