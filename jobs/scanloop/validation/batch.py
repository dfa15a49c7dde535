"""One batch of scans through the suites of their scanners' models: what failed, what is held because of it, and why."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanloop.execution import JobRun
from scanloop.validation.baselines import DRIFTED
from scanloop.validation.catalogue import suite_for
from scanloop.validation.expectations import SuiteOutcome, run_suites
from scanloop.validation.frame import history_frame, scan_frame, scan_record
from scanloop.validation.machines import Scan, Stretch, compare_machines, stretches_of
from scanloop.validation.suites import ScannerSuite, Suite

REASON_CODE = "failed_validation"
_SHOWN = ("row_id", "scanner_id", "view", "plane", "scans", "air_level", "expected_air_level")


@dataclass
class Checked:
    """What one suite found in the scans of a batch that it is for."""

    suite: ScannerSuite
    """The suite."""
    scans: list[Scan]
    """The scans."""
    stretches: list[Stretch]
    """The machines among them that are compared with their history."""
    outcomes: dict[str, SuiteOutcome] = field(default_factory=dict)
    """Name of a part of the suite to what it found. History is about rows of machines, the others are about scans."""
    folders: dict[str, Path] = field(default_factory=dict)
    """Name of a part to the folder that its page was rendered into."""

    def of_scans(self) -> list[tuple[Suite, SuiteOutcome]]:
        """The parts that are about single scans."""
        return [(part, self.outcomes[part.name]) for part in (self.suite.metadata, self.suite.pixels) if part.name in self.outcomes]


@dataclass
class Batch:
    """Scans that were checked together."""

    number: int
    """Counts from 0 in a run."""
    scans: list[Scan]
    """The scans."""
    checked: list[Checked]
    """By suite, in the order of its name."""

    def failed(self) -> dict[str, list[tuple[Suite, str]]]:
        """Scan to the checks that it failed itself and is held for."""
        found: dict[str, list[tuple[Suite, str]]] = {}
        for one in self.checked:
            for part, outcome in one.of_scans():
                for scan_id, names in outcome.failed.items():
                    if blocking := part.blocking(names):
                        found.setdefault(scan_id, []).extend((part, name) for name in blocking)
        return found

    def held(self) -> dict[str, tuple[str, str]]:
        """Scan to reason code and reason. What a scan failed itself comes first."""
        drift = {scan["scan_id"]: one.reason() for one in self.stretches() if one.blocking for scan in one.scans}
        own = self.failed()
        found = {}
        for scan_id in sorted(own.keys() | drift.keys()):
            reasons = [f"{name} (expected: {part.says(name)})" for part, name in own.get(scan_id, ())]
            if scan_id in drift:
                reasons.append(f"its scanner has drifted: {drift[scan_id]}")
            found[scan_id] = (REASON_CODE if scan_id in own else DRIFTED, "; ".join(reasons))
        return found

    def stretches(self) -> list[Stretch]:
        """Every stretch of a machine."""
        return [stretch for one in self.checked for stretch in one.stretches]

    def drifted(self) -> set[str]:
        """Machines whose scans are held."""
        return {stretch.scanner_id for stretch in self.stretches() if stretch.blocking}


def check_batch(run: JobRun, number: int, scans: Sequence[Scan], covered: Collection[str], let_out: Collection[str]) -> Batch:
    """Run the suites over `scans`. `covered` are scanners of product lines, `let_out` scans that are not judged by their machine's history."""
    suites = {scan["scan_id"]: suite_for(scan) for scan in scans}
    stretches = stretches_of(scans, suites, let_out)
    changes = compare_machines(run.catalog, stretches)
    batch = Batch(number, list(scans), [])
    for _, suite in sorted({one.name: one for one in suites.values()}.items()):
        members = [scan for scan in scans if suites[scan["scan_id"]].name == suite.name]
        one = Checked(suite, members, [stretch for stretch in stretches if stretch.suite.name == suite.name])
        records = [
            scan_record(
                scan,
                has_own_suite=suite.is_of_a_model,
                is_covered=scan["scanner_id"] in covered,
                gain_change=changes.get(scan["scan_id"]),
            )
            for scan in members
        ]
        _run_part(run, batch, one, (suite.metadata, suite.pixels), scan_frame(records), ("scan_id",))
        rows = [row for stretch in one.stretches for row in stretch.rows]
        if rows:
            _run_part(run, batch, one, (suite.history,), history_frame(rows), _SHOWN)
            failed = one.outcomes[suite.history.name].failed
            for stretch in one.stretches:
                stretch.failed = {row["row_id"]: failed[row["row_id"]] for row in stretch.rows if row["row_id"] in failed}
        batch.checked.append(one)
    return batch


def _run_part(run: JobRun, batch: Batch, one: Checked, parts: tuple[Suite, ...], frame: Any, shown: tuple[str, ...]) -> None:
    parts = tuple(part for part in parts if part.checks)
    folder = run.workdir / f"datadocs-{batch.number}" / one.suite.name / ("machines" if "row_id" in shown else "scans")
    shutil.rmtree(folder, ignore_errors=True)
    found: Mapping[str, SuiteOutcome] = run_suites(frame, parts, f"{run.identity.run_id}-{batch.number}", folder, shown)
    one.outcomes |= found
    one.folders |= dict.fromkeys(found, folder)
