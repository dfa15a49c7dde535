"""A machine that drifts, is held, is calibrated and let out again: real files, the real order of jobs. And what must not happen to its history."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fleet_world import Delivery, FleetMachine, add_machines, deliver

from scanloop.catalog import Catalog
from scanloop.catalog.tables import audit_log, quarantine, scan_validations, scans, validation_results
from scanloop.cli.main import run as cli
from scanloop.cli.options import World
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.intake.landing import Shard
from scanloop.intake.shard import ingest_shard
from scanloop.simulator.acquisition import Acquisition, machine_at
from scanloop.simulator.bags import simulate_bag
from scanloop.simulator.defects import Defects, detuned
from scanloop.simulator.detector import simulate_scan
from scanloop.simulator.exports import export
from scanloop.store import open_store
from scanloop.validation.baselines import Wanted, pasts
from scanloop.validation.run import validate_scans
from scanloop.validation.watch import check_arrivals, note_service, release_machine

Run = Callable[..., dict[str, Any]]
MACHINE = machine_at(1, 1)
"""Okari LineScan 200: PNG with a sidecar, which does not name the day of calibration."""
SCANNER = "okari-linescan-200-ok1111"
DAY = datetime(2026, 3, 2, 8, tzinfo=UTC)


def send(world: World, bags: range, day: int, defects: Defects) -> None:
    """Deliver the top views of some bags as files, from a machine with defects."""
    landing = open_store(world.settings.landing_url)
    for bag in bags:
        at = DAY + timedelta(days=day, minutes=3 * bag)
        acquisition = Acquisition(MACHINE, f"{bag:010d}", "top", 1, at, at)
        scan = simulate_scan(simulate_bag(bag), detuned(MACHINE.scanner, defects), 0, 900 + bag, MACHINE.elements_seed)
        file = export(scan, acquisition)
        key = f"{MACHINE.site}/{MACHINE.serial}/{at:%Y-%m-%d}/{file.name}"
        landing.put(f"{key}.json", file.sidecar or b"")
        landing.put(key, file.content)


def receive_and_validate(run_body: Run, name: str) -> dict[str, Any]:
    run_body("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id=f"in-{name}", part="00/01")
    return run_body("validation.run", validate_scans, run_id=f"check-{name}", lease="validation")


def states(catalog: Catalog) -> dict[str, int]:
    with catalog.read() as connection:
        return dict(connection.execute(sa.select(scans.c.state, sa.func.count()).group_by(scans.c.state)).all())


def test_a_drifted_machine_is_held_until_it_is_serviced_and_its_scans_are_let_out(
    world: World, run_body: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    send(world, range(20), 0, Defects())
    assert receive_and_validate(run_body, "a") == {"validated": 20, "quarantined": 0, "drifted_scanners": [], "product_lines": []}

    send(world, range(20, 26), 1, Defects(gain=0.95))
    assert receive_and_validate(run_body, "b") == {"validated": 0, "quarantined": 6, "drifted_scanners": [SCANNER], "product_lines": []}
    with world.catalog.read() as connection:
        held = connection.execute(sa.select(quarantine)).all()
        result = connection.execute(
            sa.select(validation_results).where(validation_results.c.scope == SCANNER, ~validation_results.c.success)
        ).one()
        per_scan = connection.execute(sa.select(scan_validations).where(scan_validations.c.validation_id == result.validation_id)).all()
    assert {row.reason_code for row in held} == {"scanner_drifted"}
    assert "gain_holds (expected: the level of air is within 2 % of the machine's last scans; found: top high 0.9" in held[0].reason
    assert " instead of 0.98" in held[0].reason
    assert result.failed == ["gain_holds", "gain_holds_since_calibration"]
    assert {(row.success, tuple(row.failed)) for row in per_scan} == {(False, ("gain_holds", "gain_holds_since_calibration"))}
    page = world.store.get(f"datadocs/scanners/{SCANNER}.html").decode()
    assert page.count('<circle class="held"') == 6 * 3 * 2
    assert "has drifted" in page
    assert f"../scanners/{SCANNER}.html" in world.store.get("datadocs/latest/index.html").decode()

    send(world, range(26, 30), 2, Defects(gain=0.95))
    assert receive_and_validate(run_body, "c")["quarantined"] == 4, "held scans are no history: it stays held"

    with pytest.raises(NothingToDo, match="No scan is held because the scanner 'other'"):
        run_body("quarantine.release", lambda run: release_machine(run, "other"), run_id="let-none")
    released = run_body("quarantine.release", lambda run: release_machine(run, SCANNER), run_id="let-out")
    assert released == {"scanner_id": SCANNER, "released": 10}
    assert receive_and_validate(run_body, "d") == {"validated": 10, "quarantined": 0, "drifted_scanners": [], "product_lines": []}

    send(world, range(30, 36), 3, Defects(gain=0.95))
    assert receive_and_validate(run_body, "e")["drifted_scanners"] == [SCANNER], "scans that were let out are no history either"

    with pytest.raises(WrongArguments, match="No scanner 'other'"):
        run_body("validation.serviced", lambda run: note_service(run, "other", DAY, "x"), run_id="s-0")
    run_body("validation.serviced", lambda run: note_service(run, SCANNER, DAY + timedelta(days=4), "new source"), run_id="s-1")
    send(world, range(36, 42), 4, Defects(gain=0.95))
    after = receive_and_validate(run_body, "f")
    assert (after["quarantined"], after["drifted_scanners"]) == (0, []), "5 % after a service is within what a new source may differ by"

    monkeypatch.setenv("SCANLOOP_HOME", str(world.settings.home))
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", world.settings.database_url)
    assert cli(["validation", "scanners", "--json"]) == 0
    (line,) = (json.loads(each) for each in capsys.readouterr().out.splitlines())
    assert (line["scanner_id"], line["state"], line["history"], line["dead_lines"]) == (SCANNER, "steady", 20, 1)
    assert cli(["validation", "show", "check-b", "--json"]) == 0
    shown = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert {row["suite"].rpartition("-")[0] for row in shown} == {
        f"okari_linescan_200-{part}" for part in ("metadata", "pixels", "history")
    }
    assert cli(["validation", "show", "no-such-run"]) == 64
    assert cli(["quarantine", "release"]) == 64
    monkeypatch.setenv("COLUMNS", "80")
    assert cli(["validation", "scanners"]) == 0
    first_cells = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert "".join(first_cells) == SCANNER, "an id that is cut off cannot be handed to another command"
    assert cli(["validation", "scanners", "--state", "drfted"]) == 64
    assert cli(["validation", "serviced", "--scanner", SCANNER, "--since", "2026-03-06", "--because", " "]) == 64
    assert cli(["quarantine", "show", held[0].quarantine_id]) == 0
    assert "the scanner that made it had drifted" in capsys.readouterr().out


@pytest.fixture
def machine(world: World) -> FleetMachine:
    """A machine with forty days of history."""
    one = FleetMachine(1, 2)
    add_machines(world.catalog, [one])
    deliver(world.catalog, [one], Delivery(14, 3, 0, "validated"), pool=4, seed=5)
    return one


def validated(run_body: Run, name: str) -> list[str]:
    return run_body("validation.run", validate_scans, run_id=name, lease="validation")["drifted_scanners"]


def test_a_fall_too_slow_for_the_last_scans_is_caught_since_calibration(world: World, run_body: Run, machine: FleetMachine) -> None:
    caught = []
    for step in range(1, 9):
        deliver(world.catalog, [machine], Delivery(3, 8, 14 + 3 * step, fall=0.005 * step), pool=4, seed=6)
        if validated(run_body, f"step-{step}"):
            caught.append(step)
            break
    assert caught, "a fall of 4 % in all was never seen"
    assert 0.005 * caught[0] <= 0.035
    with world.catalog.read() as connection:
        failed = connection.scalars(sa.select(validation_results.c.failed).where(~validation_results.c.success)).all()
    assert failed == [["gain_holds_since_calibration"]]


def test_one_odd_bag_is_held_alone(world: World, run_body: Run, machine: FleetMachine) -> None:
    deliver(world.catalog, [machine], Delivery(1, 6, 20), pool=4, seed=7)
    with world.catalog.begin() as connection:
        scan_id, figures = connection.execute(sa.select(scans.c.scan_id, scans.c.statistics).where(scans.c.state == "received")).first()
        odd = {name: plane | {"air_peak": 0.8, "dead_rows": 6} for name, plane in figures.items()}
        connection.execute(sa.update(scans).where(scans.c.scan_id == scan_id).values(statistics=odd))
    result = run_body("validation.run", validate_scans, run_id="odd", lease="validation")
    assert (result["validated"], result["quarantined"], result["drifted_scanners"]) == (11, 1, [])
    with world.catalog.read() as connection:
        (row,) = connection.execute(sa.select(quarantine)).all()
    assert (row.quarantine_id, row.reason_code) == (scan_id, "failed_validation")
    assert row.reason.startswith("air_is_as_usual (expected: the level of air is within 6 %")


@pytest.mark.parametrize("year", [1970, 2001, 2099])
def test_a_bag_made_while_the_clock_was_wrong_does_not_hide_a_drift(world: World, run_body: Run, machine: FleetMachine, year: int) -> None:
    deliver(world.catalog, [replace(machine, defects=Defects(gain=0.97))], Delivery(1, 6, 20), pool=4, seed=7)
    with world.catalog.begin() as connection:
        waiting = sa.select(scans.c.scan_id).where(scans.c.state == "received").order_by(scans.c.acquired_at)
        both_views = list(connection.scalars(waiting.limit(2)))
        wrong = {"acquired_at": datetime(year, 1, 1, tzinfo=UTC)}
        connection.execute(sa.update(scans).where(scans.c.scan_id.in_(both_views)).values(wrong))
    assert validated(run_body, "clock") == [machine.scanner_id]
    assert states(world.catalog) == {"validated": 84, "quarantined": 12}


def test_a_machine_that_delivers_two_scans_at_a_time_is_caught_after_a_few(world: World, run_body: Run, machine: FleetMachine) -> None:
    worn = replace(machine, defects=Defects(gain=0.96, dead_rows=3))
    drifted = []
    for step in range(4):
        deliver(world.catalog, [worn], Delivery(1, 1, 20 + step), pool=4, seed=8)
        drifted.append(bool(validated(run_body, f"few-{step}")))
    assert drifted == [False, False, True, True], "the median of five scans tips with the third"


def test_the_same_catalog_gives_the_same_decision_in_one_run_or_two(world: World, run_body: Run, machine: FleetMachine) -> None:
    worn = replace(machine, defects=Defects(dead_columns=4))
    deliver(world.catalog, [worn], Delivery(1, 6, 20), pool=4, seed=9)
    first = run_body("validation.run", validate_scans, run_id="once", lease="validation")
    with world.catalog.read() as connection:
        before = [connection.execute(sa.select(table)).all() for table in (scans, quarantine, validation_results, audit_log)]
    assert run_body("validation.run", validate_scans, run_id="once", lease="validation", attempt=2) == first
    with world.catalog.read() as connection:
        assert [connection.execute(sa.select(table)).all() for table in (scans, quarantine, validation_results, audit_log)] == before


def test_a_history_ends_where_the_judged_scans_begin_and_at_a_calibration(world: World, machine: FleetMachine) -> None:
    with world.catalog.begin() as connection:
        days = sorted({at.date() for at in connection.scalars(sa.select(scans.c.acquired_at))})
        for scan_id, at, attributes in connection.execute(sa.select(scans.c.scan_id, scans.c.acquired_at, scans.c.attributes)).all():
            said = attributes | {"calibrated_on": f"{days[9 if at.date() >= days[9] else 0]:%Y%m%d}"}
            connection.execute(sa.update(scans).where(scans.c.scan_id == scan_id).values(attributes=said))
    before = datetime.combine(days[12], datetime.min.time(), UTC)
    ((_, past),) = pasts(world.catalog, [Wanted(machine.scanner_id, "top", "DX", before, f"{days[9]:%Y%m%d}")])
    assert {point.at.date() for point in past.recent} == set(days[9:12])
    assert {point.at.date() for point in past.reference} == set(days[9:12])
    assert {point.at.date() for point in past.earlier} == set(days[:9])
    assert [point.at for point in past.recent] == sorted(point.at for point in past.recent)


def test_arrivals_are_noted_when_they_change_and_hold_nothing_back(world: World, run_body: Run, machine: FleetMachine) -> None:
    def look(name: str, at: datetime) -> dict[str, Any]:
        return run_body("validation.arrivals", lambda run: check_arrivals(run, at), run_id=name, lease="arrivals")

    last = datetime(2026, 1, 18, 7, tzinfo=UTC)
    assert look("first", last)["changed"] == [machine.scanner_id]
    with pytest.raises(NothingToDo, match="deliver as they did"):
        look("second", last)
    later = look("third", last + timedelta(days=6))
    assert (later["silent"], later["findings"]) == (1, [machine.scanner_id])
    with world.catalog.read() as connection:
        row = connection.execute(sa.select(validation_results).where(~validation_results.c.success)).one()
    assert (row.scope, row.failed, row.counts["state"]) == (machine.scanner_id, ["is_not_silent"], "silent")
    assert row.counts["expected"] > 9
    page = world.store.get(row.docs_key).decode()
    assert "http" not in page
    assert machine.scanner_id in page
    assert "silent" in world.store.get("datadocs/latest/arrivals.html").decode()
    assert states(world.catalog) == {"validated": 84}
    assert look("fourth", last + timedelta(days=60))["gone"] == 1


def test_folders_of_pages_are_those_of_the_run(world: World, run_body: Run, machine: FleetMachine, tmp_path: Path) -> None:
    deliver(world.catalog, [machine], Delivery(1, 3, 20), pool=4, seed=9)
    validated(run_body, "pages")
    run_page = world.store.get("datadocs/pages/index.html").decode()
    links = [part.split('"')[0] for part in run_page.split('href="')[1:]]
    assert links
    for link in links:
        key = str(Path("/datadocs/pages", link).resolve().relative_to("/"))
        assert world.store.head(key), link


def test_a_history_is_found_by_an_index_however_many_scans_there_are(world: World, machine: FleetMachine) -> None:
    """The plan of the very query, with statistics that make reading the table the worst choice by far."""
    queries: list[tuple[str, Any]] = []
    sa.event.listen(world.catalog.engine, "before_cursor_execute", lambda c, cursor, text, given, *_: queries.append((text, given)))
    list(pasts(world.catalog, [Wanted(machine.scanner_id, view, "DX", DAY, "20260104") for view in ("top", "side")]))
    asked = [(text, given) for text, given in queries if "LATERAL" in text]
    assert len(asked) == 3
    with world.catalog.begin() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        for text, given in asked:
            plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {text}", given).scalars())
            assert "ix_scans_state_machine" in plan, plan
            assert "acquired_at >= " in plan.split("Index Cond", 1)[1].split("\n", 1)[0], plan
