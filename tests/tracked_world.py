"""A product line whose models were tracked while no server was there: what the sync starts from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from judged_world import GOOD, POOR, add_model, compare, evaluate_as, make_snapshot, promote
from simulated_detections import CATEGORIES

from scanloop.training.tracking import tracking_id_of

if TYPE_CHECKING:
    from scanloop.cli.options import World

Body = Callable[..., dict[str, Any]]
LOSSES = {1: 1.0, 2: 0.5, 3: 0.25}


def begin_of(run_id: str, snapshot_id: str = "0" * 64, **changes: Any) -> dict[str, Any]:
    """The first line of a spool."""
    begin = {
        "kind": "begin",
        "tracking_id": tracking_id_of(run_id, "cabin"),
        "at": 1_700_000_000_000,
        "product_line": "cabin",
        "run_id": run_id,
        "project": "scanloop/cabin",
        "name": f"none on {snapshot_id[:12]}",
        "tags": ["cabin", "none"],
        "options": {"iterations": 3, "learning_rate": 0.001},
        "links": {"run_id": run_id, "snapshot_id": snapshot_id, "task_url": "http://airflow.test/task", "git_commit": "c0ffee"},
        "properties": {"actor": "test"},
        "uris": {"snapshot": f"file:///roots/{snapshot_id}.json"},
        "environment": {"python": "3.11", "device": "cpu", "packages": "torch==2.13\nmmdet==3", "git_commit": "c0ffee"},
        "config": {"model": {"type": "RTMDet"}},
    }
    return begin | changes


def keep_spool(world: World, begin: dict[str, Any], *last: dict[str, Any], is_marked: bool = True) -> str:
    """Put the spool of a training into the store as `Experiment` does; its tracking id."""
    prefix = f"tracking/{begin['tracking_id']}"
    lines = [begin, *({"kind": "scalars", "iteration": step, "values": {"loss": loss}, "at": step} for step, loss in LOSSES.items())]
    lines += [{"kind": "picture", "series": "scan", "iteration": 3, "path": "pictures/000.png"}]
    lines += [{"kind": "metrics", "values": {"val_ap50": 0.5}}, *(last or ({"kind": "end"},))]
    world.store.put(f"{prefix}/pictures/000.png", b"\x89PNG")
    world.store.put(f"{prefix}/events.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    if is_marked:
        mark(world, begin)
    return str(begin["tracking_id"])


def mark(world: World, begin: dict[str, Any]) -> None:
    """Mark an experiment as open."""
    world.store.put(f"tracking/open/{begin['tracking_id']}.json", json.dumps(begin).encode())


def add_tracked_model(run_body: Body, world: World, snapshot_id: str, name: str, **columns: Any) -> str:
    """A model whose training kept a spool; its id."""
    tracking_id = keep_spool(world, begin_of(f"train-{name}", snapshot_id))
    world.store.put("models/none.json", json.dumps({"categories": list(CATEGORIES)}).encode())
    return add_model(run_body, snapshot_id, name, tracking_id=tracking_id, **columns)


def tracked_line(run_body: Body, world: World) -> dict[str, str]:
    """A snapshot, a champion, and a poor candidate that started from it, both evaluated and decided on; their ids."""
    snapshot_id = make_snapshot(run_body, world, bags=60, gate={"approval": "never", "min_threat_bags": 1, "min_clean_bags": 1})
    good = add_tracked_model(run_body, world, snapshot_id, "good")
    evaluate_as(run_body, world, good, snapshot_id, GOOD, 1)
    promote(run_body, compare(run_body, good, snapshot_id)["decision_id"])
    poor = add_tracked_model(run_body, world, snapshot_id, "poor", parent_model_id=good)
    evaluate_as(run_body, world, poor, snapshot_id, POOR, 1)
    compare(run_body, poor, snapshot_id)
    return {"snapshot": snapshot_id, "good": good, "poor": poor}
