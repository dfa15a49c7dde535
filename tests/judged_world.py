"""A product line with a snapshot and models of set skill, recorded as real runs do: what evaluation and promotion start from."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulated_detections import CATEGORIES, Skill, detect, make_split
from small_world import define, rows_of

from scanloop.errors import NothingToDo

if TYPE_CHECKING:
    from scanloop.cli.options import World
    from scanloop.execution import JobRun

SPLIT_OF = ("test", "train", "test", "val")
Body = Callable[..., dict[str, Any]]
GOOD, POOR = Skill(hit=3.0, false_score=-3.0, jitter=0.05), Skill(hit=-0.5, false_score=-2.0, jitter=0.12)
GATE = {"target_pfa": 0.2, "max_pd_drop": 0.15, "min_ap50": 0.3}


def make_snapshot(
    run_body: Body,
    world: World,
    *,
    bags: int = 160,
    seed: int = 1,
    gate: dict[str, Any] | None = None,
    moved: int = 0,
    name: str = "snap",
    synthetic_split: str = "",
) -> str:
    """A snapshot of the product line `cabin`: half of the bags in test, a quarter each in train and val; its id.

    `moved` shifts the bags through the splits by that many places: what one snapshot trains on is then in another one's test split. Threats of the
    scans in `synthetic_split` are marked as projected.
    """
    import numpy as np

    from scanloop.scans.planes import encode_planes
    from scanloop.snapshots.manifest import SHARDS_PREFIX, Balance, ShardEntry, SnapshotRecord, SnapshotRoot, root_key
    from scanloop.snapshots.shards import encode_shard, in_order, rows_digest

    with contextlib.suppress(NothingToDo):
        define(run_body, f"define-{name}", categories=list(CATEGORIES), gate={**GATE, **(gate or {})})
    pixels = np.full((300, 540), 60000, np.uint16)
    pixels[60:240, 80:460] = 30000
    planes = world.store.put_content("scans/planes", encode_planes({"high": pixels, "low": (pixels * 0.8).astype(np.uint16)}), ".tiff")
    scans = make_split(bags, seed).scans
    carrying = {scan.bag_id for scan in scans if scan.boxes}
    records = in_order(
        SnapshotRecord(
            scan_id=scan.scan_id,
            bag_id=scan.bag_id,
            site_id="site",
            scanner_id=scan.scanner_model,
            scanner_model=scan.scanner_model,
            view_name=scan.view_name,
            planes_key=planes.key,
            planes=("high", "low"),
            height_px=300,
            width_px=540,
            acquired_at=None,
            phash=None,
            split=SPLIT_OF[(int(scan.bag_id[-4:]) + moved) % 4],
            is_synthetic=synthetic_split == SPLIT_OF[(int(scan.bag_id[-4:]) + moved) % 4],
            is_clean_bag=scan.bag_id not in carrying,
            looked_for=CATEGORIES,
            annotation_ids=(),
            boxes=scan.boxes,
        )
        for scan in scans
    )

    def body(run: JobRun) -> dict[str, Any]:
        stored = run.store.put_content(SHARDS_PREFIX, encode_shard(records), ".parquet")
        shard = ShardEntry(0, stored.key, str(stored.sha256), stored.size_bytes, len(records), rows_digest(records))
        root = SnapshotRoot(
            "cabin", CATEGORIES, {"seed": 0, "taxonomy": "t-1"}, (shard,), Balance((), None), {"scans": len(records)}
        ).to_bytes()
        snapshot_id = hashlib.sha256(root).hexdigest()
        row = {"snapshot_id": snapshot_id, "product_line": "cabin", "definition_version": "1", "root_key": root_key(snapshot_id)}
        row |= {"counts": {}, "state": "ready", "sequence": 1 + len(rows_of(world, "snapshots"))}
        run.store.put(root_key(snapshot_id), root)
        run.publication.insert("snapshots", [row], action="snapshot.created", subject="snapshot_id")
        return {"snapshot_id": snapshot_id}

    return str(run_body("snapshot.create", body, run_id=name, product_line="cabin")["snapshot_id"])


def add_model(run_body: Body, snapshot_id: str, name: str, **columns: Any) -> str:
    """Record a trained model, without weights that could detect anything; its id."""
    model_id = hashlib.sha256(name.encode()).hexdigest()
    row = {"model_id": model_id, "product_line": "cabin", "snapshot_id": snapshot_id, "recipe": "none", "state": "candidate"}
    row |= {"config_key": "models/none.json", "weights_key": f"models/{name}", **columns}

    def body(run: JobRun) -> dict[str, Any]:
        run.publication.insert("models", [row], action="model.trained", subject="model_id")
        return {"model_id": model_id}

    run_body("model.train", body, run_id=f"train-{name}", product_line="cabin")
    return model_id


def evaluate_as(
    run_body: Body, world: World, model_id: str, snapshot_id: str, skill: Skill, seed: int, *, run_id: str = ""
) -> dict[str, Any]:
    """Record the evaluation of a model that detects with this skill."""
    from scanloop.evaluation.evaluate import record_evaluation
    from scanloop.evaluation.splits import load_split
    from scanloop.evaluation.tables import write_detections
    from scanloop.snapshots.manifest import load_snapshot

    model = rows_of(world, "models", model_id=model_id)[0]
    snapshot = load_snapshot(world.store, snapshot_id)
    splits = {split: load_split(snapshot, split) for split in ("val", "test")}
    found = {split: (reference, detect(reference, skill, seed + place)) for place, (split, reference) in enumerate(splits.items())}

    def body(run: JobRun) -> dict[str, Any]:
        row = record_evaluation(run, model, snapshot, write_detections(found))
        return {"evaluation_id": row["evaluation_id"]}

    return run_body("evaluation.run", body, run_id=run_id or f"evaluate-{model_id[:6]}-{snapshot_id[:6]}", product_line="cabin")


def add_judged_model(run_body: Body, world: World, snapshot_id: str, name: str, skill: Skill, seed: int = 1) -> str:
    """Record a model and its evaluation; the model's id."""
    model_id = add_model(run_body, snapshot_id, name)
    evaluate_as(run_body, world, model_id, snapshot_id, skill, seed)
    return model_id


def compare(run_body: Body, model_id: str, snapshot_id: str, *, run_id: str = "") -> dict[str, Any]:
    """Run the job that decides."""
    from scanloop.promotion.compare import compare_models

    body = lambda run: compare_models(run, model_id, snapshot_id)  # noqa: E731
    return run_body("promotion.compare", body, run_id=run_id or f"compare-{model_id[:6]}", product_line="cabin", lease="cabin/promotion")


def promote(run_body: Body, decision_id: str, *, approver: str | None = None, run_id: str = "") -> dict[str, Any]:
    """Run the job that switches."""
    from scanloop.promotion.promote import promote_candidate

    body = lambda run: promote_candidate(run, decision_id, approver)  # noqa: E731
    return run_body("promotion.promote", body, run_id=run_id or f"promote-{decision_id[:6]}", product_line="cabin", lease="cabin/promotion")
