"""Which split a bag is in: drawn from its own id, so that it never moves, and never beside its near copy in another split.

A bag's draw is a hash of seed and bag id. Test takes the lowest draws, then val, then train: nothing that arrives later changes the draw,
so a bag once in test stays in test and a bag once trained on is never tested on, in any later snapshot. A larger test share only adds bags.

Near copies (the same bag scanned twice under two names) can draw different splits. The one whose draw is weaker (train < val < test) is
then withheld: moving it would put pictures that earlier models were trained on into the test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scanloop.curation.near_duplicates import Fingerprint, near_pairs
from scanloop.snapshots.manifest import WITHHELD

STRENGTH = {"train": 0, "val": 1, "test": 2}
"""Of two near copies in different splits the stronger stays."""


@dataclass(frozen=True)
class Splitting:
    """What splitting decided."""

    split_by_bag: dict[str, str]
    """`train`, `val`, `test` or `withheld` for every bag."""
    withheld_for: dict[str, str]
    """For each withheld bag, the bag in a stronger split that it is a near copy of."""


def bag_draw(seed: int, bag_id: str) -> str:
    """16 hex digits, uniform over bags, fixed for a seed."""
    return hashlib.sha256(f"split\x00{seed}\x00{bag_id}".encode()).hexdigest()[:16]


def drawn_split(seed: int, bag_id: str, shares: Mapping[str, float]) -> str:
    """The split that a bag draws, before near copies are looked at. `shares` sum to 1."""
    draw = int(bag_draw(seed, bag_id), 16) / 2**64
    if draw < shares["test"]:
        return "test"
    return "val" if draw < shares["test"] + shares["val"] else "train"


def split_bags(fingerprints: Iterable[Fingerprint], seed: int, shares: Mapping[str, float], near_duplicate_bits: int) -> Splitting:
    """Decide the split of every bag that has a fingerprint. The order of the input does not matter."""
    known = list(fingerprints)
    drawn = {bag_id: drawn_split(seed, bag_id, shares) for bag_id in sorted({item.bag_id for item in known})}
    withheld_for: dict[str, str] = {}
    for one, other, _distance in near_pairs(known, near_duplicate_bits):
        for weak, strong in ((one.bag_id, other.bag_id), (other.bag_id, one.bag_id)):
            if STRENGTH[drawn[weak]] < STRENGTH[drawn[strong]]:
                withheld_for[weak] = min(strong, withheld_for.get(weak, strong))
    return Splitting({bag: WITHHELD if bag in withheld_for else split for bag, split in drawn.items()}, withheld_for)
