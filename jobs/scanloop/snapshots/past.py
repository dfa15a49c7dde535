"""What earlier snapshots of a product line did with bags, so that later ones never train on what was tested on, or test on what was trained on.

Most of it is in the parent's own rows. What is no longer among a snapshot's rows, because a scan was erased, an annotation no longer counts,
or a bag is withheld, is kept in a Parquet file that its root names: scan_id, bag_id, scanner_model, view_name, split (string), phash (string, null
if unknown).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from scanloop.curation.near_duplicates import Fingerprint
from scanloop.parquet import read_table, write_table
from scanloop.snapshots.manifest import SPLITS, Remembered, SnapshotDamaged, SnapshotReader, SnapshotRecord

PAST_PREFIX = "snapshots/past"
PAST_SUFFIX = ".parquet"
_NAMES = ("scan_id", "bag_id", "scanner_model", "view_name", "phash", "split")
_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=name == "phash") for name in _NAMES])


@dataclass(frozen=True)
class Past:
    """Every scan that an earlier snapshot used, with its split there."""

    prints: tuple[tuple[Fingerprint, str], ...] = ()
    """The scans, and `train`, `val` or `test`."""
    test_set: int = 0
    """Version of the parent's test set; 0: it is not frozen."""
    splits: Mapping[str, frozenset[str]] = field(init=False)
    """Bag to the splits that it was in; more than one only where snapshots are older than this rule."""
    scan_ids: frozenset[str] = field(init=False)
    """The scans' ids."""

    def __post_init__(self) -> None:
        splits: dict[str, set[str]] = defaultdict(set)
        for item, split in self.prints:
            splits[item.bag_id].add(split)
        object.__setattr__(self, "scan_ids", frozenset(item.scan_id for item, _ in self.prints))
        object.__setattr__(self, "splits", {bag: frozenset(found) for bag, found in splits.items()})


NOTHING_BEFORE = Past()


def past_of(parent: SnapshotReader | None) -> Past:
    """What the parent used, and what it remembers of those before. Raises SnapshotDamaged."""
    if parent is None:
        return NOTHING_BEFORE
    used = [_used(record) for shard in parent.root.shards for record in parent.shard(shard) if record.split in SPLITS]
    return Past((*used, *remembered_by(parent)), int(parent.root.rules.get("test_set", 0)))


def remembered_by(reader: SnapshotReader) -> list[tuple[Fingerprint, str]]:
    """What a snapshot remembers and does not use itself. Raises SnapshotDamaged."""
    entry = reader.root.remembered
    if entry is None:
        return []
    data = reader.store.get(entry.key)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise SnapshotDamaged(
            f"What snapshot {reader.snapshot_id[:12]} remembers, {reader.store.uri(entry.key)}, does not have its digest."
        )
    try:
        table = read_table(data)
    except (pa.ArrowException, OSError) as error:
        raise SnapshotDamaged(f"What snapshot {reader.snapshot_id[:12]} remembers cannot be read: {error}.") from None
    if not table.schema.equals(_SCHEMA) or table.num_rows != entry.rows:
        raise SnapshotDamaged(f"What snapshot {reader.snapshot_id[:12]} remembers is not what its root says.")
    return [(Fingerprint(*(row[name] for name in _NAMES[:5])), row["split"]) for row in table.to_pylist()]


def to_remember(past: Past, records: Iterable[SnapshotRecord], parent: SnapshotReader | None) -> tuple[Remembered, bytes | None] | None:
    """What a new snapshot with these records must remember: every earlier use that its own rows do not tell. None: they tell all.

    The parent's file, without content, where that says the same.
    """
    told = {(record.scan_id, record.split) for record in records}
    rows = _rows((item, split) for item, split in past.prints if (item.scan_id, split) not in told)
    if not rows:
        return None
    if parent is not None and parent.root.remembered is not None and rows == _rows(remembered_by(parent)):
        return parent.root.remembered, None
    columns = [pa.array([row[number] for row in rows], pa.string()) for number in range(len(_NAMES))]
    data = write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
    sha256 = hashlib.sha256(data).hexdigest()
    return Remembered(f"{PAST_PREFIX}/{sha256[:2]}/{sha256}{PAST_SUFFIX}", sha256, len(data), len(rows)), data


def _rows(prints: Iterable[tuple[Fingerprint, str]]) -> list[tuple[str | None, ...]]:
    """The rows of the file, sorted."""
    found = {(*(getattr(item, name) for name in _NAMES[:5]), split) for item, split in prints}
    return sorted(found, key=lambda row: [value or "" for value in row])


def _used(record: SnapshotRecord) -> tuple[Fingerprint, str]:
    return Fingerprint(record.scan_id, record.bag_id, record.scanner_model, record.view_name, record.phash), record.split
