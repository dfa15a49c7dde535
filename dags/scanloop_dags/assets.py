"""The assets that connect the DAGs: what one DAG emits and others wait for.

Every asset but `scans` is keyed: its events carry a product line as partition key, and a DAG that waits for it runs once per key.

| asset | emitted by | waited for by |
|---|---|---|
| `due` | `wake_product_lines` | `sync_annotations`, `review_annotations`, `snapshot_datasets` |
| `scans` | `ingest_scans` | `validate_scans` |
| `validated_scans` | `validate_scans` | `curate_scans` |
| `selections` | `curate_scans`, `backfill_category` | `sync_annotations` |
| `annotations` | `sync_annotations` | `review_annotations` |
| `reviewed_annotations` | `review_annotations` | `snapshot_datasets` |
| `snapshots` | `snapshot_datasets` | `train_detector` |
| `champions` | `train_detector` | `publish_release` |
| `releases` | `publish_release` | — |
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetAny, PartitionedAssetTimetable

GROUP = "scanloop"


def _asset(name: str) -> Asset:
    return Asset(name=name, uri=f"scanloop://{name}", group=GROUP)


due = _asset("due")
scans = _asset("scans")
validated_scans = _asset("validated_scans")
selections = _asset("selections")
annotations = _asset("annotations")
reviewed_annotations = _asset("reviewed_annotations")
snapshots = _asset("snapshots")
champions = _asset("champions")
releases = _asset("releases")

KEYED = (due, validated_scans, selections, annotations, reviewed_annotations, snapshots, champions, releases)
"""Assets whose every event carries a product line."""


def each_product_line(*assets: Asset) -> PartitionedAssetTimetable:
    """The schedule that runs a DAG once per product line that any of `assets` was emitted for."""
    return PartitionedAssetTimetable(assets=AssetAny(*assets) if len(assets) > 1 else assets[0])
