"""The Parquet form of a manifest shard: same records, same bytes.

Columns: scan_id, bag_id, site_id, scanner_id, scanner_model, view_name, planes_key (string), planes (list of string), height_px, width_px
(int32), acquired_at (timestamp in µs, UTC, null if unknown), phash (string, null if unknown), split (string), is_synthetic, is_clean_bag
(bool), looked_for, annotation_ids (list of string), boxes (list of struct: category string; x_px, y_px, width_px, height_px float64).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from scanloop.canonical import canonical_json
from scanloop.labelling.boxes import Box
from scanloop.parquet import read_table, write_table
from scanloop.snapshots.manifest import SnapshotDamaged, SnapshotRecord

_BOX = pa.struct([("category", pa.string()), *((name, pa.float64()) for name in ("x_px", "y_px", "width_px", "height_px"))])
SCHEMA = pa.schema(
    [
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("scan_id", "bag_id", "site_id", "scanner_id", "scanner_model", "view_name")
        ),
        pa.field("planes_key", pa.string(), nullable=False),
        pa.field("planes", pa.list_(pa.string()), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("acquired_at", pa.timestamp("us", tz="UTC")),
        pa.field("phash", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("is_synthetic", pa.bool_(), nullable=False),
        pa.field("is_clean_bag", pa.bool_(), nullable=False),
        pa.field("looked_for", pa.list_(pa.string()), nullable=False),
        pa.field("annotation_ids", pa.list_(pa.string()), nullable=False),
        pa.field("boxes", pa.list_(_BOX), nullable=False),
    ]
)


def bucket_of(bag_id: str, buckets: int) -> int:
    """Which of `buckets` shards holds the rows of a bag: always the same."""
    return int.from_bytes(hashlib.sha256(b"bucket\x00" + bag_id.encode()).digest()[:8], "big") % buckets


def in_order(records: Iterable[SnapshotRecord]) -> list[SnapshotRecord]:
    """The order of rows in a shard: by bag, then scan."""
    return sorted(records, key=lambda record: (record.bag_id, record.scan_id))


def rows_digest(records: Sequence[SnapshotRecord]) -> str:
    """SHA-256 of the records in order, independent of the Parquet writer and its version; weights play no part."""
    digest = hashlib.sha256()
    for record in records:
        content = asdict(record)
        del content["weight"]
        digest.update(canonical_json(content) + b"\n")
    return digest.hexdigest()


def encode_shard(records: Sequence[SnapshotRecord]) -> bytes:
    """Write records, in the order given, as zstd Parquet. One version of pyarrow gives the same bytes for the same records."""
    table = pa.Table.from_pylist([_row(record) for record in records], schema=SCHEMA)
    return write_table(table)


def decode_shard(data: bytes) -> list[SnapshotRecord]:
    """Read what `encode_shard` wrote.

    Raises:
        SnapshotDamaged: it is no Parquet, or has other columns.
    """
    try:
        table = read_table(data)
    except (pa.ArrowException, OSError) as error:
        raise SnapshotDamaged(f"A manifest shard cannot be read: {error}.") from None
    if not table.schema.equals(SCHEMA):
        raise SnapshotDamaged(f"A manifest shard has the columns {table.schema.names}; expected {SCHEMA.names}.")
    return [_record(row) for row in table.to_pylist()]


def _row(record: SnapshotRecord) -> dict[str, Any]:
    row = asdict(record)
    del row["weight"]
    row["acquired_at"] = None if record.acquired_at is None else datetime.fromisoformat(record.acquired_at).astimezone(UTC)
    row["boxes"] = [
        {"category": box.category} | dict(zip(("x_px", "y_px", "width_px", "height_px"), box.bbox_xywh, strict=True))
        for box in record.boxes
    ]
    return row


def _record(row: dict[str, Any]) -> SnapshotRecord:
    row["acquired_at"] = None if row["acquired_at"] is None else row["acquired_at"].astimezone(UTC).isoformat()
    row["boxes"] = tuple(Box(box["category"], (box["x_px"], box["y_px"], box["width_px"], box["height_px"])) for box in row["boxes"])
    for name in ("planes", "looked_for", "annotation_ids"):
        row[name] = tuple(row[name])
    return SnapshotRecord(**row)
