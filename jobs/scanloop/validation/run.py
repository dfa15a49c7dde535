"""The validation job: new scans in, validated or quarantined scans out."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import deliveries, product_lines, quarantine, scanners, scans
from scanloop.errors import NothingToDo
from scanloop.execution import JobRun
from scanloop.execution.receipts import folder_name
from scanloop.product_lines import ProductLine
from scanloop.steps import step
from scanloop.validation.docs import index_page, offline_pages
from scanloop.validation.expectations import SuiteOutcome, run_suites
from scanloop.validation.frame import scan_frame
from scanloop.validation.suites import SUITES

log = logging.getLogger(__name__)

BATCH = 2000
"""Scans in one data frame, and on one page of Data Docs."""
REASON_CODE = "failed_validation"
_SAYS = {check.name: check.says for suite in SUITES for check in suite.checks}


def validate_scans(run: JobRun) -> dict[str, Any]:
    """Run every suite over the scans that wait for it; pass them on or quarantine them, and publish Data Docs.

    The result names the product lines whose scanners delivered something that passed.

    Raises:
        NothingToDo: no scan waits.
    """
    waiting = _waiting(run.catalog)
    if not waiting:
        raise NothingToDo("no scan waits for validation.")
    counts = {"validated": 0, "quarantined": 0}
    passed_scanners: set[str] = set()
    for number, start in enumerate(range(0, len(waiting), BATCH)):
        batch = _load(run.catalog, waiting[start : start + BATCH])
        failed = _validate(run, number, batch)
        for scan in batch:
            if scan["scan_id"] not in failed:
                passed_scanners.add(scan["scanner_id"])
        counts["validated"] += len(batch) - len(failed)
        counts["quarantined"] += len(failed)
        log.info("%d of %d scans checked, %d failed.", start + len(batch), len(waiting), counts["quarantined"])
    return {**counts, "product_lines": _concerned(run.catalog, passed_scanners)}


def _waiting(catalog: Catalog) -> list[str]:
    with catalog.read() as connection:
        return list(connection.scalars(sa.select(scans.c.scan_id).where(scans.c.state == "received").order_by(scans.c.scan_id)))


def _load(catalog: Catalog, scan_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    maker = (scanners.c.manufacturer, scanners.c.model, scanners.c.serial)
    query = sa.select(scans, *maker).join(scanners, scanners.c.scanner_id == scans.c.scanner_id).where(scans.c.scan_id.in_(scan_ids))
    with catalog.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query.order_by(scans.c.scan_id))]


def _validate(run: JobRun, number: int, batch: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Check one batch, write its pages and ask for its changes; returns the failing scans with the checks they failed."""
    docs_folder = run.workdir / f"datadocs-{number}"
    shutil.rmtree(docs_folder, ignore_errors=True)
    outcomes = run_suites(scan_frame(batch), SUITES, f"{run.identity.run_id}-{number}", docs_folder)
    prefix = f"datadocs/{folder_name(run.identity.run_id)}/{number:02d}"
    entries = [
        (name, outcome.page.relative_to(docs_folder).as_posix(), len(batch), len(outcome.failed)) for name, outcome in outcomes.items()
    ]
    for path, page in (*offline_pages(docs_folder), index_page(f"Validation of {len(batch)} scans, run {run.identity.run_id}", entries)):
        stored = run.store.put(f"{prefix}/{path}", page, content_type="text/html; charset=utf-8")
        step("validation.after_page")
        run.add_output(stored)
    failed: dict[str, list[str]] = {}
    for suite in SUITES:
        outcome = outcomes[suite.name]
        docs_key = f"{prefix}/{outcome.page.relative_to(docs_folder).as_posix()}"
        _publish_results(run, f"{suite.name}-{suite.version}", number, batch, outcome, docs_key)
        for scan_id, names in outcome.failed.items():
            failed.setdefault(scan_id, []).extend(names)
    _publish_states(run, batch, failed)
    return failed


def _publish_results(run: JobRun, suite: str, number: int, batch: list[Mapping[str, Any]], outcome: SuiteOutcome, docs_key: str) -> None:
    identity = hashlib.sha256(f"{run.identity.run_id}|{suite}|{number}".encode()).hexdigest()[:16]
    validation_id = f"{suite}-{identity}"
    result = {
        "validation_id": validation_id,
        "suite": suite,
        "scope": f"{len(batch)} new scans",
        "success": not outcome.failed,
        "failed": [name for name, count in outcome.counts.items() if count],
        "docs_key": docs_key,
        "counts": {"scans": len(batch), "failed_scans": len(outcome.failed), **outcome.counts},
    }
    run.publication.insert("validation_results", [result], action="validation.finished", subject="validation_id")
    per_scan = (
        {
            "scan_id": scan["scan_id"],
            "validation_id": validation_id,
            "success": scan["scan_id"] not in outcome.failed,
            "failed": list(outcome.failed.get(scan["scan_id"], ())),
        }
        for scan in batch
    )
    run.publication.insert("scan_validations", per_scan, action="scan.checked", subject="scan_id/validation_id")


def _publish_states(run: JobRun, batch: list[Mapping[str, Any]], failed: Mapping[str, list[str]]) -> None:
    with run.catalog.read() as connection:
        query = sa.select(quarantine.c.quarantine_id).where(quarantine.c.quarantine_id.in_(sorted(failed)))
        released = set(connection.scalars(query))
    for scan in batch:
        scan_id = scan["scan_id"]
        state = "quarantined" if scan_id in failed else "validated"
        key, expect = {"scan_id": scan_id}, {"state": "received"}
        run.publication.update("scans", key=key, expect=expect, set={"state": state}, action=f"scan.{state}")
        if scan_id not in failed:
            continue
        reason = "; ".join(f"{name} (expected: {_SAYS[name]})" for name in failed[scan_id])
        held = {"reason_code": REASON_CODE, "reason": reason, "stage": "validation", "state": "held"}
        if scan_id in released:
            run.publication.update(
                "quarantine", key={"quarantine_id": scan_id}, expect={"state": "released"}, set=held, action="content.quarantined"
            )
        else:
            row = {
                "quarantine_id": scan_id,
                "raw_key": scan["raw_key"],
                "site_id": scan["site_id"],
                "landing_key": _landing_key(run, scan_id),
            }
            run.publication.insert("quarantine", [row | held], action="content.quarantined", subject="quarantine_id")


def _landing_key(run: JobRun, scan_id: str) -> str:
    """Where the scan was delivered first."""
    query = sa.select(deliveries.c.landing_key).where(deliveries.c.content_sha256 == scan_id)
    query = query.order_by(deliveries.c.created_at, deliveries.c.landing_key).limit(1)
    with run.catalog.read() as connection:
        return connection.scalars(query).first() or ""


def _concerned(catalog: Catalog, scanner_ids: set[str]) -> list[str]:
    """Active product lines that cover one of these scanners."""
    with catalog.read() as connection:
        query = sa.select(product_lines.c.definition).where(product_lines.c.is_active).order_by(product_lines.c.product_line)
        definitions = [ProductLine.model_validate(definition) for definition in connection.scalars(query)]
    return [line.product_line for line in definitions if any(line.covers(scanner) for scanner in scanner_ids)]
