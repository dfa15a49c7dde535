"""What is in which snapshot, as relations of a trace. The manifests in the store tell; the catalog only knows where they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.catalog.trace import Direction, Relation
from scanloop.snapshots.manifest import SnapshotReader, SnapshotRecord, load_snapshot
from scanloop.snapshots.shards import bucket_of
from scanloop.store import Store


@dataclass
class Manifests:
    """Opened snapshots, each shard read once."""

    store: Store
    connection: sa.Connection
    _readers: dict[str, SnapshotReader] = field(default_factory=dict)
    _shards: dict[str, list[SnapshotRecord]] = field(default_factory=dict)

    def _reader(self, snapshot_id: str) -> SnapshotReader:
        if snapshot_id not in self._readers:
            self._readers[snapshot_id] = load_snapshot(self.store, snapshot_id)
        return self._readers[snapshot_id]

    def records(self, snapshot_id: str, bag_id: str | None = None) -> list[SnapshotRecord]:
        """Every record of a snapshot, or those in the shard that a bag is in."""
        reader = self._reader(snapshot_id)
        wanted = None if bag_id is None else bucket_of(bag_id, int(reader.root.rules["buckets"]))
        found: list[SnapshotRecord] = []
        for shard in reader.root.shards:
            if wanted in (None, shard.bucket):
                if shard.sha256 not in self._shards:
                    self._shards[shard.sha256] = reader.shard(shard)
                found += self._shards[shard.sha256]
        return found

    def snapshots_with(self, scan_id: str) -> list[tuple[str, SnapshotRecord]]:
        """Every snapshot that holds a scan, with its record there."""
        bag_id = self.connection.execute(sa.select(t.scans.c.bag_id).where(t.scans.c.scan_id == scan_id)).scalar_one_or_none()
        ids = self.connection.execute(
            sa.select(t.snapshots.c.snapshot_id).order_by(t.snapshots.c.product_line, t.snapshots.c.sequence)
        ).scalars()
        return [
            (snapshot_id, record)
            for snapshot_id in ([] if bag_id is None else list(ids))
            for record in self.records(snapshot_id, bag_id)
            if record.scan_id == scan_id
        ]


@dataclass(frozen=True)
class ScansIn:
    """A scan leads to every snapshot that holds it."""

    manifests: Manifests
    upstream: str = "scan"
    downstream: str = "snapshot"

    def neighbours(self, node_id: str, direction: Direction, limit: int) -> tuple[list[str], int]:
        """As `Relation.neighbours`."""
        if direction == "downstream":
            found = [snapshot_id for snapshot_id, _ in self.manifests.snapshots_with(node_id)]
        else:
            found = sorted(record.scan_id for record in self.manifests.records(node_id))
        return found[:limit], len(found)


@dataclass(frozen=True)
class AnnotationsIn:
    """An annotation leads to every snapshot whose boxes are from it."""

    manifests: Manifests
    upstream: str = "annotation"
    downstream: str = "snapshot"

    def neighbours(self, node_id: str, direction: Direction, limit: int) -> tuple[list[str], int]:
        """As `Relation.neighbours`."""
        if direction == "upstream":
            found = sorted({each for record in self.manifests.records(node_id) for each in record.annotation_ids})
            return found[:limit], len(found)
        query = sa.select(t.annotations.c.scan_id).where(t.annotations.c.annotation_id == node_id)
        scan_id = self.manifests.connection.execute(query).scalar_one_or_none()
        holding = [] if scan_id is None else self.manifests.snapshots_with(scan_id)
        found = [snapshot_id for snapshot_id, record in holding if node_id in record.annotation_ids]
        return found[:limit], len(found)


def membership(store: Store, connection: sa.Connection) -> list[Relation]:
    """The relations between scans, annotations and the snapshots that hold them."""
    manifests = Manifests(store, connection)
    return [AnnotationsIn(manifests), ScansIn(manifests)]
