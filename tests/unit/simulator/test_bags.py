"""Bags: the same seed gives the same bag, threats are inside and as ordered, and no object takes away more matter than it has."""

from __future__ import annotations

import numpy as np
import pytest

from scanloop.errors import WrongArguments
from scanloop.simulator.bags import EVERYDAY, Bag, simulate_bag
from scanloop.simulator.items.containers import CONTAINERS
from scanloop.simulator.items.threats import THREATS
from scanloop.simulator.materials import mu_per_cm
from scanloop.simulator.packing import Packer
from scanloop.simulator.parts import Parts, box, extent
from scanloop.simulator.projection import VISIBLE_ATTENUATION, path_length, window
from scanloop.simulator.scanners import SCANNER_MODELS

OBJECTS = {**THREATS, **EVERYDAY, **{name: lambda rng, make=make: make(rng).parts for name, make in CONTAINERS.items()}}


def summed(parts: Parts, view_number: int) -> np.ndarray:
    """High-energy attenuation as it adds up, negative parts and all."""
    view = SCANNER_MODELS[0].views[view_number]
    total = np.zeros((view.rows_px, view.columns_px))
    for part in parts:
        where = window(part, view)
        if where is not None:
            total[where] += mu_per_cm(part.material, 100.0) * path_length(part, view, where)
    return total


def same(one: Bag, other: Bag) -> bool:
    pairs = zip((p for t in one.things for p in t.parts), (p for t in other.things for p in t.parts), strict=True)
    return one.kind == other.kind and all(
        a.material == b.material and a.fill == b.fill and (a.centre == b.centre).all() and (a.rotation == b.rotation).all()
        for a, b in pairs
    )


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_take_away_no_more_than_they_have(name: str) -> None:
    for seed in range(3):
        parts = OBJECTS[name](np.random.default_rng(seed))
        for view_number in (0, 1):
            total = summed(parts, view_number)
            assert total.max() > VISIBLE_ATTENUATION
            assert total.min() > -0.03 * total.max(), f"{name} has negative matter"


@pytest.mark.parametrize("category", THREATS)
def test_threats_have_the_size_of_real_ones(category: str) -> None:
    longest = [np.subtract(*extent(THREATS[category](np.random.default_rng(seed)))[::-1]).max() for seed in range(20)]
    assert min(longest) > 8
    assert max(longest) < 29
    assert len(set(longest)) == 20


def test_the_same_seed_packs_the_same_bag() -> None:
    assert same(simulate_bag(5), simulate_bag(5))


def test_another_seed_packs_another_bag() -> None:
    one, other = simulate_bag(5), simulate_bag(6)
    assert [thing.name for thing in one.things] != [thing.name for thing in other.things]


def test_clean_bags_have_no_threat_and_others_have_one_or_two() -> None:
    assert not any(simulate_bag(seed, clean_fraction=1.0).threats for seed in range(8))
    counts = [len(simulate_bag(seed, clean_fraction=0.0).threats) for seed in range(40)]
    assert set(counts) == {1, 2}


def test_threats_come_from_the_pool_alone() -> None:
    seen = {threat.category for seed in range(30) for threat in simulate_bag(seed, ("knife", "hammer"), clean_fraction=0.0).threats}
    assert seen == {"knife", "hammer"}


def test_an_empty_pool_gives_clean_bags() -> None:
    assert not simulate_bag(1, (), clean_fraction=0.0).threats


def test_threats_lie_inside_the_bag() -> None:
    for seed in range(25):
        bag = simulate_bag(seed, clean_fraction=0.0)
        lowest, highest = extent(bag.things[0].parts)
        for threat in bag.threats:
            inner_low, inner_high = extent(threat.parts)
            assert (inner_low >= lowest - 0.5).all()
            assert (inner_high <= highest + 0.5).all()


def test_bags_are_full_of_different_things() -> None:
    bags = [simulate_bag(seed) for seed in range(30)]
    assert {bag.kind for bag in bags} == set(CONTAINERS)
    assert len({thing.name for bag in bags for thing in bag.things} & set(EVERYDAY)) > 25


def test_unknown_categories_are_refused() -> None:
    with pytest.raises(WrongArguments, match=r"'sword'.*handgun"):
        simulate_bag(0, ("handgun", "sword"))


def test_packing_prefers_free_places() -> None:
    packer = Packer(np.array([40.0, 30.0, 20.0]))
    rng = np.random.default_rng(0)
    for _ in range(6):
        assert packer.place(rng, (box((8, 6, 4), "steel"),), tilt_deg=3, max_overlap=0.2) is not None


def test_packing_refuses_what_is_too_large() -> None:
    assert Packer(np.array([40.0, 30.0, 20.0])).place(np.random.default_rng(0), (box((60, 6, 4), "steel"),), tilt_deg=3) is None


def test_packing_refuses_a_place_that_is_taken() -> None:
    packer = Packer(np.array([10.0, 10.0, 5.0]))
    rng, thing = np.random.default_rng(0), (box((9.0, 9.0, 4.5), "steel"),)
    assert packer.place(rng, thing, tilt_deg=0, max_overlap=0.3) is not None
    assert packer.place(rng, thing, tilt_deg=0, max_overlap=0.3) is None
