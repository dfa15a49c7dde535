"""How often validation catches a detuned scanner, and how often it holds a healthy one: rates with exact intervals, against limits.

    .venv/jobs/bin/python benchmarks/validation_rates.py [--machines 40] [--healthy 400] [--bags 8] [--seed 1] [--defects noise,banding]

A fleet of simulated scanners of four models has a history of ten days. Each delivers one batch of 3 to 10 bags (two views), most of them with one
defect of one size, and the real job validates what came, on a real catalog, with Great Expectations. Bags are projected once for each model; every
picture is made by a detector as it is then, and measured as intake does. Healthy scanners differ from day to day by up to 0.6 % of gain, and have
dead elements from the works; half of the healthy ones get bags with threats only. A defect is caught when at least half of the batch is held.

slow     Gain that falls by so much in all over eight weeks, evenly, one batch a week: caught when a batch is held, at the fall printed behind it.

Limits: 95 % of the batches caught of each size that is marked; 1 % of healthy batches held; 0.5 % of healthy scans held. Exits 1 if one is missed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from scanloop.simulator.defects import named_defects
from scanloop.simulator.scanners import SCANNER_MODELS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
CAUGHT_LIMIT, BATCH_LIMIT, SCAN_LIMIT = 0.95, 0.01, 0.005
MATTERS = {
    "gain falls": ("3%", "5%", "10%", "20%"),
    "gain rises": ("3%", "10%"),
    "dead rows": ("2", "4", "8"),
    "dead columns": ("2", "4", "8"),
    "noise": ("x 1.5", "x 2", "x 3"),
    "banding": ("1.0%", "2.0%"),
    "low energy lost": ("whole",),
    "no beam": ("whole",),
    "slow fall": ("5%", "10%"),
}
"""Sizes that must be caught; the others show where the limit lies."""
HISTORY_DAYS, WEEKS = 10, 8
CROWDED = SCANNER_MODELS[1]
"""The model whose air lies within one and a half standard deviations of full scale."""
NEED_HEADROOM = ("noise", "banding")
"""Defects that widen the peak of air: not to be seen where full scale cuts it off. Printed apart for that model, whose suite only warns of them."""


def main() -> None:
    """Build the fleet, validate, print."""
    from fleet_world import START, Delivery, FleetMachine, add_machines, deliver, held_shares

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=40, help="Scanners with each defect of each size.")
    parser.add_argument("--healthy", type=int, default=400, help="Healthy scanners.")
    parser.add_argument("--bags", type=int, default=8, help="Different bags of each model.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--defects", default=",".join((*named_defects(), "slow fall")), help="Only these.")
    chosen = parser.parse_args()
    logging.getLogger("scanloop").setLevel(logging.ERROR)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scanloop-bench-") as name:
        world = Bench(Path(name))
        groups: dict[tuple[str, str], list[FleetMachine]] = {}
        number = 0

        def machines(count: int, label: str, **about: Any) -> list[FleetMachine]:
            nonlocal number
            made = [FleetMachine(number + index, index % 4, label=label, **about) for index in range(count)]
            number += count
            return made

        only = chosen.defects.split(",")
        for defect, sizes in named_defects().items():
            for size, defects in sizes if defect in only else ():
                groups[defect, size] = machines(chosen.machines, defect, defects=defects)
        healthy = machines(chosen.healthy, "healthy")
        slow = {fall: machines(chosen.machines, "slow fall") for fall in (0.01, 0.02, 0.03, 0.05, 0.10) if "slow fall" in only}
        everyone = [
            *(one for members in groups.values() for one in members),
            *healthy,
            *(one for members in slow.values() for one in members),
        ]
        add_machines(world.catalog, everyone)
        history = Delivery(HISTORY_DAYS, 3, 0, "validated")
        count = deliver(world.catalog, everyone, history, pool=chosen.bags, seed=chosen.seed)
        print(f"{len(everyone)} scanners, {count} scans of history, {time.monotonic() - began:.0f} s", flush=True)

        judged = [one for members in groups.values() for one in members] + healthy
        count = 0
        for one in judged:
            batch = Delivery(1, 3 + one.number % 8, HISTORY_DAYS, only_threats=one.label == "healthy" and one.number % 2 == 1)
            count += deliver(world.catalog, [one], batch, pool=chosen.bags, seed=chosen.seed)
        started = time.monotonic()
        drifted = world.validate("batch")
        print(f"{count} scans validated in {time.monotonic() - started:.0f} s", flush=True)
        shares = held_shares(world.catalog, START + timedelta(days=HISTORY_DAYS))
        table = Table()
        for (defect, size), members in groups.items():
            for label, is_crowded in ((defect, False), (f"{defect}, {CROWDED.model}", True)):
                held = [shares[one.scanner_id] for one in members if defect not in NEED_HEADROOM or is_crowded == _is_crowded(one)]
                if held and (defect in NEED_HEADROOM or not is_crowded):
                    table.caught(label, size, sum(2 * row[1] >= row[0] for row in held), len(held))
        caught_slow(world, slow, chosen.bags, chosen.seed, table)
        own = [shares[one.scanner_id] for one in healthy]
        table.healthy("healthy batches held as drifted", sum(one.scanner_id in drifted for one in healthy), len(healthy), BATCH_LIMIT)
        with_threats = [one for one in healthy if one.number % 2 == 1]
        table.healthy(
            "  of them, every bag with a threat", sum(one.scanner_id in drifted for one in with_threats), len(with_threats), BATCH_LIMIT
        )
        table.healthy("healthy scans held for themselves", sum(row[2] for row in own), sum(row[0] for row in own), SCAN_LIMIT)
    print(f"{time.monotonic() - began:.0f} s in all")
    print("limits missed: " + ", ".join(table.missed) if table.missed else "every limit kept")
    sys.exit(bool(table.missed))


def _is_crowded(one: Any) -> bool:
    return SCANNER_MODELS[one.model] is CROWDED


def caught_slow(world: Bench, slow: dict[float, list[Any]], bags: int, seed: int, table: Table) -> None:
    """Let gain fall week by week and print how many were held, and at which fall."""
    from fleet_world import Delivery, deliver

    at: dict[float, dict[str, float]] = {fall: {} for fall in slow}
    for week in range(1, WEEKS + 1) if slow else ():
        for fall, members in slow.items():
            left = [one for one in members if one.scanner_id not in at[fall]]
            deliver(world.catalog, left, Delivery(1, 8, HISTORY_DAYS + 7 * week, fall=fall * week / WEEKS), pool=bags, seed=seed)
        drifted = world.validate(f"week-{week}")
        for fall, members in slow.items():
            at[fall] |= {
                one.scanner_id: fall * week / WEEKS for one in members if one.scanner_id in drifted and one.scanner_id not in at[fall]
            }
    for fall, members in slow.items():
        note = f"held at a fall of {median(at[fall].values()):.1%}" if at[fall] else ""
        table.caught("slow fall", f"{fall:.0%}", len(at[fall]), len(members), note)


class Table:
    """Rates as they become known, and the limits they miss."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        print(f"{'defect':<34} {'size':>6} {'caught':>10}  {'95 % interval':<16} limit")

    def caught(self, defect: str, size: str, hits: int, tries: int, note: str = "") -> None:
        """One size of one defect."""
        matters = size in MATTERS.get(defect, ())
        self._line(defect, size, hits, tries, f">= {CAUGHT_LIMIT:.0%}" if matters else "-", note)
        if matters and hits < CAUGHT_LIMIT * tries:
            self.missed.append(f"{defect} {size}")

    def healthy(self, label: str, hits: int, tries: int, limit: float) -> None:
        """What should not have been held."""
        self._line(label, "", hits, tries, f"<= {limit:.1%}", "")
        if hits > limit * tries:
            self.missed.append(label)

    def _line(self, label: str, size: str, hits: int, tries: int, limit: str, note: str) -> None:
        from fleet_world import interval

        low, high = interval(hits, tries)
        print(f"{label:<34} {size:>6} {f'{hits}/{tries}':>10}  {f'{low:.1%} - {high:.1%}':<16} {limit} {note}".rstrip(), flush=True)


class Bench:
    """An empty deployment."""

    def __init__(self, folder: Path) -> None:
        from scanloop.catalog import Catalog
        from scanloop.catalog.embedded import serve_embedded
        from scanloop.catalog.migrate import migrate
        from scanloop.settings import Settings
        from scanloop.store import open_store

        url = serve_embedded(folder / "postgres", "rates")
        self.catalog = Catalog(url)
        migrate(self.catalog)
        self.settings = Settings(home=folder / "home", database_url=url)
        self.store = open_store(self.settings.store_url)

    def validate(self, run_id: str) -> set[str]:
        """Run the job; returns the scanners it held."""
        from scanloop.execution import RunIdentity, execute
        from scanloop.validation.run import validate_scans

        identity = RunIdentity(run_id, "validation.run", actor="benchmark")
        result = execute(validate_scans, identity, settings=self.settings, store=self.store, catalog=self.catalog, lease="validation")
        return set(result["drifted_scanners"])


if __name__ == "__main__":
    main()
