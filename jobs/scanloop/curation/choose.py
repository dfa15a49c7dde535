"""Which bags to label: the rules, without catalog or store. The same input gives the same choice, in any order.

1. New views of bags that were chosen before come first: a bag is labelled whole.
2. Near copies of an earlier bag are left out.
3. Most of the budget goes, farthest first (k-center), to bags unlike everything chosen so far, each scanner up to its fair share; what a
   scanner cannot use goes to the others.
4. The rest is drawn at random, so that what the description cannot see has a chance too.

Source: farthest-first traversal, Gonzalez 1985, "Clustering to minimize the maximum intercluster distance".
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scanloop.curation.near_duplicates import Duplicate, Fingerprint, duplicate_bags


@dataclass(frozen=True)
class Candidate:
    """A scan that could be labelled, or one that was chosen earlier."""

    fingerprint: Fingerprint
    """Its identity and perceptual hash."""
    scanner_id: str
    """Whose quota it counts against."""
    acquired_at: str
    """ISO 8601 UTC or empty: of two copies the earlier one is kept."""
    description: tuple[float, ...]
    """What it looks like, as numbers whose distances mean something."""

    @property
    def scan_id(self) -> str:
        """Which scan."""
        return self.fingerprint.scan_id

    @property
    def bag_id(self) -> str:
        """Its bag."""
        return self.fingerprint.bag_id


@dataclass(frozen=True)
class Policy:
    """How to choose."""

    budget_scans: int
    """Scans chosen at most."""
    exploration_share: float
    """Part of the budget drawn at random."""
    near_duplicate_bits: int
    """Hashes at most this many bits apart are one picture."""
    seed: int
    """Seed of every draw."""


@dataclass(frozen=True)
class Choice:
    """What was decided about one scan, and why."""

    scan_id: str
    """Which scan."""
    rank: int
    """1 is the first; chosen ones come before the others."""
    is_chosen: bool
    """Whether it is to be labelled."""
    score: float
    """Distance of its bag to the nearest bag chosen before it; 0 for near copies."""
    stage: str
    """Rule that decided: `known_bag`, `diverse`, `exploration`, `near_duplicate`, `budget`."""
    reason: str
    """The same in words."""


_Decided = tuple[list[Candidate], bool, float, str, str]
"""Scans of a bag, is_chosen, score, stage, reason."""


@dataclass
class _Bag:
    bag_id: str
    scanner_id: str
    scans: list[Candidate] = field(default_factory=list)

    @property
    def description(self) -> NDArray[np.float64]:
        return np.mean([scan.description for scan in self.scans], axis=0)


def choose(candidates: Iterable[Candidate], history: Iterable[Candidate], policy: Policy) -> list[Choice]:
    """Decide about every candidate, given what was chosen before. Returns chosen ones first, by rank."""
    pool = sorted(candidates, key=lambda item: (item.acquired_at, item.bag_id, item.scan_id))
    past = sorted(history, key=lambda item: item.scan_id)
    past_bags = {item.bag_id for item in past}
    known = [item for item in pool if item.bag_id in past_bags]
    fresh = [item for item in pool if item.bag_id not in past_bags]
    earlier = [item.fingerprint for item in [*past, *known]]
    duplicates = duplicate_bags([item.fingerprint for item in fresh], earlier, policy.near_duplicate_bits)
    decided: list[_Decided] = []

    left = policy.budget_scans
    for bag in _bags(known):
        fits = len(bag.scans) <= left
        left -= len(bag.scans) if fits else 0
        reason = "another view of a bag that was chosen before" if fits else _no_budget(policy)
        decided.append((bag.scans, fits, 0.0, "known_bag" if fits else "budget", reason))

    bags = _bags(item for item in fresh if item.bag_id not in duplicates)
    explore = math.floor(policy.exploration_share * left)
    walk = _Walk(bags, _descriptions(past))
    quotas = fair_quotas(Counter(bag.scanner_id for bag in bags for _ in bag.scans), left - explore)
    left -= walk.farthest_first(left - explore, dict(quotas), quotas, decided)
    left -= walk.farthest_first(left - explore, None, quotas, decided)
    left -= walk.explore(left, policy.seed, decided)
    decided += walk.remaining(policy)
    decided += [([item], False, 0.0, "near_duplicate", _like(duplicates[item.bag_id])) for item in fresh if item.bag_id in duplicates]

    in_order = [one for one in decided if one[1]] + [one for one in decided if not one[1]]
    flat = [(scan.scan_id, is_chosen, score, stage, why) for scans, is_chosen, score, stage, why in in_order for scan in scans]
    return [
        Choice(scan_id, rank, is_chosen, score, stage, why) for rank, (scan_id, is_chosen, score, stage, why) in enumerate(flat, start=1)
    ]


def fair_quotas(scans_by_scanner: Mapping[str, int], budget_scans: int) -> dict[str, int]:
    """Share a budget evenly among scanners; what one cannot use goes to the others. Sums to min(budget, all scans)."""
    quotas = dict.fromkeys(sorted(scans_by_scanner), 0)
    left = budget_scans
    while left > 0 and (open_scanners := [name for name in quotas if quotas[name] < scans_by_scanner[name]]):
        share = max(1, left // len(open_scanners))
        for name in open_scanners:
            given = min(share, scans_by_scanner[name] - quotas[name], left)
            quotas[name] += given
            left -= given
    return quotas


class _Walk:
    """Farthest-first traversal over bags, from what was chosen before."""

    def __init__(self, bags: Sequence[_Bag], past: NDArray[np.float64] | None) -> None:
        self.bags = list(bags)
        self.open = np.ones(len(self.bags), dtype=bool)
        self.sizes = np.array([len(bag.scans) for bag in self.bags], dtype=int)
        self.scanner_names = sorted({bag.scanner_id for bag in self.bags})
        self.scanners = np.searchsorted(self.scanner_names, [bag.scanner_id for bag in self.bags]) if self.bags else np.zeros(0, dtype=int)
        self.points = np.array([bag.description for bag in self.bags]) if self.bags else np.zeros((0, 1))
        start = past if past is not None else (self.points.mean(axis=0, keepdims=True) if self.bags else None)
        self.distances = _nearest(self.points, start) if start is not None and self.bags else np.zeros(len(self.bags))

    def farthest_first(
        self,
        budget: int,
        quotas: dict[str, int] | None,
        shares: Mapping[str, int],
        decided: list[_Decided],
    ) -> int:
        """Take bags, farthest first, while they fit the budget and their scanner's quota. Returns the scans taken."""
        taken = 0
        while True:
            can = self.open & (self.sizes <= budget - taken)
            if quotas is not None:
                can &= self.sizes <= np.array([quotas[name] for name in self.scanner_names], dtype=int)[self.scanners]
            if not can.any():
                return taken
            position = int(np.argmax(np.where(can, self.distances, -1.0)))
            bag, distance = self.bags[position], float(self.distances[position])
            within = f"within the share of {shares[bag.scanner_id]} scans" if quotas is not None else "with budget that no share could use"
            why = f"farthest from all chosen before it (distance {distance:.3f}), {within} of {bag.scanner_id}"
            if quotas is not None:
                quotas[bag.scanner_id] -= len(bag.scans)
            taken += self._take(position, "diverse", why, decided)

    def explore(self, budget: int, seed: int, decided: list[_Decided]) -> int:
        """Take bags in an order drawn from the seed while they fit the budget. Returns the scans taken."""
        taken = 0
        positions = np.flatnonzero(self.open).tolist()
        draws = {i: hashlib.sha256(f"explore\x00{seed}\x00{self.bags[i].bag_id}".encode()).digest() for i in positions}
        for position in sorted(draws, key=draws.__getitem__):
            if self.sizes[position] <= budget - taken:
                taken += self._take(position, "exploration", "drawn at random for exploration", decided)
        return taken

    def remaining(self, policy: Policy) -> list[_Decided]:
        """What is left, farthest first."""
        positions = sorted(np.flatnonzero(self.open).tolist(), key=lambda i: (-self.distances[i], self.bags[i].bag_id))
        return [(self.bags[i].scans, False, round(float(self.distances[i]), 6), "budget", _no_budget(policy)) for i in positions]

    def _take(self, position: int, stage: str, why: str, decided: list[_Decided]) -> int:
        bag = self.bags[position]
        decided.append((bag.scans, True, round(float(self.distances[position]), 6), stage, why))
        self.open[position] = False
        self.distances = np.minimum(self.distances, _nearest(self.points, self.points[position : position + 1]))
        return len(bag.scans)


