"""A simulated fleet in a real catalog: machines with a history, healthy or with a defect, and what validation makes of their next delivery.

Bags are projected once for each scanner model; pictures are made by detectors that are detuned; a machine draws its scans from those of its model.
Healthy machines are not all alike: each has its own dead elements from the works, and on each day its own gain, a few tenths of a percent off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import lgamma, log
from typing import Any

import numpy as np
import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import bags, quarantine, scanners, scans, sites
from scanloop.scans.content import scanner_id
from scanloop.scans.planes import scale_to_16_bits
from scanloop.scans.statistics import plane_statistics
from scanloop.simulator.bags import simulate_bag
from scanloop.simulator.defects import Defects, detect_detuned
from scanloop.simulator.projection import attenuation
from scanloop.simulator.scanners import SCANNER_MODELS

HEALTHY = Defects()
DAYS = (-0.006, -0.003, 0.0, 0.003, 0.006)
"""Gains of healthy days, relative; the middle ones are more frequent."""
_DAY_SHARES = (0.06, 0.24, 0.4, 0.24, 0.06)
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
_SITE = {"site_id": "fleet", "name": "fleet", "run_id": "fleet"}
_FIGURES = ("mean", "air_mean", "air_peak", "air_noise")


@dataclass(frozen=True)
class FleetMachine:
    """One machine of the fleet."""

    number: int
    """Tells it from others."""
    model: int
    """Index of its model."""
    defects: Defects = HEALTHY
    """What is wrong with it in its last delivery."""
    label: str = "healthy"
    """How its defect is called."""

    @property
    def scanner_id(self) -> str:
        """Its id in the catalog."""
        model = SCANNER_MODELS[self.model]
        return scanner_id(model.manufacturer, model.model, f"F{self.number:05d}")


@cache
def _attenuations(model: int, bag: int) -> tuple[np.ndarray, np.ndarray]:
    """Both views of a bag, (E, H, W). Every other bag has a threat."""
    made = simulate_bag(1000 + bag, clean_fraction=float(bag % 2 == 0))
    scanner = SCANNER_MODELS[model]
    top, side = (attenuation((part for thing in made.things for part in thing.parts), view, scanner.energies_kev) for view in scanner.views)
    return top, side


@cache
def figures(model: int, bag: int, defects: Defects, day: float = 0.0) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Statistics of both views of a bag, of a machine with defects on a day with this gain, measured in the detuned pixels."""
    of_day, scanner = replace(defects, gain=defects.gain * (1 + day)), SCANNER_MODELS[model]
    found = []
    for view, attenuations in enumerate(_attenuations(model, bag)):
        planes = detect_detuned(attenuations, scanner, of_day, [model, bag, view, round(1e4 * day) % 1000], [77, view])
        found.append({name: plane_statistics(scale_to_16_bits(pixels, scanner.bits)).as_dict() for name, pixels in planes.items()})
    return found[0], found[1]


def add_machines(catalog: Catalog, machines: Sequence[FleetMachine]) -> None:
    """Their rows, without scans."""
    rows = []
    for one in machines:
        model = SCANNER_MODELS[one.model]
        rows.append({"scanner_id": one.scanner_id, "site_id": "fleet", "manufacturer": model.manufacturer, "model": model.model})
        rows[-1] |= {"serial": f"F{one.number:05d}", "run_id": "fleet"}
    with catalog.begin() as connection:
        if connection.execute(sa.select(sites).where(sites.c.site_id == "fleet")).first() is None:
            connection.execute(sa.insert(sites).values(_SITE))
            connection.execute(sa.insert(bags).values({"bag_id": "fleet/x/0", "site_id": "fleet", "run_id": "fleet"}))
        connection.execute(sa.insert(scanners), rows)


@dataclass(frozen=True)
class Delivery:
    """What a machine delivers on some days."""

    days: int
    """Days, one after the other."""
    bags_a_day: int
    """Bags on each."""
    first_day: int
    """Which day it begins on."""
    state: str = "received"
    """received, or validated for a history."""
    only_threats: bool = False
    """Whether every bag has a threat."""
    fall: float = 0.0
    """Relative fall of gain, put on the figures: below saturation they scale with it."""


def deliver(catalog: Catalog, machines: Iterable[FleetMachine], delivery: Delivery, *, pool: int, seed: int) -> int:
    """Write scans of each machine as intake would have, bags drawn from the first `pool` of its model. Returns how many scans."""
    rows: list[dict[str, Any]] = []
    for one in machines:
        rows += _scans(one, delivery, pool, np.random.default_rng([seed, one.number, delivery.first_day]))
    with catalog.begin() as connection:
        for start in range(0, len(rows), 2000):
            connection.execute(sa.insert(scans), rows[start : start + 2000])
    return len(rows)


