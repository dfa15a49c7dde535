"""Every scanner gets its turns, whoever floods."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import WrongArguments
from scanloop.intake.fairness import FairChoice, in_turns

OFFERS = st.lists(st.integers(0, 6), max_size=120)


@given(OFFERS, st.integers(1, 40))
def test_as_much_as_fits_is_kept_and_shared_evenly(sources: list[int], limit: int) -> None:
    choice: FairChoice[int] = FairChoice(limit)
    for number, source in enumerate(sorted(sources)):
        choice.add(str(source), number)
        assert choice._held <= 2 * limit
    kept = choice.chosen()
    total = sum(map(len, kept.values()))
    assert total + choice.postponed == len(sources)
    assert total <= limit
    offered = {str(source): sources.count(source) for source in sources}
    lengths = {source: len(kept.get(source, ())) for source in offered}
    cut = [source for source in offered if lengths[source] < offered[source]]
    # Nobody is cut below what another one that was not cut, or was cut, keeps, but for the last round that does not fit whole.
    for source in cut:
        assert lengths[source] >= max(lengths.values()) - 1
    for queue in kept.values():
        assert all(one < other for one, other in pairwise(queue))


def test_everything_is_kept_where_it_fits() -> None:
    choice: FairChoice[str] = FairChoice(10)
    for name in "aabbbc":
        choice.add(name, name)
    assert (choice.chosen(), choice.postponed) == ({"a": ["a"] * 2, "b": ["b"] * 3, "c": ["c"]}, 0)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(WrongArguments):
        FairChoice(0)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.lists(st.integers(), max_size=5), max_size=6))
def test_turns_take_everything_once_and_nobody_twice_before_all_once(queues: dict[str, list[int]]) -> None:
    tagged = {source: [(source, index) for index in range(len(queue))] for source, queue in queues.items()}
    order = list(in_turns(tagged))
    assert sorted(order) == sorted(item for queue in tagged.values() for item in queue)
    assert [turn for _, turn in order] == sorted(turn for _, turn in order)


@pytest.mark.parametrize("flood", [10, 1000, 100_000])
def test_one_flooding_scanner_delays_the_others_at_most_twofold(flood: int) -> None:
    """The place in the order is the delay: with 20 scanners in one shard, of which one floods, before the others by name."""
    others = {f"scanner-{number:02d}": [f"{number}-{index}" for index in range(30)] for number in range(1, 20)}
    calm = {name: order for order, name in enumerate(in_turns(others), start=1)}
    flooded = {
        name: order for order, name in enumerate(in_turns({**others, "scanner-00": [f"flood-{index}" for index in range(flood)]}), start=1)
    }
    delays = [flooded[name] / calm[name] for name in calm]
    assert max(delays) <= 2


def test_a_flood_beyond_the_limit_postpones_only_itself() -> None:
    choice: FairChoice[str] = FairChoice(1000)
    for index in range(100_000):
        choice.add("flooding", f"f{index}")
    for scanner in range(50):
        for index in range(10):
            choice.add(f"s{scanner}", f"{scanner}-{index}")
    kept = choice.chosen()
    assert all(len(kept[f"s{scanner}"]) == 10 for scanner in range(50))
    assert len(kept["flooding"]) == 500
    assert choice.postponed == 99_500
