"""What a snapshot is: an immutable manifest of scans, annotations and splits, and the reader that trusts nothing it does not hash.

A snapshot is one root and its shards. The root (`snapshots/roots/<snapshot id>.json`) lists the shards with their digests, the rules they
were made by and how train is balanced; its own SHA-256 is the snapshot id. A shard (`snapshots/shards/<aa>/<sha256>.parquet`) holds the
rows of the bags that hash into its bucket, so a bag is never in two shards and a shard without changed bags is the parent's own file.

What depends on the whole snapshot (repeat factors, which clean train bags are left out) is in the root, not in the rows: otherwise one new
scan would rewrite every shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from scanloop.canonical import canonical_json, digest_of
from scanloop.errors import DataWrong, WrongArguments
from scanloop.labelling.boxes import Box
from scanloop.store import Store

FORMAT = "scanloop.snapshot/1"
SHARDS_PREFIX = "snapshots/shards"
ROOTS_PREFIX = "snapshots/roots"
SPLITS = ("train", "val", "test")
WITHHELD = "withheld"
"""Split of a row that is kept in the manifest and used nowhere: it would leak from one split into another."""


class SnapshotDamaged(DataWrong):
    """A root or a shard is not what its digest says."""


@dataclass(frozen=True)
class SnapshotRecord:
    """One scan in a snapshot, as trainers and evaluators read it."""

    scan_id: str
    """SHA-256 of the received bytes."""
    bag_id: str
    """The inspected object; all its scans are in one split."""
    site_id: str
    """Where it was scanned."""
    scanner_id: str
    """Which machine scanned it."""
    scanner_model: str
    """Manufacturer and model of that machine, the unit of results by scanner."""
    view_name: str
    """Which view of the bag this is."""
    planes_key: str
    """Store key of the curated planes (zstd TIFF, one page a plane)."""
    planes: tuple[str, ...]
    """Names of the planes stored under `planes_key`."""
    height_px: int
    """Rows of each plane."""
    width_px: int
    """Columns of each plane."""
    acquired_at: str | None
    """When it was scanned, ISO 8601 UTC, where the file says so."""
    phash: str | None
    """Perceptual hash, 16 hex digits."""
    split: str
    """`train`, `val`, `test` or `withheld`."""
    is_synthetic: bool
    """Whether threats were projected into it; never in val or test."""
    is_clean_bag: bool
    """Whether no view of the bag has a box."""
    looked_for: tuple[str, ...]
    """Categories that somebody looked for: it is a negative for these only."""
    annotation_ids: tuple[str, ...]
    """The accepted annotations that the boxes are from."""
    boxes: tuple[Box, ...]
    """Every threat of the looked-for categories, sorted."""
    weight: float = 1.0
    """How often to show it in training relative to others (repeat factor); 0 where it is left out; not stored in the shard."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the root lists it."""

    bucket: int
    """Which bags are in it."""
    key: str
    """Store key of the Parquet file."""
    sha256: str
    """Digest of the file."""
    size_bytes: int
    """Length of the file."""
    rows: int
    """Number of records."""
    rows_sha256: str
    """Digest of the records themselves, whatever wrote the file."""


@dataclass(frozen=True)
class Remembered:
    """What earlier snapshots used and this one does not; see `scanloop.snapshots.past`."""

    key: str
    """Store key of the Parquet file."""
    sha256: str
    """Digest of the file."""
    size_bytes: int
    """Length of the file."""
    rows: int
    """Number of scans."""


@dataclass(frozen=True)
class Balance:
    """How train is balanced."""

    repeat_factors: tuple[tuple[str, str, float], ...]
    """(scanner id, category, factor) of every cell whose factor is above 1, sorted."""
    clean_cut: str | None
    """Clean train bags whose draw (hex) is above this are left out; None: all are kept."""
    synthetic_cut: str | None = None
    """Synthetic train scans of bags whose draw (hex) is above this are left out; None: all are kept."""


