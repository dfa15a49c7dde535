"""A product line with a few scans in a test's deployment, made without the simulator: what curation, labelling, review and snapshots start from."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

if TYPE_CHECKING:
    from scanloop.cli.options import World
    from scanloop.execution import JobRun

Body = Callable[..., dict[str, Any]]
SIZE_PX = (48, 64)
CATEGORIES = ("handgun", "knife")


def definition(**changes: Any) -> dict[str, Any]:
    """The content of a product line's YAML."""
    content: dict[str, Any] = {
        "product_line": "cabin",
        "title": "Cabin baggage",
        "taxonomy": "t-1",
        "categories": list(CATEGORIES),
        "selection": {"budget_scans": 400, "exploration_share": 0.1, "near_duplicate_bits": 4, "seed": 5},
        "labelling": {"annotators": 2, "schema_version": "1", "iou_agreement": 0.4, "min_agreement": 0.99},
        "snapshot": {
            "splits": {"train": 0.5, "val": 0.25, "test": 0.25},
            "seed": 3,
            "min_scans": 1,
            "min_new_scans": 1,
            "clean_bag_ratio": 1.0,
            "buckets": 4,
        },
    }
    for name, value in changes.items():
        content[name] = {**content.get(name, {}), **value} if isinstance(value, dict) else value
    return content


def define(run_body: Body, run_id: str = "define", **changes: Any) -> None:
    """Make one product line's definition the active one."""
    from scanloop.catalog.definitions import apply_definitions
    from scanloop.product_lines import ProductLine
    from scanloop.taxonomy.tree import Taxonomy

    names = ("handgun", "knife", "grenade")
    taxonomy = Taxonomy(taxonomy_version="t-1", categories=tuple({"id": name, "name": name} for name in names))  # type: ignore[arg-type]
    line = ProductLine.model_validate(definition(**changes))
    run_body("definitions.apply", lambda run: apply_definitions(run, taxonomy, [line]), run_id=run_id, lease="definitions")


def scan_id_of(bag: str, view: str) -> str:
    """Id of a scan that `add_bags` made."""
    return hashlib.sha256(f"{bag}/{view}".encode()).hexdigest()


def add_bags(
    run_body: Body,
    world: World,
    bags: Sequence[str],
    *,
    views: Sequence[str] = ("side", "top"),
    phashes: Mapping[str, str] | None = None,
    run_id: str = "ingest",
    scanners: Sequence[str] = ("a", "b"),
    columns: Mapping[str, Any] | None = None,
) -> list[str]:
    """Put validated scans of bags into the store, the catalog and the truth; returns the scan ids.

    What is in a bag follows from its name: every third one is clean, the others hold a handgun or a knife. `phashes` sets the perceptual hash of
    scans of a bag; all others are far apart.
    """

    def body(run: JobRun) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for bag in bags:
            number = int(hashlib.sha256(bag.encode()).hexdigest()[:8], 16)
            for view in views:
                rows.append(_scan(world, bag, view, number, f"acme-one-{scanners[number % len(scanners)]}") | dict(columns or {}))
                if phashes and bag in phashes:
                    rows[-1]["phash"] = phashes[bag]
        machines = sorted({row["scanner_id"] for row in rows})
        run.publication.insert("sites", [{"site_id": "ams", "name": "AMS"}], action="site.seen", subject="site_id")
        machine = {"site_id": "ams", "manufacturer": "Acme", "model": "One"}
        run.publication.insert(
            "scanners",
            [machine | {"scanner_id": name, "serial": name[-1]} for name in machines],
            action="scanner.seen",
            subject="scanner_id",
        )
        run.publication.insert("bags", [{"bag_id": bag, "site_id": "ams"} for bag in bags], action="bag.seen", subject="bag_id")
        run.publication.insert("scans", rows, action="scan.received", subject="scan_id")
        return {"scans": len(rows)}

    run_body("test.ingest", body, run_id=run_id)
    return [scan_id_of(bag, view) for bag in bags for view in views]


