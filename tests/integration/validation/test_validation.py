"""Suites of Great Expectations over scans in a real catalog."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from scan_files import dicos, picture, png, sidecar

from scanloop.catalog.tables import audit_log, product_lines, quarantine, scan_validations, scans, validation_results
from scanloop.cli.options import World
from scanloop.errors import NothingToDo, ScanloopError
from scanloop.intake.landing import Shard
from scanloop.intake.release import release
from scanloop.intake.shard import ingest_shard
from scanloop.product_lines import ProductLine
from scanloop.store import open_store
from scanloop.validation import expectations
from scanloop.validation.catalogue import scanner_suites
from scanloop.validation.frame import scan_frame, scan_record
from scanloop.validation.run import validate_scans
from scanloop.validation.suites import Check, Suite

Run = Callable[..., dict[str, Any]]


def broken(**defects: Any) -> dict[str, np.ndarray]:
    """A picture with a defect of the machine in both planes."""
    planes = picture(7, 64, 64)
    for pixels in planes.values():
        if "dead_columns" in defects:
            pixels[:, 5 : 5 + defects["dead_columns"]] = 1234
        if "gain" in defects:
            pixels[:] = (pixels * defects["gain"]).astype(np.uint16)
        if "blank" in defects:
            pixels[:] = 60000
    return planes


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "dead": ({"planes": broken(dead_columns=6)}, ["columns_measure"]),
    "weak": ({"planes": broken(gain=0.5)}, ["air_is_bright"]),
    "blank": ({"planes": broken(blank=True)}, ["is_not_blank"]),
    "small": ({"planes": picture(3, 64, 24)}, ["width_is_plausible"]),
    "nameless": ({"DeviceSerialNumber": None, "SeriesDescription": None}, ["serial_is_known", "view_is_known"]),
    "no_bag": ({"PatientID": None, "StudyInstanceUID": None}, ["bag_is_known"]),
    "no_clock": ({"ContentDate": "19700101"}, ["year_is_plausible"]),
    "no_time": ({"ContentDate": None, "ContentTime": None}, ["acquired_at_is_known"]),
    "elsewhere": ({"InstitutionName": "west-terminal"}, ["site_is_the_deliverer"]),
    "one_energy": ({"planes": {"high": picture(9, 64, 64)["high"]}, "ImageType": ["ORIGINAL", "HIGH ENERGY"]}, ["has_both_energies"]),
}


@pytest.fixture
def received(world: World, run_body: Run) -> dict[str, str]:
    """Good scans of two scanners, and one scan with each fault; name to scan id."""
    landing = open_store(world.settings.landing_url)
    files = {f"good_{number}": dicos(picture(number, 64, 64)) for number in range(3)}
    files |= {
        name: dicos(**{"planes": picture(30 + number, 64, 64)} | changes) for number, (name, (changes, _)) in enumerate(FAULTS.items())
    }
    for name, content in files.items():
        landing.put(f"south-terminal/0042/2026-03-01/{name}.dcs", content)
    stacked = png(picture(5, 64, 64))
    landing.put("north-terminal/SN-7/2026-03-01/good_png.png.json", sidecar())
    landing.put("north-terminal/SN-7/2026-03-01/good_png.png", stacked)
    run_body("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id="ingest", part="00/01")
    return {name: hashlib.sha256(content).hexdigest() for name, content in (files | {"good_png": stacked}).items()}


SHOWN = {"pixels": "dead", "metadata": "no_bag", "history": "veritas-v-620-0042"}
"""Part of a suite to what its page must show: a scan that failed it, or a machine with too little history."""


def define(world: World, key: str, *patterns: str) -> None:
    line = ProductLine.model_validate(
        {
            "product_line": key,
            "title": key,
            "taxonomy": "1",
            "categories": ["knife"],
            "scanners": {"include": list(patterns)},
            "selection": {"budget_scans": 5},
        }
    )
    row = {"product_line": key, "version": line.version, "definition": line.model_dump(mode="json"), "is_active": True, "run_id": "setup"}
    with world.catalog.begin() as connection:
        connection.execute(sa.insert(product_lines).values(row))


def rows(world: World, table: sa.Table) -> list[dict[str, Any]]:
    with world.catalog.read() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]


def test_each_fault_is_named_and_everything_else_passes(world: World, run_body: Run, received: dict[str, str]) -> None:
    define(world, "cabin", "veritas-*")
    define(world, "hold", "argus-*")
    define(world, "cargo", "other-*")
    result = run_body("validation.run", validate_scans, run_id="check", lease="validation")
    assert result == {"validated": 4, "quarantined": len(FAULTS), "drifted_scanners": [], "product_lines": ["cabin", "hold"]}
    names = {scan_id: name for name, scan_id in received.items()}
    states = {names[row["scan_id"]]: row["state"] for row in rows(world, scans)}
    assert states == {name: "quarantined" if name in FAULTS else "validated" for name in received}
    failed: dict[str, list[str]] = {}
    for row in rows(world, scan_validations):
        failed.setdefault(names[row["scan_id"]], []).extend(row["failed"])
        assert row["success"] == (not row["failed"])
    assert {name: sorted(found) for name, found in failed.items()} == {
        name: sorted(FAULTS[name][1]) if name in FAULTS else [] for name in received
    }
    held = {names[row["quarantine_id"]]: row for row in rows(world, quarantine)}
    assert held.keys() == FAULTS.keys()
    for name, (_, checks) in FAULTS.items():
        assert (held[name]["stage"], held[name]["reason_code"]) == ("validation", "failed_validation")
        assert all(check in held[name]["reason"] for check in checks)
        assert held[name]["landing_key"] == f"south-terminal/0042/2026-03-01/{name}.dcs"
    counts = {row["suite"].rpartition("-")[0]: row["counts"] for row in rows(world, validation_results)}
    assert counts["projection-pixels"]["air_is_bright"] == 1
    assert counts["projection-metadata"]["failed_scans"] == 5


def test_data_docs_open_without_a_network(world: World, run_body: Run, received: dict[str, str]) -> None:
    run_body("validation.run", validate_scans, run_id="check", lease="validation")
    keys = [found.key for found in world.store.list("datadocs/check/")]
    assert "datadocs/check/index.html" in keys
    for row in rows(world, validation_results):
        assert row["docs_key"] in keys
        page = world.store.get(row["docs_key"]).decode()
        shown = next(name for part, name in SHOWN.items() if part in row["suite"])
        assert received.get(shown, shown) in page
    for key in [*keys, *(found.key for found in world.store.list("datadocs/scanners/")), "datadocs/latest/index.html"]:
        page = world.store.get(key).decode()
        assert not re.search(r"https?:", page)
        assert "/tmp/" not in page


def test_validating_again_finds_nothing_and_the_same_run_changes_nothing(world: World, run_body: Run, received: dict[str, str]) -> None:
    first = run_body("validation.run", validate_scans, run_id="check", lease="validation")
    before = [rows(world, table) for table in (scans, quarantine, validation_results, scan_validations, audit_log)]
    assert run_body("validation.run", validate_scans, run_id="check", lease="validation", attempt=2) == first
    assert [rows(world, table) for table in (scans, quarantine, validation_results, scan_validations, audit_log)] == before
    with pytest.raises(NothingToDo, match="no scan waits"):
        run_body("validation.run", validate_scans, run_id="later", lease="validation")


def test_the_same_run_writes_the_same_pages(world: World, run_body: Run, received: dict[str, str]) -> None:
    pages = []

    def stop_before_the_receipt(run: Any) -> dict[str, Any]:
        validate_scans(run)
        pages.append({found.key: world.store.get(found.key) for found in world.store.list("datadocs/")})
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_body("validation.run", stop_before_the_receipt, run_id="check", lease="validation")
    assert pages[0] == pages[1]


def test_a_released_scan_is_read_and_checked_again(world: World, run_body: Run, received: dict[str, str]) -> None:
    run_body("validation.run", validate_scans, run_id="check", lease="validation")
    scan_id = received["weak"]
    run_body("quarantine.release", lambda run: release(run, scan_id), run_id="let-out")
    result = run_body("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id="ingest-2", part="00/01")
    assert result["reread"] == 1
    assert next(row["state"] for row in rows(world, scans) if row["scan_id"] == scan_id) == "received"
    assert run_body("validation.run", validate_scans, run_id="check-2", lease="validation")["quarantined"] == 1
    assert next(row["state"] for row in rows(world, quarantine) if row["quarantine_id"] == scan_id) == "held"
    assert next(row["state"] for row in rows(world, scans) if row["scan_id"] == scan_id) == "quarantined"


def test_a_check_that_cannot_be_evaluated_lets_nothing_pass(world: World, received: dict[str, str], tmp_path: Any) -> None:
    with world.catalog.read() as connection:
        one = dict(connection.execute(sa.select(scans)).first()._mapping) | {"manufacturer": "a", "model": "b", "serial": "c"}
    typo = Suite("broken", (Check("no_such_column", "never", "ExpectColumnValuesToNotBeNull", {"column": "no_such_column"}),))
    with pytest.raises(ScanloopError, match="no_such_column of suite broken cannot be evaluated"):
        expectations.run_suites(scan_frame([scan_record(one)]), (typo,), "r", tmp_path / "docs")


def test_suites_are_versioned_by_their_content() -> None:
    suites = [part for suite in scanner_suites() for part in suite.suites]
    assert len({suite.full_name for suite in suites}) == len(suites)
    changed = Suite(suites[0].name, suites[0].checks[1:])
    assert changed.version != suites[0].version
