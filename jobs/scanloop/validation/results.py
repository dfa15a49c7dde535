"""Results of a batch for the catalog: one row a suite, one row a machine that was compared with its history, one row a scan and suite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from scanloop.execution import JobRun
from scanloop.validation.batch import Batch, Checked
from scanloop.validation.expectations import SuiteOutcome
from scanloop.validation.machines import Stretch
from scanloop.validation.suites import Suite

_KEPT = (
    "view", "plane", "since", "until", "scans", "history", "compared_with", "air_level", "expected_air_level", "gain_change",
    "gain_change_since_calibration", "air_noise", "expected_air_noise", "noise_change", "dead_columns", "dead_rows", "new_dead_columns",
    "new_dead_rows", "saturated_share", "more_saturated", "more_dark", "blank_share", "sigmas",
)  # fmt: skip
"""What the summary of a machine keeps of a row."""
_MOST_ROWS = 40
"""Rows that the summary of one machine keeps: the last ones."""


def validation_id(run: JobRun, suite: str, *scope: object) -> str:
    """The id of a result: the same run says the same thing under the same id."""
    parts = (run.identity.run_id, suite, *scope)
    return f"{suite}-{hashlib.sha256('|'.join(map(str, parts)).encode()).hexdigest()[:16]}"


def publish_results(run: JobRun, batch: Batch, docs_keys: Mapping[str, str]) -> None:
    """Ask for the rows of a batch. `docs_keys`: name of a part of a suite to its page in the store."""
    results: list[dict[str, Any]] = []
    per_scan: list[dict[str, Any]] = []
    for one in batch.checked:
        for part, outcome in one.of_scans():
            result = _of_scans(run, batch, one, part, outcome, docs_keys[part.name])
            results.append(result)
            per_scan += _each_scan(one, part, outcome, result["validation_id"])
        for scanner_id, stretches in _by_machine(one.stretches):
            result = _of_machine(run, batch, one, scanner_id, stretches, docs_keys[one.suite.history.name])
            results.append(result)
            per_scan += _each_of_machine(stretches, result["validation_id"])
    run.publication.insert("validation_results", results, action="validation.finished", subject="validation_id")
    run.publication.insert("scan_validations", per_scan, action="scan.checked", subject="scan_id/validation_id")


def _of_scans(run: JobRun, batch: Batch, one: Checked, part: Suite, outcome: SuiteOutcome, docs_key: str) -> dict[str, Any]:
    held = [scan_id for scan_id, names in outcome.failed.items() if part.blocking(names)]
    found = tuple(name for name, count in outcome.counts.items() if count)
    blocking = part.blocking(found)
    machines = len({scan["scanner_id"] for scan in one.scans})
    return {
        "validation_id": validation_id(run, part.full_name, batch.number),
        "suite": part.full_name,
        "scope": f"{len(one.scans)} new scans of {machines} scanner{'s' * (machines > 1)}",
        "success": not held,
        "failed": list(blocking),
        "docs_key": docs_key,
        "counts": {
            "scans": len(one.scans),
            "failed_scans": len(held),
            "warned": [name for name in found if name not in blocking],
            **outcome.counts,
        },
    }


def _each_scan(one: Checked, part: Suite, outcome: SuiteOutcome, result: str) -> Iterator[dict[str, Any]]:
    for scan in one.scans:
        failed = part.blocking(outcome.failed.get(scan["scan_id"], ()))
        yield {"scan_id": scan["scan_id"], "validation_id": result, "success": not failed, "failed": list(failed)}


def _by_machine(stretches: list[Stretch]) -> list[tuple[str, list[Stretch]]]:
    found: dict[str, list[Stretch]] = {}
    for stretch in stretches:
        found.setdefault(stretch.scanner_id, []).append(stretch)
    return sorted(found.items())


def _of_machine(run: JobRun, batch: Batch, one: Checked, scanner_id: str, stretches: list[Stretch], docs_key: str) -> dict[str, Any]:
    part = one.suite.history
    failed = part.blocking(tuple({name for stretch in stretches for name in stretch.blocking}))
    all_failed = {name for stretch in stretches for names in stretch.failed.values() for name in names}
    last = stretches[-1]
    state = "drifted" if last.blocking else "steady" if last.has_history else "new"
    return {
        "validation_id": validation_id(run, part.full_name, batch.number, scanner_id),
        "suite": part.full_name,
        "scope": scanner_id,
        "success": not failed,
        "failed": list(failed),
        "docs_key": docs_key,
        "counts": {
            "scans": sum(len(stretch.scans) for stretch in stretches),
            "failed_scans": sum(len(stretch.scans) for stretch in stretches if stretch.blocking),
            "warned": [check.name for check in part.checks if check.name in all_failed and check.name not in failed],
            "state": state,
            "until": max(str(row["until"]) for stretch in stretches for row in stretch.rows),
            "rows": [{name: row[name] for name in _KEPT} for stretch in stretches for row in stretch.rows][-_MOST_ROWS:],
        },
    }


def _each_of_machine(stretches: list[Stretch], result: str) -> Iterator[dict[str, Any]]:
    for stretch in stretches:
        if stretch.has_history:
            for scan in stretch.scans:
                yield {
                    "scan_id": scan["scan_id"],
                    "validation_id": result,
                    "success": not stretch.blocking,
                    "failed": list(stretch.blocking),
                }
