"""Each machine's own history from the catalog: the validated scans of a view before those that are judged, found by an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import quarantine, scans, validation_results
from scanloop.validation.frame import day_of
from scanloop.validation.history import RECENT, REFERENCE, Past, Point, point_of

DRIFTED = "scanner_drifted"
"""Reason code of a scan that is held because its machine has drifted."""
RECALIBRATED = "scanner_recalibrated"
"""Suite of the result that says that a person had a machine serviced; its scope is the scanner, its counts hold `since`."""
_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_AT_ONCE = 64
"""Views of machines in one query."""


@dataclass(frozen=True)
class Wanted:
    """Whose history is wanted: one view of one machine, before a moment."""

    scanner_id: str
    view: str
    modality: str
    before: datetime
    """When the middle one of the scans to judge was made: not the first, or one bag while the clock was wrong would hide the machine's history."""
    calibrated_on: str | None
    """Day of the last calibration as the scans to judge say it, YYYYMMDD."""


def service_dates(catalog: Catalog, scanner_ids: Iterable[str]) -> dict[str, list[datetime]]:
    """Scanner to the moments since which a person declared it serviced."""
    query = sa.select(validation_results.c.scope, validation_results.c.counts["since"].astext).where(
        validation_results.c.suite == RECALIBRATED, validation_results.c.scope.in_(sorted(set(scanner_ids)))
    )
    found: dict[str, list[datetime]] = {}
    with catalog.read() as connection:
        for scanner_id, since in connection.execute(query):
            found.setdefault(scanner_id, []).append(datetime.fromisoformat(since))
    return found


def pasts(catalog: Catalog, wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, Past]]:
    """The history of each, a few at a time. Scans that were let out although their machine had drifted are not in it."""
    asked = list(wanted)
    services = service_dates(catalog, (one.scanner_id for one in asked))
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        with catalog.read() as connection:
            found = {kind: _points(connection, part, services, kind) for kind in ("recent", "reference", "earlier")}
        for number, one in enumerate(part):
            yield one, Past(*(tuple(found[kind].get(number, ())) for kind in ("recent", "reference", "earlier")))


def _era(one: Wanted, services: Mapping[str, list[datetime]]) -> tuple[datetime, bool]:
    """Since when the machine is as it is, and whether its scans say so themselves."""
    calibrated = day_of(one.calibrated_on)
    serviced = max((since for since in services.get(one.scanner_id, ()) if since <= one.before), default=_BEGINNING)
    return (calibrated, True) if calibrated is not None and calibrated >= serviced else (serviced, False)


def _points(connection: sa.Connection, part: list[Wanted], services: Mapping[str, list[datetime]], kind: str) -> dict[int, list[Point]]:
    rows = []
    for number, one in enumerate(part):
        since, is_said = _era(one, services)
        since = min(since, one.before)
        low, high = (_BEGINNING, since) if kind == "earlier" else (since, one.before)
        rows.append(
            (number, one.scanner_id, one.view, one.modality, low, high, one.calibrated_on if is_said and kind != "earlier" else None)
        )
    column = sa.column
    asked = sa.values(
        column("number", sa.Integer), column("scanner_id", sa.Text), column("view_name", sa.Text), column("modality", sa.Text),
        column("low", sa.DateTime(timezone=True)), column("high", sa.DateTime(timezone=True)), column("calibrated_on", sa.Text),
        name="asked",
    ).data(rows)  # fmt: skip
    let_out = sa.exists().where(quarantine.c.quarantine_id == scans.c.scan_id, quarantine.c.reason_code == DRIFTED)
    order = (scans.c.acquired_at, scans.c.scan_id) if kind == "reference" else (scans.c.acquired_at.desc(), scans.c.scan_id.desc())
    members = (
        sa.select(scans.c.scan_id, scans.c.acquired_at, scans.c.statistics)
        .where(scans.c.scanner_id == asked.c.scanner_id, scans.c.state == "validated", scans.c.view_name == asked.c.view_name)
        .where(scans.c.acquired_at >= asked.c.low, scans.c.acquired_at < asked.c.high)
        .where(scans.c.modality == asked.c.modality, scans.c.scan_type == "operational", ~let_out)
        .where(sa.or_(asked.c.calibrated_on.is_(None), scans.c.attributes["calibrated_on"].astext == asked.c.calibrated_on))
        .order_by(*order)
        .limit(REFERENCE if kind == "reference" else RECENT)
        .lateral("members")
    )
    query = sa.select(asked.c.number, members).select_from(asked.join(members, sa.true()))
    found: dict[int, list[Point]] = {}
    for number, scan_id, acquired_at, statistics in connection.execution_options(yield_per=1000).execute(query):
        found.setdefault(number, []).append(point_of(scan_id, acquired_at, statistics))
    return {number: sorted(points, key=lambda point: (point.at, point.scan_id)) for number, points in found.items()}
