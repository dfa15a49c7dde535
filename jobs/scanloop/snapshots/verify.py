"""Whether a snapshot is what it says: digests, counts, and no bag or near copy in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from scanloop.curation.near_duplicates import Fingerprint, near_pairs
from scanloop.snapshots.counts import count
from scanloop.snapshots.manifest import SPLITS, SnapshotReader, SnapshotRecord
from scanloop.snapshots.shards import bucket_of, rows_digest


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
    yield from leaks(records, int(reader.root.rules["near_duplicate_bits"]))
    if len({record.scan_id for record in records}) != len(records):
        yield "A scan is in it twice."
    yield from (
        f"Scan {row.scan_id} is synthetic and in {row.split}." for row in records if row.is_synthetic and row.split in ("val", "test")
    )
    if count(records, reader.categories) != reader.counts:
        yield "The root counts something else than the rows hold."


def leaks(records: list[SnapshotRecord], near_duplicate_bits: int) -> Iterator[str]:
    """Bags, and near copies of bags, that are in more than one of train, val and test."""
    used = [record for record in records if record.split in SPLITS]
    splits: dict[str, set[str]] = defaultdict(set)
    for record in used:
        splits[record.bag_id].add(record.split)
    yield from (f"Bag {bag_id} is in {' and '.join(sorted(found))}." for bag_id, found in sorted(splits.items()) if len(found) > 1)
    split_of = {record.scan_id: record.split for record in used}
    prints = [Fingerprint(record.scan_id, record.bag_id, record.scanner_model, record.view_name, record.phash) for record in used]
    for one, other, bits in near_pairs(prints, near_duplicate_bits):
        first, second = split_of[one.scan_id], split_of[other.scan_id]
        if first != second:
            yield f"Scan {one.scan_id[:12]} in {first} and {other.scan_id[:12]} in {second} differ in {bits} bits only."