def _bags(scans: Iterable[Candidate]) -> list[_Bag]:
    """Group scans into bags, by bag id; a bag belongs to the scanner of its first scan."""
    bags: dict[str, _Bag] = {}
    for scan in scans:
        bags.setdefault(scan.bag_id, _Bag(scan.bag_id, scan.scanner_id)).scans.append(scan)
    return [bags[bag_id] for bag_id in sorted(bags)]


def _descriptions(scans: Iterable[Candidate]) -> NDArray[np.float64] | None:
    by_bag: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for scan in scans:
        by_bag[scan.bag_id].append(scan.description)
    return np.array([np.mean(by_bag[bag_id], axis=0) for bag_id in sorted(by_bag)]) if by_bag else None


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point (N, D) to the nearest centre (M, D); rounded, so that the last bit of a library decides nothing."""
    nearest = np.full(len(points), np.inf)
    block = max(1, 4_000_000 // max(1, points.size))
    for start in range(0, len(centres), block):
        difference = points[:, None, :] - centres[None, start : start + block, :]
        nearest = np.minimum(nearest, np.sqrt(np.square(difference).sum(axis=2)).min(axis=1))
    return np.round(nearest, 6)


def _no_budget(policy: Policy) -> str:
    return f"the budget of {policy.budget_scans} scans was used up"


def _like(duplicate: Duplicate) -> str:
    return f"near copy: scan {duplicate.scan_id[:12]} differs from {duplicate.like_scan_id[:12]} in {duplicate.distance_bits} of 64 bits"