@dataclass(frozen=True)
class SnapshotRoot:
    """The root of a snapshot."""

    product_line: str
    """Whose dataset it is."""
    categories: tuple[str, ...]
    """Categories in label order."""
    rules: dict[str, Any]
    """The part of the definition that decides the content."""
    shards: tuple[ShardEntry, ...]
    """Every shard that holds a row, by bucket."""
    balance: Balance
    """How train is balanced."""
    counts: dict[str, Any]
    """Scans, bags, boxes by split and category; rows that are not used and why."""
    remembered: Remembered | None = None
    """Uses in earlier snapshots that its rows do not tell; None: they tell all."""

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same snapshot gives the same bytes. What there is none of is not written."""
        content = asdict(self) | {"format": FORMAT, "rules_sha256": digest_of(self.rules)}
        if self.remembered is None:
            del content["remembered"]
        if self.balance.synthetic_cut is None:
            del content["balance"]["synthetic_cut"]
        return canonical_json(content)


def root_from_bytes(data: bytes) -> SnapshotRoot:
    """Read what `SnapshotRoot.to_bytes` wrote.

    Raises:
        SnapshotDamaged: it is no root, or of a format that this version does not know.
    """
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise SnapshotDamaged(f"Expected a snapshot of format {FORMAT}, found {content['format']!r}.")
        balance = content["balance"]
        return SnapshotRoot(
            product_line=content["product_line"],
            categories=tuple(content["categories"]),
            rules=content["rules"],
            shards=tuple(ShardEntry(**shard) for shard in content["shards"]),
            balance=Balance(
                tuple((str(s), str(c), float(f)) for s, c, f in balance["repeat_factors"]),
                balance["clean_cut"],
                balance.get("synthetic_cut"),
            ),
            counts=content["counts"],
            remembered=Remembered(**content["remembered"]) if "remembered" in content else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotDamaged(f"A snapshot root cannot be read: {error}.") from None


def root_key(snapshot_id: str) -> str:
    """Store key of a snapshot's root."""
    return f"{ROOTS_PREFIX}/{snapshot_id}.json"


@dataclass(frozen=True)
class SnapshotReader:
    """An opened snapshot. Every byte it yields was hashed on the way."""

    store: Store
    """Where root, shards and planes are."""
    snapshot_id: str
    """SHA-256 of the root."""
    root: SnapshotRoot
    """The root itself."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories in label order: index + 1 is the COCO category id."""
        return self.root.categories

    @property
    def counts(self) -> dict[str, Any]:
        """What the root counted."""
        return self.root.counts

    def keys(self) -> set[str]:
        """Store keys of everything that it is made of, its root included; not those of pixels."""
        remembered = {self.root.remembered.key} if self.root.remembered else set()
        return {root_key(self.snapshot_id), *(shard.key for shard in self.root.shards), *remembered}

    def rows(self) -> Iterator[SnapshotRecord]:
        """Yield every stored row, left-out ones too (with weight 0), by bucket, bag and scan.

        Raises:
            SnapshotDamaged: a shard is not what the root says; no row of that shard is yielded.
        """
        from scanloop.snapshots.balance import weighed

        for shard in self.root.shards:
            for record in self.shard(shard):
                yield weighed(record, self.root.balance, int(self.root.rules["seed"]))

    def records(self, *splits: str) -> Iterator[SnapshotRecord]:
        """Yield the records to use, of the named splits (none named: train, val and test), by bucket, bag and scan.

        Raises:
            WrongArguments: a split has another name.
            SnapshotDamaged: a shard is not what the root says.
        """
        for split in splits:
            if split not in SPLITS:
                raise WrongArguments(f"A split is one of {', '.join(SPLITS)}; found {split!r}.")
        wanted = splits or SPLITS
        return (record for record in self.rows() if record.split in wanted and record.weight > 0)

    def shard(self, entry: ShardEntry) -> list[SnapshotRecord]:
        """Read one shard after checking its digest. Raises SnapshotDamaged."""
        from scanloop.snapshots.shards import decode_shard

        data = self.store.get(entry.key)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise SnapshotDamaged(
                f"Shard {self.store.uri(entry.key)} of snapshot {self.snapshot_id[:12]} does not have the digest {entry.sha256}."
            )
        records = decode_shard(data)
        if len(records) != entry.rows:
            raise SnapshotDamaged(f"Shard {self.store.uri(entry.key)} holds {len(records)} rows; its root says {entry.rows}.")
        return records


def load_snapshot(store: Store, snapshot_id: str) -> SnapshotReader:
    """Open a snapshot by its full id.

    Raises:
        ObjectNotFound: the store has no such snapshot.
        SnapshotDamaged: the root does not have the digest that is its name.
    """
    data = store.get(root_key(snapshot_id))
    if hashlib.sha256(data).hexdigest() != snapshot_id:
        raise SnapshotDamaged(f"The root {store.uri(root_key(snapshot_id))} does not have the digest that is its name.")
    return SnapshotReader(store, snapshot_id, root_from_bytes(data))
