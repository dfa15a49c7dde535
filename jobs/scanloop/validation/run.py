"""The validation job: new scans in, validated or quarantined scans out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import deliveries, product_lines, quarantine, scanners, scans
from scanloop.errors import NothingToDo
from scanloop.execution import JobRun
from scanloop.product_lines import ProductLine
from scanloop.validation.baselines import DRIFTED
from scanloop.validation.batch import Batch, check_batch
from scanloop.validation.pages import RunPages
from scanloop.validation.results import publish_results

log = logging.getLogger(__name__)

BATCH = 2000
"""Scans in one data frame, and on one page of Data Docs."""


@dataclass
class _Total:
    """What a run came to."""

    validated: int = 0
    quarantined: int = 0
    passed_scanners: set[str] = field(default_factory=set)
    drifted: set[str] = field(default_factory=set)


def validate_scans(run: JobRun) -> dict[str, Any]:
    """Run the suite of its scanner's model over every scan that waits; pass it on or quarantine it, and publish Data Docs.

    The scans of a machine that has drifted are held together. The result names these machines, and the product lines whose scanners
    delivered something that passed.

    Raises:
        NothingToDo: no scan waits.
    """
    waiting = _waiting(run.catalog)
    if not waiting:
        raise NothingToDo("no scan waits for validation.")
    lines = _definitions(run.catalog)
    total, pages = _Total(), RunPages(run)
    for number, start in enumerate(range(0, len(waiting), BATCH)):
        scans_here = _load(run.catalog, waiting[start : start + BATCH])
        covered = {scan["scanner_id"] for scan in scans_here if any(line.covers(scan["scanner_id"]) for line in lines)}
        batch = check_batch(run, number, scans_here, covered, _let_out(run.catalog, [scan["scan_id"] for scan in scans_here]))
        keys = pages.add(batch)
        publish_results(run, batch, keys)
        held = batch.held()
        _publish_states(run, batch, held)
        total.validated += len(scans_here) - len(held)
        total.quarantined += len(held)
        total.passed_scanners |= {scan["scanner_id"] for scan in scans_here if scan["scan_id"] not in held}
        total.drifted |= batch.drifted()
        log.info("%d of %d scans checked, %d failed.", start + len(scans_here), len(waiting), total.quarantined)
    pages.finish()
    concerned = [line.product_line for line in lines if any(line.covers(scanner) for scanner in total.passed_scanners)]
    return {
        "validated": total.validated,
        "quarantined": total.quarantined,
        "drifted_scanners": sorted(total.drifted),
        "product_lines": concerned,
    }


def _waiting(catalog: Catalog) -> list[str]:
    """Ids of received scans, machine by machine in the order of time, so that what is judged together is in one batch."""
    query = sa.select(scans.c.scan_id).where(scans.c.state == "received")
    with catalog.read() as connection:
        return list(connection.scalars(query.order_by(scans.c.scanner_id, scans.c.acquired_at, scans.c.scan_id)))


def _load(catalog: Catalog, scan_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    maker = (scanners.c.manufacturer, scanners.c.model, scanners.c.serial)
    query = sa.select(scans, *maker).join(scanners, scanners.c.scanner_id == scans.c.scanner_id).where(scans.c.scan_id.in_(scan_ids))
    with catalog.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query.order_by(scans.c.scan_id))]


def _let_out(catalog: Catalog, scan_ids: Sequence[str]) -> set[str]:
    """Those that a person let out of quarantine although their machine had drifted: they are not held for that again."""
    released = (quarantine.c.state == "released", quarantine.c.reason_code == DRIFTED)
    with catalog.read() as connection:
        return set(connection.scalars(sa.select(quarantine.c.quarantine_id).where(quarantine.c.quarantine_id.in_(scan_ids), *released)))


def _definitions(catalog: Catalog) -> list[ProductLine]:
    """Active product lines."""
    with catalog.read() as connection:
        query = sa.select(product_lines.c.definition).where(product_lines.c.is_active).order_by(product_lines.c.product_line)
        return [ProductLine.model_validate(definition) for definition in connection.scalars(query)]


def _publish_states(run: JobRun, batch: Batch, held: Mapping[str, tuple[str, str]]) -> None:
    with run.catalog.read() as connection:
        query = sa.select(quarantine.c.quarantine_id).where(quarantine.c.quarantine_id.in_(sorted(held)))
        released = set(connection.scalars(query))
    places = dict(_landing_keys(run.catalog, sorted(held.keys() - released)))
    for scan in batch.scans:
        scan_id = scan["scan_id"]
        state = "quarantined" if scan_id in held else "validated"
        key, expect = {"scan_id": scan_id}, {"state": "received"}
        run.publication.update("scans", key=key, expect=expect, set={"state": state}, action=f"scan.{state}")
        if scan_id not in held:
            continue
        reason_code, reason = held[scan_id]
        change = {"reason_code": reason_code, "reason": reason, "stage": "validation", "state": "held"}
        if scan_id in released:
            run.publication.update(
                "quarantine", key={"quarantine_id": scan_id}, expect={"state": "released"}, set=change, action="content.quarantined"
            )
        else:
            row = {
                "quarantine_id": scan_id,
                "raw_key": scan["raw_key"],
                "site_id": scan["site_id"],
                "landing_key": places.get(scan_id, ""),
            }
            run.publication.insert("quarantine", [row | change], action="content.quarantined", subject="quarantine_id")


def _landing_keys(catalog: Catalog, scan_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Where each scan was delivered first."""
    query = sa.select(deliveries.c.content_sha256, deliveries.c.landing_key).where(deliveries.c.content_sha256.in_(scan_ids))
    query = query.distinct(deliveries.c.content_sha256)
    with catalog.read() as connection:
        ordered = query.order_by(deliveries.c.content_sha256, deliveries.c.created_at, deliveries.c.landing_key)
        yield from (tuple(row) for row in connection.execute(ordered))