def _scans(one: FleetMachine, delivery: Delivery, pool: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    defects = one.defects if delivery.state == "received" else HEALTHY
    from_the_works = int(np.random.default_rng([3, one.number]).poisson(0.4))
    threats = [bag for bag in range(pool) if bag % 2] if delivery.only_threats else list(range(pool))
    made = []
    for day in range(delivery.first_day, delivery.first_day + delivery.days):
        # Pictures with a defect are made for the three usual days only: each of them costs a detector's time.
        gain = float(rng.choice(DAYS, p=_DAY_SHARES)) if defects == HEALTHY else float(rng.choice(DAYS[1:4]))
        for bag in range(delivery.bags_a_day):
            both = figures(one.model, int(rng.choice(threats)), defects, gain)
            at = START + timedelta(days=day, minutes=4 * bag)
            made += [_row(one, view, found, at, from_the_works, 1 - delivery.fall, delivery.state) for view, found in enumerate(both)]
    return made


def _row(
    one: FleetMachine, view: int, found: dict[str, dict[str, Any]], at: datetime, dead: int, factor: float, state: str
) -> dict[str, Any]:
    model = SCANNER_MODELS[one.model]
    geometry = model.views[view]
    digest = hashlib.sha256(f"{one.scanner_id}/{at.isoformat()}/{view}".encode()).hexdigest()
    statistics = {name: _adjusted(plane, dead, factor) for name, plane in found.items()}
    attributes: dict[str, Any] = {"delivered_site": "fleet", "missing": [], "software": model.software}
    if model.file_format.startswith("dicos"):
        attributes |= {"calibrated_on": "20260104", "object_type": "BAGGAGE"}
    plane = {"height_px": geometry.rows_px, "width_px": geometry.columns_px, "bits": model.bits}
    return {
        "scan_id": digest,
        "site_id": "fleet",
        "scanner_id": one.scanner_id,
        "bag_id": "fleet/x/0",
        "view_name": geometry.name,
        "modality": "DX",
        "source_format": "dicos",
        "acquired_at": at + timedelta(seconds=view),
        "scan_type": "operational",
        "raw_key": f"scans/raw/{digest}",
        "planes_key": f"scans/planes/{digest}",
        "planes": [{"name": name, **plane} for name in found],
        "attributes": attributes,
        "statistics": statistics,
        "phash": "0" * 16,
        "state": state,
        "run_id": "fleet",
    }


def _adjusted(plane: dict[str, Any], dead: int, factor: float) -> dict[str, Any]:
    scaled = {name: round(plane[name] * factor, 6) for name in _FIGURES} if factor != 1 else {}
    lines = {} if plane["is_blank"] else {"dead_rows": plane["dead_rows"] + dead}
    return {**plane, **scaled, **lines}


def held_shares(catalog: Catalog, since: datetime) -> dict[str, tuple[int, int, int]]:
    """Scanner to its scans since a moment, those that are held, and those of them that are held for what they failed themselves."""
    own = sa.func.count().filter(quarantine.c.reason_code == "failed_validation")
    held = sa.func.count().filter(scans.c.state == "quarantined")
    query = sa.select(scans.c.scanner_id, sa.func.count(), held, own).outerjoin(quarantine, quarantine.c.quarantine_id == scans.c.scan_id)
    with catalog.read() as connection:
        rows = connection.execute(query.where(scans.c.acquired_at >= since).group_by(scans.c.scanner_id))
        return {scanner: (total, count, own) for scanner, total, count, own in rows}


def interval(hits: int, tries: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval. Source: Clopper and Pearson, Biometrika 26 (1934) 404."""
    tail = (1 - confidence) / 2
    return (
        0.0 if hits == 0 else _solve(lambda p: 1 - _below(hits - 1, tries, p), tail),
        1.0 if hits == tries else _solve(lambda p: 1 - _below(hits, tries, p), 1 - tail),
    )


def _below(most: int, tries: int, p: float) -> float:
    """Probability of at most `most` hits."""
    ways = [lgamma(tries + 1) - lgamma(k + 1) - lgamma(tries - k + 1) for k in range(most + 1)]
    return float(sum(np.exp([way + k * log(p) + (tries - k) * log(1 - p) for k, way in enumerate(ways)])))


def _solve(rising: Any, value: float) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return low
