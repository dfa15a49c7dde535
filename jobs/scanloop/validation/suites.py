"""What is expected of every scan, as data. Great Expectations runs it; `expectations.py` is the only file that knows how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scanloop.scans.limits import MAX_SIDE_PX


@dataclass(frozen=True)
class Check:
    """One expectation about a column (or a pair of columns) of the scans."""

    name: str
    """What a failing scan is said to have failed."""
    says: str
    """The same for people, true when it holds."""
    expectation: str
    """Class in great_expectations.expectations."""
    arguments: Mapping[str, Any]
    """Its arguments."""


@dataclass(frozen=True)
class Suite:
    """Checks that are run together over a batch of scans."""

    name: str
    """Name in results and Data Docs."""
    checks: tuple[Check, ...]
    """In the order they are shown."""

    @property
    def version(self) -> str:
        """The first 8 hex digits of a digest over every check: an edit is another version."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


def _present(column: str, says: str) -> Check:
    return Check(f"{column}_is_known", says, "ExpectColumnValuesToNotBeNull", {"column": column})


def _between(name: str, column: str, low: float | None, high: float | None, says: str) -> Check:
    limits = {key: value for key, value in (("min_value", low), ("max_value", high)) if value is not None}
    return Check(name, says, "ExpectColumnValuesToBeBetween", {"column": column, **limits})


def _among(name: str, column: str, values: list[Any], says: str) -> Check:
    return Check(name, says, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})


METADATA = Suite(
    "scan_metadata",
    (
        _present("site", "the site is named"),
        _present("manufacturer", "the scanner's manufacturer is named"),
        _present("model", "the scanner's model is named"),
        _present("serial", "the scanner's serial number is named"),
        _present("bag", "the bag is numbered"),
        _present("view", "the view is named"),
        _present("acquired_at", "the time of acquisition is known"),
        Check(
            "site_is_the_deliverer",
            "the file came from the folder of the site that it names",
            "ExpectColumnPairValuesToBeEqual",
            {"column_A": "site", "column_B": "delivered_site", "ignore_row_if": "either_value_is_missing"},
        ),
        _between("year_is_plausible", "year", 2000, 2100, "the scanner's clock is set"),
        _among("scan_type_is_known", "scan_type", ["operational", "test"], "it is an operational or a test scan"),
    ),
)
"""Completeness: who, where, what and when."""

PIXELS = Suite(
    "scan_pixels",
    (
        _among("has_both_energies", "has_both_energies", [True], "there is a high-energy and a low-energy plane"),
        _between("height_is_plausible", "height_px", 32, MAX_SIDE_PX, "planes have at least 32 rows"),
        _between("width_is_plausible", "width_px", 32, MAX_SIDE_PX, "planes have at least 32 columns"),
        _between("depth_is_enough", "bits", 8, 16, "planes have 8 to 16 bits"),
        _between("air_is_bright", "air_mean", 0.75, 1.0, "air transmits at least 75 % of full scale in every plane"),
        _between("is_not_saturated", "saturated_share", None, 0.3, "at most 30 % of the pixels are at full scale"),
        _between("is_not_dark", "dark_share", None, 0.6, "at most 60 % of the pixels are without signal"),
        _among("is_not_blank", "is_blank", [False], "something is to be seen"),
        _between("columns_measure", "dead_columns", None, 3, "at most 3 columns do not measure"),
        _between("rows_measure", "dead_rows", None, 3, "at most 3 rows do not measure"),
    ),
)
"""Pixel statistics that a working scanner keeps to."""

SUITES = (METADATA, PIXELS)
