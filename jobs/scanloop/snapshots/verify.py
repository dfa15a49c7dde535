"""Whether a snapshot is what it says: digests, counts, and no bag or near copy in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from scanloop.curation.near_duplicates import Fingerprint, near_pairs
from scanloop.snapshots.counts import count
from scanloop.snapshots.manifest import SPLITS, SnapshotReader, SnapshotRecord
from scanloop.snapshots.past import remembered_by
from scanloop.snapshots.shards import bucket_of, rows_digest
from scanloop.snapshots.splits import unit_of


def violations(reader: SnapshotReader) -> Iterator[str]:
    """What is wrong with a snapshot, one sentence each.

    Raises:
        ObjectNotFound: a shard is gone.
        SnapshotDamaged: a shard does not have its digest.
    """
    buckets = int(reader.root.rules["buckets"])
    for shard in reader.root.shards:
        rows = reader.shard(shard)
        if rows_digest(rows) != shard.rows_sha256:
            yield f"The rows of bucket {shard.bucket} do not have the digest that the root names."
        yield from (f"Bag {row.bag_id} is in bucket {shard.bucket}." for row in rows if bucket_of(row.bag_id, buckets) != shard.bucket)
    records = list(reader.rows())
    remembered_by(reader)
    yield from leaks(records, int(reader.root.rules["near_duplicate_bits"]), str(reader.root.rules.get("split_by", "bag")))
    if len({record.scan_id for record in records}) != len(records):
        yield "A scan is in it twice."
    yield from (
        f"Scan {row.scan_id} is synthetic and in {row.split}." for row in records if row.is_synthetic and row.split in ("val", "test")
    )
    if count(records, reader.categories, reader.root.balance, int(reader.root.rules["seed"])) != reader.counts:
        yield "The root counts something else than the rows hold."


def leaks(records: list[SnapshotRecord], near_duplicate_bits: int, split_by: str = "bag") -> Iterator[str]:
    """Bags, what else no two splits share (`split_by`), and near copies of bags, that are in more than one of train, val and test."""
    used = [record for record in records if record.split in SPLITS]
    splits: dict[str, set[str]] = defaultdict(set)
    for record in used:
        splits[record.bag_id].add(record.split)
    yield from (f"Bag {bag_id} is in {' and '.join(sorted(found))}." for bag_id, found in sorted(splits.items()) if len(found) > 1)
    shared: dict[str | None, set[str]] = defaultdict(set)
    for record in used if split_by != "bag" else ():
        when = datetime.fromisoformat(record.acquired_at) if record.acquired_at else None
        shared[unit_of(vars(record) | {"acquired_at": when}, split_by)].add(record.split)
    for unit, found in sorted(shared.items(), key=str):
        if unit is None or len(found) > 1:
            yield f"The {split_by} {unit or 'of a scan is unknown, which'} is in {' and '.join(sorted(found))}."
    split_of = {record.scan_id: record.split for record in used}
    prints = [Fingerprint(record.scan_id, record.bag_id, record.scanner_model, record.view_name, record.phash) for record in used]
    for one, other, bits in near_pairs(prints, near_duplicate_bits):
        first, second = split_of[one.scan_id], split_of[other.scan_id]
        if first != second:
            yield f"Scan {one.scan_id[:12]} in {first} and {other.scan_id[:12]} in {second} differ in {bits} bits only."


def leaks_between(earlier: Sequence[SnapshotRecord], later: Sequence[SnapshotRecord], near_duplicate_bits: int) -> Iterator[str]:
    """Bags, and near copies of bags, that were in one split of an earlier snapshot and are in another one of a later."""
    before: dict[str, set[str]] = defaultdict(set)
    for record in earlier:
        if record.split in SPLITS:
            before[record.bag_id].add(record.split)
    used = [record for record in later if record.split in SPLITS]
    for bag_id, split in sorted({(record.bag_id, record.split) for record in used}):
        if others := before[bag_id] - {split}:
            yield f"Bag {bag_id} was in {' and '.join(sorted(others))} and is in {split}."
    was, now = ("0 {}".format, "1 {}".format)  # the same scan may be on both sides
    splits: dict[str, str] = {}
    prints = []
    for name, records in ((was, [record for record in earlier if record.split in SPLITS]), (now, used)):
        for record in records:
            splits[name(record.scan_id)] = record.split
            prints.append(Fingerprint(name(record.scan_id), name(record.bag_id), record.scanner_model, record.view_name, record.phash))
    for pair in near_pairs(prints, near_duplicate_bits):
        first, second = sorted(item.scan_id for item in pair[:2])
        if first[0] != second[0] and splits[first] != splits[second]:
            said = f"{second[2:14]}, which differs in {pair[2]} bits only, is in {splits[second]}"
            yield f"Scan {first[2:14]} was in {splits[first]}, and {said}."
