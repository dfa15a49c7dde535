"""The job `model train`: one snapshot in, one candidate model out."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scanloop.errors import ObjectNotFound
from scanloop.execution.receipts import folder_name
from scanloop.steps import step
from scanloop.tracking.server import project_name
from scanloop.training.choose import Parent, find_parent, find_snapshot
from scanloop.training.config import ModelConfig, make_config
from scanloop.training.fitting import Plan, fit_plan
from scanloop.training.pretrained import parse_pretrained
from scanloop.training.recipes import resolve_options
from scanloop.training.team import Team
from scanloop.training.tracking import Experiment, tracking_id_of

if TYPE_CHECKING:
    from scanloop.execution import JobRun
    from scanloop.snapshots.manifest import SnapshotReader
    from scanloop.store import Store
    from scanloop.training.detector import Detector
    from scanloop.training.scoring import Scored

log = logging.getLogger(__name__)
OnStep = Callable[[int, int, Mapping[str, float]], None]
SAMPLE_PICTURES = 4
ALONE = Team()
PICTURE_THRESHOLD = 0.25
"""Score from which a detection is drawn; operating points are evaluation's business."""


@dataclass(frozen=True)
class Finished:
    """What is noted when the weights of a run are kept: a run that is repeated goes on from here."""

    fingerprint: str
    """Digest of everything that decided the training."""
    model_id: str
    """SHA-256 of the weights."""
    weights_key: str
    """Where they are."""
    curves: list[Any]
    """[iteration, values] of every step."""
    seconds: float
    """How long the attempt that ended it took."""
    environment: dict[str, Any] = field(default_factory=dict)
    """What the numbers depend on beside the options, see `devices.describe`."""