def _scan(world: World, bag: str, view: str, number: int, scanner_id: str) -> dict[str, Any]:
    from scanloop.scans.planes import encode_planes

    height, width = SIZE_PX
    scan_id = scan_id_of(bag, view)
    random = np.random.default_rng(int(scan_id[:12], 16))
    boxes = [] if number % 3 == 0 else [{"category": CATEGORIES[number % 3 - 1], "bbox_xywh": [10.0, 8.0, 24.0, 20.0], "occlusion": 0.0}]
    high = np.full((height, width), 60000, np.uint16)
    for _ in range(4):
        x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
        high[y : y + 12, x : x + 12] //= int(random.integers(2, 6))
    for box in boxes:
        x, y, w, h = (int(value) for value in box["bbox_xywh"])
        high[y : y + h, x : x + w] //= 4
    planes = {"high": high, "low": (high * 0.7).astype(np.uint16)}
    stored = world.store.put_content("scans/planes", encode_planes(planes), ".tiff")
    truth = Path(world.settings.truth_url.removeprefix("file://")) / f"{scan_id}.json"
    truth.parent.mkdir(parents=True, exist_ok=True)
    truth.write_text(json.dumps({"scan_id": scan_id, "bag_id": bag, "boxes": boxes}))
    return {
        "scan_id": scan_id,
        "site_id": "ams",
        "scanner_id": scanner_id,
        "bag_id": bag,
        "view_name": view,
        "modality": "DX",
        "source_format": "dicos",
        "acquired_at": "2026-03-01T00:00:00+00:00",
        "raw_key": f"scans/raw/{scan_id[:2]}/{scan_id}",
        "planes_key": stored.key,
        "planes": [{"name": name, "height_px": height, "width_px": width, "bits": 16} for name in planes],
        "phash": hashlib.sha256(b"phash" + scan_id.encode()).hexdigest()[:16],
        "state": "validated",
    }


def run_job_of(run_body: Body, job: str, run_id: str) -> dict[str, Any]:
    """Run one keyed job of these rooms as its command would."""
    from scanloop.curation.select import create_selection
    from scanloop.labelling.pull import pull_annotations
    from scanloop.labelling.push import push_tasks
    from scanloop.review.run import review_tasks
    from scanloop.snapshots.create import create_snapshot

    bodies = {
        "selection.create": create_selection,
        "labelling.push": push_tasks,
        "labelling.pull": pull_annotations,
        "review.run": review_tasks,
        "snapshot.create": create_snapshot,
    }
    return run_body(job, bodies[job], run_id=run_id, product_line="cabin", lease=f"cabin/{job.partition('.')[0]}")


def label_everything(run_body: Body, prefix: str, rounds: int = 3) -> None:
    """Choose, and label and review until nothing comes back."""
    run_job_of(run_body, "selection.create", f"{prefix}-select")
    label_chosen(run_body, prefix, rounds)


def label_chosen(run_body: Body, prefix: str, rounds: int = 3) -> None:
    """Label and review what is chosen until nothing comes back."""
    for number in range(rounds):
        if not run_job_of(run_body, "labelling.push", f"{prefix}-push-{number}")["tasks"]:
            return
        run_job_of(run_body, "labelling.pull", f"{prefix}-pull-{number}")
        run_job_of(run_body, "review.run", f"{prefix}-review-{number}")


def rows_of(world: World, table: str, **where: Any) -> list[dict[str, Any]]:
    """Rows of a catalog table with these values, by primary key."""
    from scanloop.catalog.tables import metadata

    known = metadata.tables[table]
    query = sa.select(known).where(*(known.c[name] == value for name, value in where.items())).order_by(*known.primary_key.columns)
    with world.catalog.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def canonical_dump(world: World) -> dict[str, list[dict[str, Any]]]:
    """What these rooms know, without runs and times: equal for equal histories."""
    names = ("selections", "selection_items", "labelling_tasks", "annotations", "reviews", "snapshots")
    return {
        name: [{column: value for column, value in row.items() if column not in ("run_id", "created_at")} for row in rows_of(world, name)]
        for name in names
    }


def runner_of(world: World) -> Body:
    """What the fixture `run_body` is, for another world."""
    from scanloop.cli.options import load_definition
    from scanloop.execution import RunIdentity, execute

    def run(
        job: str, body: Callable[[JobRun], dict[str, Any]], *, run_id: str, product_line: str | None = None, lease: str | None = None
    ) -> dict[str, Any]:
        definition = load_definition(world.catalog, product_line) if product_line else None
        parts = {"settings": world.settings, "store": world.store, "catalog": world.catalog}
        return execute(body, RunIdentity(run_id, job, "", 1, "test", product_line), definition=definition, lease=lease, **parts)

    return run


def die_at(world: World, step_name: str, act: Callable[[], object]) -> bool:
    """Run `act` in a child process that SIGKILL ends at the boundary; whether it got there."""
    import scanloop.steps

    world.catalog.engine.dispose()  # no connection may be shared with the child
    child = os.fork()
    if child == 0:
        try:
            scanloop.steps._passed.clear()
            scanloop.steps._KILL, scanloop.steps._KILL_AT, scanloop.steps._ACTIVE = step_name, "1", True
            act()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def traced(act: Callable[[], Any], file: Path) -> tuple[Any, list[str]]:
    """What `act` returns, and the boundaries that it passes, in order of first passing."""
    import scanloop.steps

    scanloop.steps._TRACE, scanloop.steps._ACTIVE = str(file), True
    try:
        result = act()
    finally:
        scanloop.steps._TRACE, scanloop.steps._ACTIVE = None, False
    return result, list(dict.fromkeys(file.read_text().splitlines()))
