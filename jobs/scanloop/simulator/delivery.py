"""Deliveries as sites make them: bag after bag, sidecar before picture, and in every round the three accidents that real sites have.

The accidents: one file arrives twice under different names, one arrives cut off (its whole twin comes too), and a text file strays in.
Ground truth goes to a store of its own, under the digest of the delivered file, for the simulated annotators and for tests; nothing else reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from scanloop.errors import WrongArguments
from scanloop.simulator.acquisition import Acquisition, acquire
from scanloop.simulator.bags import Bag, check_categories, simulate_bag
from scanloop.simulator.detector import SimulatedScan, simulate_scan
from scanloop.simulator.exports import ExportedFile, export
from scanloop.simulator.items.threats import THREATS
from scanloop.store import Store

RESENT_PREFIX = "resend_"
CUT_PREFIX = "partial_"
STRAY_NAME = "operator_note.txt"
REPORTS_FOLDER = "ground-truth"
_ACCIDENTS_KEY = 2**31
_REPORTS_KEY = 2**31 + 1
_KEPT_SHARE = 0.6


@dataclass(frozen=True)
class DeliveryOrder:
    """What is to be delivered. The same order gives the same bytes under the same keys; bag k does not depend on how many follow."""

    sites: int
    """Number of sites; bags go to them in turn."""
    bags: int
    """Number of bags; each gives two scans."""
    seed: int
    """Seed of everything."""
    round_number: int = 1
    """Which delivery this is: other rounds have other bags, a week apart."""
    threats: tuple[str, ...] = field(default=tuple(THREATS))
    """Categories that threats are drawn from."""
    clean_fraction: float = 0.4
    """Share of bags without a threat, on average."""
    reports: float = 0.0
    """Share of the bags of machines that write DICOS whose ground truth comes with them as a report, on average."""

    def __post_init__(self) -> None:
        if self.sites < 1 or self.bags < 1 or self.seed < 0 or self.round_number < 0:
            raise WrongArguments(
                f"Expected at least one site and one bag, found {self.sites} and {self.bags}; seed and round must not be negative."
            )
        if not 0 <= self.clean_fraction <= 1:
            raise WrongArguments(f"Expected a clean fraction from 0 to 1, found {self.clean_fraction}.")
        if not 0 <= self.reports <= 1:
            raise WrongArguments(f"Expected a share of reports from 0 to 1, found {self.reports}.")
        check_categories(self.threats)

    def seed_of(self, *path: int) -> np.random.SeedSequence:
        """The seed of one thing in this round: (bag,) for the bag, (bag, view) for the noise of a view."""
        return np.random.SeedSequence(self.seed, spawn_key=(self.round_number, *path))


@dataclass(frozen=True)
class Delivered:
    """One view of a bag as it was made, before it is stored."""

    acquisition: Acquisition
    """Machine, bag, moment."""
    scan: SimulatedScan
    """Pixels and truth."""
    file: ExportedFile
    """The bytes."""

    @property
    def folder(self) -> str:
        """Landing folder: site, machine, day."""
        return f"{self.acquisition.machine.site}/{self.acquisition.machine.serial}/{self.acquisition.acquired_at:%Y-%m-%d}"


def bag_of(order: DeliveryOrder, number: int) -> Bag:
    """Bag `number` of the order, in three dimensions."""
    return simulate_bag(order.seed_of(number), order.threats, clean_fraction=order.clean_fraction)


def make(order: DeliveryOrder, number: int) -> Iterator[Delivered]:
    """The scans of bag `number`, top view first."""
    bag = bag_of(order, number)
    for view, acquisition in enumerate(acquire(order.seed, order.round_number, number, order.sites)):
        machine = acquisition.machine
        scan = simulate_scan(bag, machine.scanner, view, order.seed_of(number, view), machine.elements_seed)
        yield Delivered(acquisition, scan, export(scan, acquisition))


def deliver(landing: Store, truth: Store, order: DeliveryOrder, on_bag: Callable[[int], None] | None = None) -> dict[str, int]:
    """Make the order and put it into the landing zone, truth first, each sidecar before its picture. Repeating it changes nothing.

    `on_bag` is called with the number of bags done. Returns counts: `delivered` objects beside sidecars, of them `scans` whole and new,
    `duplicates` (the same bytes again) and `broken` (the cut file and the stray text); `sidecars`, `bags`, `sites`, `threats` (boxes); and
    `reports` where some are asked for.
    """
    resent, cut = accidents(order)
    counts = dict.fromkeys(("delivered", "scans", "duplicates", "broken", "sidecars", "threats"), 0)
    if order.reports:
        counts["reports"] = 0
    last = None
    for number in range(order.bags):
        for view, item in enumerate(make(order, number)):
            _put_truth(truth, item)
            _put(landing, item, counts)
            counts["scans"] += 1
            counts["threats"] += len(item.scan.boxes)
            if (number, view) == resent:
                _put(landing, item, counts, prefix=RESENT_PREFIX)
                counts["duplicates"] += 1
            if (number, view) == cut:
                _put(landing, item, counts, prefix=CUT_PREFIX, kept_share=_KEPT_SHARE)
                counts["broken"] += 1
            last = item
        if (report := report_of(order, number)) is not None:
            key, content = report
            landing.put(key, content)
            counts["delivered"] += 1
            counts["reports"] += 1
        if on_bag is not None:
            on_bag(number + 1)
    assert last is not None
    note = f"Line {last.acquisition.machine.serial}: belt stopped and restarted, round {order.round_number}, list {order.seed}. Please ignore.\n"
    landing.put(f"{last.folder}/{STRAY_NAME}", note.encode())
    return {**counts, "delivered": counts["delivered"] + 1, "broken": counts["broken"] + 1, "bags": order.bags, "sites": order.sites}


def report_of(order: DeliveryOrder, number: int) -> tuple[str, bytes] | None:
    """Landing key and bytes of the report about bag `number`; None if it has none. It comes from the site's own folder for reports, no scanner's."""
    from scanloop.simulator.reports import write_ground_truth

    acquisitions = acquire(order.seed, order.round_number, number, order.sites)
    first = acquisitions[0]
    is_drawn = np.random.default_rng(order.seed_of(number, _REPORTS_KEY)).random() < order.reports
    if not is_drawn or not first.machine.scanner.file_format.startswith("dicos"):
        return None
    key = f"{first.machine.site}/{REPORTS_FOLDER}/{first.acquired_at:%Y-%m-%d}/{first.bag_number}_truth.dcs"
    return key, write_ground_truth(bag_of(order, number), acquisitions)


def accidents(order: DeliveryOrder) -> tuple[tuple[int, int], tuple[int, int]]:
    """(bag, view) of the scan that is sent twice and of the one that is also sent cut off; never the same."""
    rng = np.random.default_rng(order.seed_of(_ACCIDENTS_KEY))
    first, second = rng.choice(2 * order.bags, size=2, replace=False)
    return (int(first) // 2, int(first) % 2), (int(second) // 2, int(second) % 2)


def truth_of(item: Delivered) -> dict[str, object]:
    """What is truly in a delivered scan."""
    return {
        "scan_id": hashlib.sha256(item.file.content).hexdigest(),
        "bag_id": item.acquisition.bag_id,
        "boxes": [{"category": box.category, "bbox_xywh": list(box.bbox_xywh), "occlusion": box.occlusion} for box in item.scan.boxes],
    }


def _put_truth(truth: Store, item: Delivered) -> None:
    facts = truth_of(item)
    truth.put(f"{facts['scan_id']}.json", (json.dumps(facts, sort_keys=True) + "\n").encode())


def _put(landing: Store, item: Delivered, counts: dict[str, int], *, prefix: str = "", kept_share: float = 1.0) -> None:
    """Deliver one file, its sidecar first."""
    key = f"{item.folder}/{prefix}{item.file.name}"
    if item.file.sidecar is not None:
        landing.put(f"{key}.json", item.file.sidecar)
        counts["sidecars"] += 1
    landing.put(key, item.file.content[: int(len(item.file.content) * kept_share)])
    counts["delivered"] += 1
