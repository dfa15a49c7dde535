"""What is different between two snapshots, scan by scan, and why. Only shards that differ are read, unless the balance changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.snapshots.balance import cells_of, weighed
from scanloop.snapshots.manifest import WITHHELD, Balance, ShardEntry, SnapshotReader, SnapshotRecord

ANNOTATION, SPLIT, WEIGHT, SCAN = "annotation", "split", "weight", "scan"
"""What may change about a scan that is in both."""
_OF_ANNOTATION = ("looked_for", "annotation_ids", "boxes", "is_clean_bag")
_OF_OTHERS = ("split", "weight", *_OF_ANNOTATION)


@dataclass(frozen=True)
class Change:
    """One scan that is not as it was."""

    scan_id: str
    """Which scan."""
    bag_id: str
    """Its bag."""
    kind: str
    """added, removed or changed."""
    parts: tuple[str, ...]
    """What changed: annotation, split, weight, scan. Empty for what was added or removed."""
    before: Mapping[str, Any]
    """Split, weight, annotations and boxes before, as far as they differ; all of them for what was removed."""
    after: Mapping[str, Any]
    """The same now."""
    why: str
    """The reason, in a sentence."""


def rules_changed(one: SnapshotReader, other: SnapshotReader) -> dict[str, tuple[Any, Any]]:
    """Rules that differ, by name: before and after; None where there was none."""
    before, after = one.root.rules, other.root.rules
    return {
        name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
    }


def changes(one: SnapshotReader, other: SnapshotReader) -> Iterator[Change]:
    """Every scan that differs, by bucket and scan; `one` is the earlier. Reasons are those that the snapshots know: see `explained`.

    Raises:
        SnapshotDamaged: a shard is not what its root says.
        ObjectNotFound: a shard is gone.
    """
    rules = rules_changed(one, other)
    for mine, theirs in _pairs(one, other):
        before, after = _rows(one, mine), _rows(other, theirs)
        for scan_id in sorted(before.keys() | after.keys()):
            change = _change(before.get(scan_id), after.get(scan_id), rules, one.root.balance, other.root.balance)
            if change is not None:
                yield change


def _pairs(one: SnapshotReader, other: SnapshotReader) -> Iterator[tuple[Sequence[ShardEntry], Sequence[ShardEntry]]]:
    """Shards that may hold the same bags, those of both sides; equal ones only where weights may differ."""
    if one.root.rules["buckets"] != other.root.rules["buckets"]:
        yield one.root.shards, other.root.shards
        return
    before, after = ({shard.bucket: shard for shard in reader.root.shards} for reader in (one, other))
    is_weighed_alike = one.root.balance == other.root.balance and one.root.rules["seed"] == other.root.rules["seed"]
    for bucket in sorted(before.keys() | after.keys()):
        mine, theirs = before.get(bucket), after.get(bucket)
        if is_weighed_alike and mine is not None and theirs is not None and mine.rows_sha256 == theirs.rows_sha256:
            continue
        yield [mine] if mine else [], [theirs] if theirs else []


def _rows(reader: SnapshotReader, shards: Sequence[ShardEntry]) -> dict[str, SnapshotRecord]:
    seed = int(reader.root.rules["seed"])
    return {record.scan_id: weighed(record, reader.root.balance, seed) for shard in shards for record in reader.shard(shard)}


def _shown(record: SnapshotRecord, names: Sequence[str]) -> dict[str, Any]:
    said = asdict(record)
    return {name: [box.as_json() for box in record.boxes] if name == "boxes" else said[name] for name in names}


def _change(
    before: SnapshotRecord | None, after: SnapshotRecord | None, rules: Mapping[str, Any], was: Balance, now: Balance
) -> Change | None:
    if before is None or after is None:
        there = before or after
        assert there is not None
        shown = _shown(there, _OF_OTHERS)
        if after is None:
            return Change(
                there.scan_id, there.bag_id, "removed", (), shown, {}, _because(rules, "it is no longer among the accepted scans")
            )
        return Change(there.scan_id, there.bag_id, "added", (), {}, shown, _because(rules, "it was accepted since"))
    differing = [name for name, value in asdict(before).items() if asdict(after)[name] != value]
    if not differing:
        return None
    parts = tuple(
        part
        for part, names in ((ANNOTATION, _OF_ANNOTATION), (SPLIT, ("split",)), (WEIGHT, ("weight",)))
        if any(name in names for name in differing)
    )
    if any(name not in _OF_OTHERS for name in differing):
        parts += (SCAN,)
    why = "; ".join(_why(part, before, after, rules, was, now) for part in parts)
    return Change(before.scan_id, before.bag_id, "changed", parts, _shown(before, differing), _shown(after, differing), why)


def _because(rules: Mapping[str, Any], otherwise: str) -> str:
    deciding = [name for name in ("query", "scanners", "categories", "taxonomy") if name in rules]
    return f"{otherwise}, or the rules decide otherwise ({', '.join(deciding)})" if deciding else otherwise


def _why(part: str, before: SnapshotRecord, after: SnapshotRecord, rules: Mapping[str, Any], was: Balance, now: Balance) -> str:
    if part == ANNOTATION:
        new = sorted(set(after.annotation_ids) - set(before.annotation_ids))
        gone = sorted(set(before.annotation_ids) - set(after.annotation_ids))
        told = [f"annotation {', '.join(new)} has the last word"] if new else []
        told += [f"annotation {', '.join(gone)} no longer has"] if gone else []
        if not told and (before.looked_for, before.boxes) != (after.looked_for, after.boxes):
            told = ["other categories are asked about" if "categories" in rules else "its annotations count for other categories"]
        return " and ".join(told) or "another view of its bag has other boxes"
    if part == SPLIT:
        asked = [name for name in ("splits", "seed", "split_by", "test_set", "near_duplicate_bits") if name in rules]
        if asked:
            return f"the rules split otherwise ({', '.join(asked)})"
        if after.split == WITHHELD:
            return "it is withheld so that nothing leaks; `snapshot show` counts the reasons"
        return "what it was withheld for is gone" if before.split == WITHHELD else "its bag was drawn anew"
    if part == WEIGHT:
        if after.split != before.split:
            return "its split weighs otherwise"
        if after.is_clean_bag != before.is_clean_bag:
            return f"its bag is {'clean now' if after.is_clean_bag else 'no longer clean'}"
        if asked := [name for name in ("clean_bag_ratio", "repeat_threshold", "synthetic_share") if name in rules]:
            return f"the rules weigh otherwise ({', '.join(asked)})"
        if after.weight == 0 or before.weight == 0:
            what = "synthetic scans are" if after.is_synthetic and not after.is_clean_bag else "clean bags are"
            return f"{what} {'too many' if after.weight == 0 else 'few enough'} to show it now"
        factors = [{(scanner, category): factor for scanner, category, factor in one.repeat_factors} for one in (was, now)]
        cells = sorted(cell for cell in cells_of(before) | cells_of(after) if factors[0].get(cell, 1.0) != factors[1].get(cell, 1.0))
        said = (f"{' x '.join(cell)} from {factors[0].get(cell, 1.0):g} to {factors[1].get(cell, 1.0):g}" for cell in cells)
        return "repeat factors changed: " + ", ".join(said) if cells else "it is in other cells"
    return "it was read again"


def explained(connection: sa.Connection, found: Sequence[Change]) -> list[Change]:
    """The same, where what was removed says what the catalog knows about the scan now."""
    gone = [change.scan_id for change in found if change.kind == "removed"]
    states: dict[str, str] = {}
    if gone:
        rows = connection.execute(sa.select(t.scans.c.scan_id, t.scans.c.state).where(t.scans.c.scan_id == sa.func.any(gone)))
        states = {row.scan_id: row.state for row in rows}
    return [
        Change(**(vars(change) | {"why": f"the scan is {state} now"}))
        if change.kind == "removed" and (state := states.get(change.scan_id, "not in the catalog")) != "validated"
        else change
        for change in found
    ]


def totals(found: Sequence[Change]) -> dict[str, int]:
    """How many scans were added, removed and changed, and of the changed how many in each part."""
    counts = Counter(change.kind for change in found)
    parts = Counter(part for change in found for part in change.parts)
    return {
        **{kind: counts[kind] for kind in ("added", "removed", "changed")},
        **{part: parts[part] for part in (ANNOTATION, SPLIT, WEIGHT, SCAN)},
    }
