"""Detuned machines are caught, healthy ones are not: the real job over a small simulated fleet. benchmarks/validation_rates.py does it at size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from fleet_world import HEALTHY, START, Delivery, FleetMachine, add_machines, deliver, held_shares, interval

from scanloop.catalog.tables import quarantine, validation_results
from scanloop.cli.options import World
from scanloop.simulator.defects import Defects
from scanloop.validation.run import validate_scans

Run = Callable[..., dict[str, Any]]
POOL = 8
CAUGHT = {
    "gain -5 %": Defects(gain=0.95),
    "gain -20 %": Defects(gain=0.8),
    "4 dead rows": Defects(dead_rows=4),
    "2 dead columns": Defects(dead_columns=2),
    "noise x 2": Defects(noise=2.0),
    "banding 2 %": Defects(banding=0.02),
    "low energy lost": Defects(lost_plane="low"),
    "no beam": Defects(is_blank=True),
    "saturated": Defects(gain=1.1),
}
MACHINES = [
    *(FleetMachine(number, number % 2 * 3) for number in range(16)),
    *(FleetMachine(100 + number, number % 2 * 3, defects, label) for number, (label, defects) in enumerate(CAUGHT.items())),
]
"""Machines of two models, DICOS of 16 bits and PNG. The first eight, healthy, get bags with threats only."""


@pytest.fixture(scope="module")
def last_day() -> Any:
    return START.replace(day=START.day + 8)


def test_each_defect_is_caught_and_no_healthy_machine_is(world: World, run_body: Run, last_day: Any) -> None:
    add_machines(world.catalog, MACHINES)
    deliver(world.catalog, MACHINES, Delivery(8, 4, 0, "validated"), pool=POOL, seed=1)
    deliver(world.catalog, MACHINES[8:], Delivery(1, 4, 8), pool=POOL, seed=1)
    deliver(world.catalog, MACHINES[:8], Delivery(1, 4, 8, only_threats=True), pool=POOL, seed=1)
    result = run_body("validation.run", validate_scans, run_id="check", lease="validation")
    shares = held_shares(world.catalog, last_day)
    for one in MACHINES:
        total, held, own = shares[one.scanner_id]
        assert total == 8
        if one.defects == HEALTHY:
            assert (held, own) == (0, 0), one.scanner_id
        else:
            assert held == 8, f"{one.label}: {held} of {total} held"
    assert set(result["drifted_scanners"]) >= {one.scanner_id for one in MACHINES if "row" in one.label or "gain" in one.label}
    with world.catalog.read() as connection:
        rows = connection.execute(sa.select(quarantine.c.reason_code, quarantine.c.reason)).all()
        states = dict(
            connection.execute(
                sa.select(validation_results.c.scope, validation_results.c.counts["state"].astext).where(
                    validation_results.c.suite.contains("history")
                )
            ).all()
        )
    fallen = next(reason for _, reason in rows if "gain_holds" in reason and "scanner has drifted" in reason)
    assert "expected: the level of air is within 2 % of the machine's last scans; found: side high 0." in fallen
    assert {one.scanner_id: states[one.scanner_id] == "drifted" for one in MACHINES} == {
        one.scanner_id: one.defects != HEALTHY and one.scanner_id in result["drifted_scanners"] for one in MACHINES
    }


def test_the_bounds_of_a_rate_are_exact() -> None:
    assert interval(0, 59)[1] == pytest.approx(1 - 0.025 ** (1 / 59), abs=1e-9)
    assert interval(59, 59)[0] == pytest.approx(0.025 ** (1 / 59), abs=1e-9)
    assert interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
