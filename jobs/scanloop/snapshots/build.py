"""From rows to a root: shards, balance, counts, and whether it is enough to be worth freezing. Rules only; nothing is written here."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from scanloop.errors import NothingToDo
from scanloop.product_lines import ProductLine
from scanloop.snapshots.balance import balance_of, weighed
from scanloop.snapshots.collect import Collected
from scanloop.snapshots.counts import count
from scanloop.snapshots.manifest import SHARDS_PREFIX, SPLITS, ShardEntry, SnapshotReader, SnapshotRecord, SnapshotRoot
from scanloop.snapshots.past import NOTHING_BEFORE, Past, to_remember
from scanloop.snapshots.shards import bucket_of, encode_shard, in_order, rows_digest

SHARD_SUFFIX = ".parquet"


@dataclass(frozen=True)
class BuiltRoot:
    """A root and the shard files it names that do not exist yet."""

    root: SnapshotRoot
    """The root."""
    records: tuple[SnapshotRecord, ...]
    """Every row, weighed, in the order of the shards."""
    new_files: dict[str, bytes]
    """Store key and content of what the parent does not have: shards, and what is remembered of earlier snapshots."""


def build_root(collected: Collected, definition: ProductLine, parent: SnapshotReader | None, past: Past = NOTHING_BEFORE) -> BuiltRoot:
    """Lay rows out in shards. A shard whose rows the parent has too is the parent's file, even if a newer Parquet writer would write other bytes.

    `past` is what the rows were decided by.
    """
    rules = definition.snapshot
    buckets: dict[int, list[SnapshotRecord]] = defaultdict(list)
    for record in collected.records:
        buckets[bucket_of(record.bag_id, rules.buckets)].append(record)
    inherited = {(shard.bucket, shard.rows_sha256): shard for shard in parent.root.shards} if parent else {}
    shards, new_files = [], {}
    for bucket in sorted(buckets):
        rows = in_order(buckets[bucket])
        digest = rows_digest(rows)
        entry = inherited.get((bucket, digest))
        if entry is None:
            data = encode_shard(rows)
            sha256 = hashlib.sha256(data).hexdigest()
            entry = ShardEntry(bucket, f"{SHARDS_PREFIX}/{sha256[:2]}/{sha256}{SHARD_SUFFIX}", sha256, len(data), len(rows), digest)
            new_files[entry.key] = data
        shards.append(entry)
    balance = balance_of(
        (record for record in collected.records if record.split == "train"),
        repeat_threshold=rules.repeat_threshold,
        clean_bag_ratio=rules.clean_bag_ratio,
        seed=rules.seed,
        synthetic_share=rules.synthetic_share,
    )
    remembered = to_remember(past, collected.records, parent)
    if remembered is not None and remembered[1] is not None:
        new_files[remembered[0].key] = remembered[1]
    records = tuple(weighed(record, balance, rules.seed) for bucket in sorted(buckets) for record in in_order(buckets[bucket]))
    counts = count(records, definition.categories, balance, rules.seed)
    return BuiltRoot(
        SnapshotRoot(
            definition.product_line,
            definition.categories,
            rules_of(definition),
            tuple(shards),
            balance,
            counts,
            remembered[0] if remembered is not None else None,
        ),
        records,
        new_files,
    )


def check_enough(built: BuiltRoot, definition: ProductLine, parent: SnapshotReader | None, *, is_of_age: bool = False) -> None:
    """Make sure that a snapshot is worth its training run. For a champion that is of age, whatever changed is enough.

    Raises:
        NothingToDo: there are too few scans, too few changed ones, or a split would be empty; the message says how many more it takes.
    """
    rules, counts = definition.snapshot, built.root.counts
    name = definition.product_line
    if counts["scans"] < rules.min_scans:
        missing = rules.min_scans - counts["scans"]
        raise NothingToDo(f"{name} has {counts['scans']} accepted scans; a snapshot needs {rules.min_scans}, {missing} more.")
    empty = [split for split in SPLITS if built.root.rules["splits"][split] > 0 and not counts["splits"][split]["bags"]]
    if empty:
        raise NothingToDo(
            f"None of the {counts['bags']} accepted bags of {name} is in {' and '.join(empty)} yet; a snapshot needs every split."
        )
    if parent is not None and parent.root.rules == built.root.rules:
        changed, needed = changed_scans(built, parent), 1 if is_of_age else rules.min_new_scans
        if changed < needed:
            raise NothingToDo(
                f"{changed} scans of {name} changed since snapshot {parent.snapshot_id[:12]}; a new one needs {needed}, {needed - changed} more."
            )


def changed_scans(built: BuiltRoot, parent: SnapshotReader) -> int:
    """How many scans were added, removed, or have another row than in the parent. Only shards that differ are read."""
    same = {(shard.bucket, shard.rows_sha256) for shard in built.root.shards} & {
        (shard.bucket, shard.rows_sha256) for shard in parent.root.shards
    }
    unread = {bucket for bucket, _ in same}
    buckets = built.root.rules["buckets"]
    before = {row.scan_id: row for shard in parent.root.shards if shard.bucket not in unread for row in parent.shard(shard)}
    now = {row.scan_id: replace(row, weight=1.0) for row in built.records if bucket_of(row.bag_id, buckets) not in unread}
    return sum(before.get(scan_id) != now.get(scan_id) for scan_id in before.keys() | now.keys())


def rules_of(definition: ProductLine) -> dict[str, Any]:
    """The part of a definition that decides what a snapshot holds. A change elsewhere (recipe, gate, channel) makes no new snapshot."""
    rules = definition.snapshot
    return {
        "taxonomy": definition.taxonomy,
        "categories": list(definition.categories),
        "scanners": list(definition.scanners.include),
        "splits": dict(sorted(rules.splits.items())),
        "seed": rules.seed,
        "clean_bag_ratio": rules.clean_bag_ratio,
        "repeat_threshold": rules.repeat_threshold,
        "buckets": rules.buckets,
        "near_duplicate_bits": definition.selection.near_duplicate_bits,
        **({"query": definition.query} if definition.query else {}),
        **definition.snapshot.said_later(),
    }
