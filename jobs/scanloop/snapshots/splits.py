"""Which split a bag is in: drawn once, remembered for ever, and never beside its near copy in another split.

A draw is a hash of a seed and a unit: the bag itself, or the site, the machine, the day or the month of its scans where the definition asks for
splits that share none of these. Test takes the lowest draws, then val, then train: nothing that arrives later changes a draw, and a larger test
share only adds.

What earlier snapshots of the product line did with a bag counts more than its draw (`scanloop.snapshots.past`): a bag that was once tested on is
never trained on, and one that was once trained on is never tested on, whatever became of seed, shares and units since. A test set with a version
is frozen: bags that would join it wait for the next version.

Near copies (the same bag scanned twice under two names) can be in different splits. The bag of the scan that is new is then withheld; both, if both
are old; and of two new ones the weaker (train < val < test), so that what is new in the test set stays there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scanloop.curation.near_duplicates import Fingerprint, near_pairs
from scanloop.product_lines import SnapshotRules
from scanloop.snapshots.manifest import WITHHELD
from scanloop.snapshots.past import NOTHING_BEFORE, Past

STRENGTH = {"train": 0, "val": 1, "test": 2}
"""Of two near copies in different splits the stronger stays."""
NEAR_COPY = "near copy of a bag in another split"
SEVERAL_UNITS = "its scans are of units in different splits"
UNDATED = "no date to split by"
WAITS = "waits for the next version of the test set"
SEVERAL_BEFORE = "was in test and beside it before"
OTHERWISE_BEFORE = "was in another split before than its units are in"


@dataclass(frozen=True)
class Splitting:
    """What splitting decided."""

    split_by_bag: dict[str, str]
    """`train`, `val`, `test` or `withheld` for every bag."""
    withheld_for: dict[str, str]
    """For each bag withheld as a near copy, the bag that it is one of."""


def bag_draw(seed: int, unit: str) -> str:
    """16 hex digits, uniform over bags (or other units), fixed for a seed."""
    return hashlib.sha256(f"split\x00{seed}\x00{unit}".encode()).hexdigest()[:16]


def drawn_split(seed: int, unit: str, shares: Mapping[str, float]) -> str:
    """The split that a unit draws, before near copies are looked at. `shares` sum to 1."""
    draw = int(bag_draw(seed, unit), 16) / 2**64
    if draw < shares["test"]:
        return "test"
    return "val" if draw < shares["test"] + shares["val"] else "train"


def unit_of(facts: Mapping[str, Any], split_by: str) -> str | None:
    """What a scan is drawn by: its bag_id, site_id or scanner_id, or the day or month (UTC) in its acquired_at; None: it has none."""
    if split_by in ("day", "month"):
        when = facts["acquired_at"]
        return when.isoformat()[: 10 if split_by == "day" else 7] if when is not None else None
    unit: str = facts[{"bag": "bag_id", "site": "site_id", "scanner": "scanner_id"}[split_by]]
    return unit


def allotted(bag_id: str, units: Collection[str | None], rules: SnapshotRules, past: Past = NOTHING_BEFORE) -> tuple[str, str]:
    """The split of a bag whose scans are of `units`, before near copies are looked at; and why, if it is withheld."""
    drawn, why = _drawn(units, rules)
    before = _before(past.splits.get(bag_id, frozenset()))
    if before is None:
        return (WITHHELD, WAITS) if drawn == "test" and is_frozen(rules, past) else (drawn, why)
    if before == WITHHELD:
        return WITHHELD, SEVERAL_BEFORE
    if rules.split_by != "bag" and drawn != before:
        return WITHHELD, why or OTHERWISE_BEFORE
    return before, ""


def is_frozen(rules: SnapshotRules, past: Past) -> bool:
    """Whether nothing may join the test set."""
    return rules.test_set > 0 and past.test_set == rules.test_set


def _before(splits: Collection[str]) -> str | None:
    """The split that a bag has from earlier snapshots; None: it was in none."""
    if "test" in splits:
        return "test" if len(splits) == 1 else WITHHELD
    return next((split for split in ("train", "val") if split in splits), None)


def _drawn(units: Collection[str | None], rules: SnapshotRules) -> tuple[str, str]:
    """The split that units draw together; and why, if it is `withheld`."""
    shares: dict[str, float] = {str(split): share for split, share in rules.splits.items()}
    found = {None if unit is None else drawn_split(rules.seed, unit, shares) for unit in units}
    if None in found:
        return WITHHELD, UNDATED
    if len(found) > 1:
        return WITHHELD, SEVERAL_UNITS
    (split,) = found
    assert split is not None
    return split, ""


def split_bags(
    fingerprints: Iterable[Fingerprint], split_by_bag: Mapping[str, str], near_duplicate_bits: int, past: Past = NOTHING_BEFORE
) -> Splitting:
    """Withhold bags beside near copies of them in another split. The order of the input does not matter.

    `split_by_bag` has what each bag is allotted; one that is withheld already hinders nobody. Scans of earlier snapshots that are no longer there are
    near copies like others.
    """
    known = [item for item in fingerprints if split_by_bag[item.bag_id] != WITHHELD]
    present = {item.scan_id for item in known}
    gone = {item.scan_id: (item, split) for item, split in past.prints if item.scan_id not in present}
    withheld_for: dict[str, str] = {}
    for one, other, _distance in near_pairs([*known, *(item for item, _ in gone.values())], near_duplicate_bits):
        for mine, theirs in ((one, other), (other, one)):
            if mine.scan_id in present and _gives_way(mine, theirs, split_by_bag, gone, past):
                withheld_for[mine.bag_id] = min(theirs.bag_id, withheld_for.get(mine.bag_id, theirs.bag_id))
    return Splitting({bag: WITHHELD if bag in withheld_for else split for bag, split in split_by_bag.items()}, withheld_for)


def _gives_way(
    mine: Fingerprint,
    theirs: Fingerprint,
    split_by_bag: Mapping[str, str],
    gone: Mapping[str, tuple[Fingerprint, str]],
    past: Past,
) -> bool:
    """Whether the first of two near copies is the one to be withheld."""
    my_split = split_by_bag[mine.bag_id]
    if theirs.scan_id in gone:
        return gone[theirs.scan_id][1] != my_split
    their_split = split_by_bag[theirs.bag_id]
    if my_split == their_split:
        return False
    is_old, is_other_old = (item.scan_id in past.scan_ids for item in (mine, theirs))
    if is_old and is_other_old:
        # More bits count as near now than did then: neither can be tested or trained on beside what the other was used for.
        return True
    if is_old == is_other_old:
        is_old, is_other_old = (item.bag_id in past.splits for item in (mine, theirs))
    if is_old != is_other_old:
        return is_other_old
    return STRENGTH[my_split] < STRENGTH[their_split]
