"""A bag and everything in it, in three dimensions. Every scanner and both views see the same bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanloop.errors import WrongArguments
from scanloop.simulator.items.belongings import BELONGINGS
from scanloop.simulator.items.clothing import CLOTHING, layers
from scanloop.simulator.items.containers import CONTAINERS
from scanloop.simulator.items.electronics import ELECTRONICS
from scanloop.simulator.items.threats import THREATS
from scanloop.simulator.packing import Packer
from scanloop.simulator.parts import Parts, move, turn

EVERYDAY = {**CLOTHING, **ELECTRONICS, **BELONGINGS}
"""Harmless objects by name."""
_TRAY_THINGS = (
    "laptop",
    "tablet",
    "phone",
    "belt",
    "keys",
    "coins",
    "watch",
    "cable",
    "headphones",
    "toiletry_bag",
    "shoe",
    "power_bank",
    "umbrella",
)
_RARE = {
    "hanger": 0.4,
    "spanner": 0.5,
    "screwdriver": 0.5,
    "cutlery": 0.5,
    "mug": 0.6,
    "camera": 0.6,
    "thermos": 0.4,
    "shoe_pair": 0.7,
    "tablet": 0.7,
    "hair_dryer": 0.8,
}
_FREQUENCY = {"handgun": 3.0, "knife": 3.0, "grenade": 2.5, "scissors": 1.2, "hammer": 1.2, "pipe_bomb": 1.2}
"""How often a category comes up, relative to the others in the pool: uneven, as everywhere."""
_SECOND_THREAT = 0.2
_FLAT_TILT_DEG = 9.0
_THREAT_TILT_DEG = 24.0


@dataclass(frozen=True, eq=False)
class Thing:
    """One object in a bag."""

    name: str
    """What it is."""
    parts: Parts
    """Its parts in the world frame, cm."""
    category: str | None = None
    """Threat category; None: harmless."""


@dataclass(frozen=True, eq=False)
class Bag:
    """One inspected object."""

    kind: str
    """Kind of container."""
    things: tuple[Thing, ...]
    """The container first, then its contents."""

    @property
    def threats(self) -> tuple[Thing, ...]:
        """The things that must be found; empty for a clean bag."""
        return tuple(thing for thing in self.things if thing.category is not None)


def check_categories(threats: Sequence[str]) -> tuple[str, ...]:
    """The categories as a tuple. Raises WrongArguments if one is unknown."""
    unknown = sorted(set(threats) - set(THREATS))
    if unknown:
        raise WrongArguments(f"Unknown threat category {', '.join(map(repr, unknown))}. Known: {', '.join(THREATS)}.")
    return tuple(threats)


def simulate_bag(seed: np.random.SeedSequence | int, threats: Sequence[str] = tuple(THREATS), *, clean_fraction: float = 0.4) -> Bag:
    """Pack one bag: clean with probability `clean_fraction`, otherwise with one threat drawn from `threats`, sometimes two.

    Raises:
        WrongArguments: an unknown category.
    """
    rng = np.random.default_rng(seed)
    pool = check_categories(threats)
    kind = str(rng.choice(list(CONTAINERS), p=(0.28, 0.24, 0.22, 0.16, 0.10)))
    container = CONTAINERS[kind](rng)
    packer = Packer(container.inside_cm)
    things: list[Thing] = []
    if pool and rng.random() >= clean_fraction:
        weights = np.array([_FREQUENCY[category] for category in pool])
        count = 2 if rng.random() < _SECOND_THREAT else 1
        things += [_threat(rng, str(rng.choice(pool, p=weights / weights.sum())), packer) for _ in range(count)]
    things += _contents(rng, kind, packer)
    if kind != "tray":
        things += [Thing("clothes", parts) for parts in layers(rng, container.inside_cm)]
    whole = (Thing(kind, container.parts), *things)
    heading, drift = turn("z", rng.normal(0, 2.5)), (rng.normal(0, 0.5), rng.normal(0, 0.6), 0.0)
    return Bag(kind, tuple(Thing(thing.name, move(thing.parts, drift, heading), thing.category) for thing in whole))


def _threat(rng: np.random.Generator, category: str, packer: Packer) -> Thing:
    """A threat somewhere in the bag. It always fits: tilted less and less until it does."""
    parts = THREATS[category](rng)
    flipped = move(parts, rotation=turn("x", 180.0 * rng.integers(2)))
    for tilt in (_THREAT_TILT_DEG, _THREAT_TILT_DEG / 2, 4.0, 0.0, 0.0):
        placed = packer.place(rng, flipped, tilt_deg=tilt)
        if placed is not None:
            return Thing(category, placed, category)
    raise AssertionError(f"a {category} does not fit into {packer.inside_cm} cm")


def _contents(rng: np.random.Generator, kind: str, packer: Packer) -> list[Thing]:
    """Everyday objects, each at most twice, largest chances for the common ones."""
    names = list(_TRAY_THINGS) if kind == "tray" else list(EVERYDAY)
    chances = np.array([_RARE.get(name, 1.0) for name in names])
    count = int(rng.integers(4, 8)) if kind == "tray" else int(rng.integers(9, 17))
    things = []
    for index in rng.choice(len(names), min(count, len(names)), replace=False, p=chances / chances.sum()):
        parts = EVERYDAY[names[index]](rng)
        if names[index] in ("book", "magazines", "laptop") and kind != "tray" and rng.random() < 0.3:
            parts = move(parts, rotation=turn("x", 90))
        placed = packer.place(rng, parts, tilt_deg=_FLAT_TILT_DEG if kind != "tray" else 2.0, max_overlap=0.9)
        if placed is not None:
            things.append(Thing(names[index], placed))
    return things
