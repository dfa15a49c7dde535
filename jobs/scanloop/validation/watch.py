"""The jobs about the fleet rather than about scans: watch what arrives, and note that a machine was serviced."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import quarantine, scanners, scans
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.execution.receipts import folder_name
from scanloop.validation.arrivals import FLOOD, HISTORY_DAYS, SILENCE, ArrivalFinding, Arrivals, judge
from scanloop.validation.baselines import DRIFTED, RECALIBRATED
from scanloop.validation.docs import arrivals_table, offline_pages, page
from scanloop.validation.expectations import run_suites
from scanloop.validation.frame import frame_of
from scanloop.validation.health import latest_states
from scanloop.validation.pages import ARRIVALS, put_page
from scanloop.validation.results import validation_id
from scanloop.validation.suites import Check, Suite


def _check(name: str, says: str, column: str, least: float) -> Check:
    return Check(name, says, "ExpectColumnValuesToBeBetween", {"column": column, "min_value": least}, "warns")


SUITE = Suite(
    "fleet-arrivals",
    (
        _check("is_not_silent", "that nothing came since the last scan can be chance", "chance_silent", SILENCE),
        _check("does_not_flood", "that so much came can be chance", "chance_flood", FLOOD),
        _check("delivers_enough", "that so little came in a day can be chance", "chance_few", FLOOD),
    ),
)
"""What is expected of a scanner's deliveries. Whatever fails is told and holds nothing back."""
_NUMBERS = ("observed", "expected", "window_h", "chance_silent", "chance_flood", "chance_few", "rate_a_day")


def check_arrivals(run: JobRun, at: datetime | None = None) -> dict[str, Any]:
    """Compare what each scanner delivered with what it usually does, and note those whose state is another than when it was last noted.

    `at`: the moment to judge, now if nothing is said.

    Raises:
        NothingToDo: every scanner is as it was.
    """
    now = at or datetime.now(UTC)
    found = {one.scanner_id: judge(one, now) for one in arrivals_of(run.catalog, now)}
    known = {one.scope: one.state for one in latest_states(run.catalog, "arrivals")}
    changed = sorted(scanner for scanner, one in found.items() if one.state != known.get(scanner))
    if not changed:
        raise NothingToDo(f"{len(found)} scanners deliver as they did.")
    failed = _tell(run, found, now, changed)
    states = [one.state for one in found.values()]
    return {
        "scanners": len(found),
        **{state: states.count(state) for state in ("regular", "silent", "few", "flooding", "new", "gone")},
        "changed": changed,
        "findings": sorted(failed),
    }


def arrivals_of(catalog: Catalog, now: datetime) -> list[Arrivals]:
    """Every scanner that ever delivered a scan made before `now`."""
    hour = sa.func.date_trunc("hour", scans.c.acquired_at)
    is_before = (scans.c.acquired_at <= now, scans.c.state != "erased")
    counts = sa.select(scans.c.scanner_id, hour, sa.func.count()).where(
        *is_before, scans.c.acquired_at > now - timedelta(days=HISTORY_DAYS)
    )
    last = sa.select(scans.c.scanner_id, sa.func.max(scans.c.acquired_at)).where(*is_before).group_by(scans.c.scanner_id)
    hours: dict[str, dict[datetime, int]] = {}
    with catalog.read() as connection:
        for scanner_id, start, count in connection.execute(counts.group_by(scans.c.scanner_id, hour)):
            hours.setdefault(scanner_id, {})[start] = count
        return [Arrivals(scanner, hours.get(scanner, {}), at) for scanner, at in sorted(tuple(row) for row in connection.execute(last))]


def _tell(run: JobRun, found: Mapping[str, ArrivalFinding], now: datetime, changed: list[str]) -> set[str]:
    """Run the suite, keep the pages and ask for the rows of what changed. Returns the scanners that failed a check."""
    folder = run.workdir / "datadocs-arrivals"
    shutil.rmtree(folder, ignore_errors=True)
    records = [{**vars(one), "last_at": one.last_at.isoformat()} for one in found.values()]
    shown = ("scanner_id", "state", "last_at", "observed", "expected", "window_h")
    outcome = run_suites(frame_of(records, _NUMBERS), (SUITE,), run.identity.run_id, folder, shown)[SUITE.name]
    here = f"datadocs/{folder_name(run.identity.run_id)}/arrivals"
    for path, content in offline_pages(folder):
        run.add_output(put_page(run, f"{here}/{path}", content))
    docs_key = f"{here}/{outcome.page.relative_to(folder).as_posix()}"
    rows = [
        {
            "validation_id": validation_id(run, SUITE.full_name, scanner),
            "suite": SUITE.full_name,
            "scope": scanner,
            "success": scanner not in outcome.failed,
            "failed": list(outcome.failed.get(scanner, ())),
            "docs_key": docs_key,
            "counts": {**vars(found[scanner]), "last_at": found[scanner].last_at.isoformat(), "until": now.isoformat()},
        }
        for scanner in changed
    ]
    run.publication.insert("validation_results", rows, action="validation.finished", subject="validation_id")
    order = sorted(found.values(), key=lambda one: (one.state in ("regular", "new", "gone"), one.state, one.scanner_id))
    about = f"<p>As of {now:%Y-%m-%d %H:%M} UTC. <a href='../{docs_key.removeprefix('datadocs/')}'>Data Docs</a></p>"
    put_page(run, ARRIVALS, page("Arrivals", about + arrivals_table(order)))
    return set(outcome.failed)


def release_machine(run: JobRun, scanner_id: str) -> dict[str, Any]:
    """Let out every scan that is held because its scanner had drifted. They are read and checked again, but not held for the drift again, and never
    become part of the scanner's history.

    Raises:
        NothingToDo: none is held.
    """
    held = (quarantine.c.state == "held", quarantine.c.reason_code == DRIFTED, scans.c.scanner_id == scanner_id)
    query = sa.select(quarantine.c.quarantine_id).join(scans, scans.c.scan_id == quarantine.c.quarantine_id).where(*held)
    with run.catalog.read() as connection:
        ids = list(connection.scalars(query.order_by(quarantine.c.quarantine_id)))
    if not ids:
        raise NothingToDo(f"No scan is held because the scanner {scanner_id!r} had drifted.")
    for quarantine_id in ids:
        key, expect = {"quarantine_id": quarantine_id}, {"state": "held"}
        run.publication.update("quarantine", key=key, expect=expect, set={"state": "released"}, action="content.released")
    return {"scanner_id": scanner_id, "released": len(ids)}


def note_service(run: JobRun, scanner_id: str, since: datetime, because: str) -> dict[str, Any]:
    """Note that a machine was serviced: from `since` on it is compared with its scans since then, as after a calibration that its scans name.

    Raises:
        WrongArguments: there is no such scanner.
    """
    with run.catalog.read() as connection:
        if connection.scalars(sa.select(scanners.c.scanner_id).where(scanners.c.scanner_id == scanner_id)).first() is None:
            raise WrongArguments(f"No scanner {scanner_id!r} is in the catalog.")
    row = {
        "validation_id": validation_id(run, RECALIBRATED, scanner_id),
        "suite": RECALIBRATED,
        "scope": scanner_id,
        "success": True,
        "counts": {"since": since.isoformat(), "because": because},
    }
    run.publication.insert("validation_results", [row], action="scanner.serviced", subject="scope")
    return {"scanner_id": scanner_id, "since": since.isoformat()}