def train_detector(
    run: JobRun,
    *,
    snapshot_id: str | None = None,
    recipe_name: str | None = None,
    overrides: Sequence[str] = (),
    on_step: OnStep | None = None,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Train a candidate on a snapshot (default: the newest) by a recipe (default: the definition's) with `key=value` overrides.

    Resumes from the newest good state of the same run. `team`: processes that train together, of which this is the first. Returns model_id,
    snapshot_id, parent_model_id, metrics, environment and seconds.

    Raises:
        WrongArguments: unknown snapshot, recipe or option, or one that means nothing to the recipe.
        DataWrong: no train scan has a box to learn from, the pretrained weights are not what was named, or the loss diverges.
        WorldUnavailable: there is no GPU where one is asked for, or another process of the team is gone.
    """
    from scanloop.snapshots.manifest import load_snapshot

    started = time.monotonic()
    definition = run.definition
    product_line = definition.product_line
    chosen = recipe_name or definition.training.recipe
    options = resolve_options(chosen, definition.training.model_dump(), overrides)
    named = parse_pretrained(options.pretrained, run.store)
    options = options.model_copy(update={"pretrained": named.option if named else ""})
    snapshot = load_snapshot(run.store, find_snapshot(run.catalog, product_line, snapshot_id))
    run.add_input("snapshot", snapshot.snapshot_id)
    config = make_config(chosen, options, snapshot.categories)
    parent = find_parent(run.catalog, run.store, product_line, config)
    if parent is not None:
        run.add_input("model", parent.model_id)
    plan = Plan.of(run.store, config, snapshot, parent, prefix=states_prefix(product_line, run.identity.run_id), name=product_line)
    if plan.pretrained is not None:
        run.add_input("weights", plan.pretrained.sha256)

    experiment = Experiment(run.workdir / "tracking", tracking_id_of(run.identity.run_id, product_line))
    experiment.start(_about(run, config, snapshot, parent), run.store)
    try:
        finished = _trained(run, plan, experiment, on_step or _say_nothing, team)
        detector = _open(run, config, finished)
        from scanloop.training.scoring import score_split

        scored = score_split(detector, snapshot, "val")
        metrics: dict[str, Any] = {**scored.metrics, "final_loss": finished.curves[-1][1].get("loss"), "iterations": len(finished.curves)}
        log.info("Trained %s: %s", finished.model_id[:12], ", ".join(f"{name} {_short(value)}" for name, value in metrics.items()))
        _send_pictures(experiment, detector, snapshot, scored)
        experiment.metrics({name: value for name, value in metrics.items() if isinstance(value, (int, float))})
        experiment.finish(run.store, time.monotonic() - started)
        experiment_url = experiment.url
    finally:
        experiment.stop()

    config_stored = run.store.put_content("models", config.to_bytes(), ".json")
    run.add_output(config_stored)
    run.publication.insert(
        "models",
        [
            {
                "model_id": finished.model_id,
                "product_line": product_line,
                "snapshot_id": snapshot.snapshot_id,
                "parent_model_id": parent.model_id if parent else None,
                "recipe": config.recipe,
                "config_key": config_stored.key,
                "weights_key": finished.weights_key,
                "tracking_id": experiment.tracking_id,
                "parameters": options.model_dump(mode="json"),
                "metrics": metrics,
                "state": "candidate",
            }
        ],
        action="model.trained",
        subject="model_id",
    )
    return {
        "model_id": finished.model_id,
        "snapshot_id": snapshot.snapshot_id,
        "parent_model_id": parent.model_id if parent else None,
        "metrics": metrics,
        "environment": finished.environment,
        "seconds": round(time.monotonic() - started, 1),
        "tracking_id": experiment.tracking_id,
        "experiment_url": experiment_url,
    }


def states_prefix(product_line: str, run_id: str) -> str:
    """Where a run keeps its training states and what is noted at its end."""
    return f"training/{product_line}/{folder_name(run_id)}"


def _trained(run: JobRun, plan: Plan, experiment: Experiment, on_step: OnStep, team: Team) -> Finished:
    """Train, or find that this run has trained already. The weights are in the store when this returns."""
    from scanloop.training.network import model_id_of, weights_bytes
    from scanloop.training.state import StateStore

    finished = find_finished(run.store, plan.prefix, plan.fingerprint)
    team.share(plan.to_plain() if finished is None else None)
    if finished is None:
        started = time.monotonic()

        def note(done: int, total: int, values: Mapping[str, float]) -> None:
            experiment.scalars(done, values)
            on_step(done, total, values)

        fitted = fit_plan(plan, run.store, run.workdir, on_step=note, team=team)
        _replay(experiment, fitted.curves[: fitted.resumed_at])
        content = weights_bytes(fitted.weights)
        step("training.before_weights")
        stored = run.store.put_content("models", content, ".safetensors")
        step("training.after_weights")
        curves = [[done, values] for done, values in fitted.curves]
        seconds = time.monotonic() - started
        finished = Finished(plan.fingerprint, model_id_of(content), stored.key, curves, seconds, fitted.environment)
        run.store.put(f"{plan.prefix}/finished.json", json.dumps(asdict(finished)).encode())
        step("training.after_finished")
    else:
        _replay(experiment, finished.curves)
    StateStore(run.store, plan.prefix, plan.fingerprint).clear()
    stored_head = run.store.head(finished.weights_key)
    if stored_head is None:
        raise ObjectNotFound(f"The weights {run.store.uri(finished.weights_key)} of this run are gone.")
    run.add_output(replace(stored_head, sha256=finished.model_id))
    return finished


def _replay(experiment: Experiment, curves: Sequence[Any]) -> None:
    """Tell this attempt's experiment what earlier attempts did."""
    for done, values in curves:
        experiment.scalars(done, values)


def find_finished(store: Store, prefix: str, fingerprint: str) -> Finished | None:
    """What was noted at the end of a training of this fingerprint; None if it did not end, or its weights are not there."""
    found = read_finished(store, prefix)
    return found if found and found.fingerprint == fingerprint and store.verify(found.weights_key, found.model_id) else None


def read_finished(store: Store, prefix: str) -> Finished | None:
    """What was noted at the end of a training; None if nothing that can be read was."""
    key = f"{prefix}/finished.json"
    if store.head(key) is None:
        return None
    try:
        return Finished(**json.loads(store.get(key)))
    except (ValueError, TypeError):
        return None


def _open(run: JobRun, config: ModelConfig, finished: Finished) -> Detector:
    """Build the detector from the bytes that were kept, as everybody after this will."""
    from scanloop.training.detector import Detector
    from scanloop.training.devices import choose_device
    from scanloop.training.network import build_model

    path = run.store.download(finished.weights_key, run.workdir / "model.safetensors")
    return Detector(build_model(config, path).to(choose_device(config.options.device)), config, finished.model_id)


def _about(run: JobRun, config: ModelConfig, snapshot: SnapshotReader, parent: Parent | None) -> dict[str, Any]:
    from scanloop.snapshots.manifest import root_key

    product_line = run.definition.product_line
    links = {"run_id": run.identity.run_id, "snapshot_id": snapshot.snapshot_id, "parent_model_id": parent.model_id if parent else "",
             "task_url": os.environ.get("SCANLOOP_TASK_URL", ""), "git_commit": os.environ.get("SCANLOOP_GIT_COMMIT", "")}  # fmt: skip
    return {
        "product_line": product_line,
        "run_id": run.identity.run_id,
        "project": project_name(product_line),
        "name": f"{config.recipe} on {snapshot.snapshot_id[:12]}",
        "tags": [product_line, config.recipe],
        "options": config.options.model_dump(mode="json"),
        "links": links,
        "properties": {"actor": run.identity.actor, "attempt": run.identity.attempt},
        "uris": {"snapshot": run.store.uri(root_key(snapshot.snapshot_id))},
        "config": config.resolved,
    }


def _send_pictures(experiment: Experiment, detector: Detector, snapshot: SnapshotReader, scored: Scored) -> None:
    """Show the first val scans with threats, and one without."""
    from scanloop.scans.planes import read_planes
    from scanloop.scans.views import encode_png
    from scanloop.training.pictures import detection_picture

    records = list(snapshot.records("val"))
    shown = [record for record in records if record.boxes][: SAMPLE_PICTURES - 1]
    shown += [record for record in records if not record.boxes][: SAMPLE_PICTURES - len(shown)]
    for record in shown:
        truth = [(box.category, box.bbox_xywh) for box in record.boxes]
        planes, found = read_planes(snapshot.store.get(record.planes_key)), scored.detections[record.scan_id]
        picture = detection_picture(planes, truth, found, detector.categories, threshold=PICTURE_THRESHOLD)
        experiment.picture(record.scan_id[:12], detector.config.options.iterations, encode_png(picture))


def _say_nothing(done: int, total: int, losses: Mapping[str, float]) -> None:
    return None


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
