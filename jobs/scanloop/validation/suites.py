"""What is expected, as values: checks, suites of them, and what a scanner model's history may do. `expectations.py` runs suites.

The suites themselves are the YAML files in `scanner_suites/`, read by `scanner_suites.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["blocks", "warns"]
SECTIONS = ("metadata", "pixels", "history")
"""Parts of a scanner model's suite. The first two are about each scan, the last is about the machine."""


@dataclass(frozen=True)
class Check:
    """One expectation about a column (or a pair of columns) of a table."""

    name: str
    """What a failing row is said to have failed."""
    says: str
    """The same for people, true when it holds."""
    expectation: str
    """Class in great_expectations.expectations."""
    arguments: Mapping[str, Any]
    """Its arguments."""
    severity: Severity = "blocks"
    """Whether what fails it is held back, or only told."""


@dataclass(frozen=True)
class Suite:
    """Checks that are run together over one table."""

    name: str
    """Name in results and Data Docs."""
    checks: tuple[Check, ...]
    """In the order they are shown."""

    @property
    def version(self) -> str:
        """The first 8 hex digits of a digest over every check: an edit is another version."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def full_name(self) -> str:
        """Name and version."""
        return f"{self.name}-{self.version}"

    def blocking(self, failed: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the failed checks that hold back."""
        return tuple(check.name for check in self.checks if check.severity == "blocks" and check.name in failed)

    def says(self, name: str) -> str:
        """What the check with this name expects, for people."""
        return next(check.says for check in self.checks if check.name == name)


class HistoryLimits(BaseModel):
    """How a machine is compared with its own history. Levels and shares are of full scale, changes of levels are relative."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_history: int = Field(default=20, ge=5, le=60)
    """Validated scans of a view before a machine is judged at all; at most as many as are looked at (RECENT in `history.py`)."""
    min_scans: int = Field(default=5, ge=3, le=100)
    """Scans that are judged together; a smaller delivery is topped up with the latest validated ones, so that one odd bag is never the majority."""
    sigmas: float = Field(default=5.0, ge=3, le=20)
    """A change within so many standard deviations, of medians of a few scans of this machine, counts as none, however narrow the suite's limits."""
    scan_sigmas: float = Field(default=10.0, ge=3, le=50)
    """The same for a single scan, in standard deviations of single scans."""
    settling: float = Field(default=4.0, ge=1, le=20)
    """Until a calibrated machine has min_history scans it is compared with what it did before, and a change counts only as this part of itself."""


@dataclass(frozen=True)
class ScannerSuite:
    """Everything that is expected of one scanner model, or of one kind of scan."""

    name: str
    """As in the name of its file."""
    says: str
    """Whom it is for."""
    manufacturer: str | None
    """Maker that it is for; None: any."""
    model: str | None
    """Model that it is for; None: any."""
    kind: str
    """Kind of scan that it is for: projection, volume or picture."""
    metadata: Suite
    """Who, where, what and when; one row a scan."""
    pixels: Suite
    """Figures of a single scan; one row a scan."""
    history: Suite
    """The machine against its own history; one row a time, view and plane. Empty: not compared."""
    limits: HistoryLimits
    """How history is compared."""

    @property
    def is_of_a_model(self) -> bool:
        """Whether it was written for one scanner model."""
        return self.model is not None

    @property
    def suites(self) -> tuple[Suite, ...]:
        """Its parts, in order."""
        return tuple(part for part in (self.metadata, self.pixels, self.history) if part.checks)

    def says_of(self, name: str) -> str:
        """What a check of any part expects, for people."""
        return next(suite.says(name) for suite in self.suites if any(check.name == name for check in suite.checks))
