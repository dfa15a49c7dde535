"""The job `model train`: one snapshot in, one candidate model out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from scanloop.canonical import digest_of
from scanloop.errors import DataWrong, ObjectNotFound
from scanloop.execution.receipts import folder_name
from scanloop.steps import step
from scanloop.training.choose import Parent, find_parent, find_snapshot
from scanloop.training.config import ModelConfig, make_config
from scanloop.training.options import resolve_options
from scanloop.training.tracking import Experiment, tracking_id_of

if TYPE_CHECKING:
    from scanloop.execution import JobRun
    from scanloop.snapshots.manifest import SnapshotReader, SnapshotRecord
    from scanloop.store import Store
    from scanloop.training.detector import Detector
    from scanloop.training.scoring import Scored

log = logging.getLogger(__name__)
OnStep = Callable[[int, int, Mapping[str, float]], None]
SAMPLE_PICTURES = 4
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
    """How long the training took, over all attempts that kept a state."""


def train_detector(
    run: JobRun,
    *,
    snapshot_id: str | None = None,
    recipe_name: str | None = None,
    overrides: Sequence[str] = (),
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Train a candidate on a snapshot (default: the newest) by a recipe (default: the definition's) with `key=value` overrides.

    Resumes from the newest state of the same run. Returns model_id, snapshot_id, parent_model_id, metrics and seconds.

    Raises:
        WrongArguments: unknown snapshot, recipe or option.
        DataWrong: no train scan has a box to learn from, or the loss diverges.
    """
    from scanloop.snapshots.manifest import load_snapshot

    started = time.monotonic()
    definition = run.definition
    product_line = definition.product_line
    options = resolve_options(definition.training.model_dump(exclude={"recipe"}), overrides)
    snapshot = load_snapshot(run.store, find_snapshot(run.catalog, product_line, snapshot_id))
    run.add_input("snapshot", snapshot.snapshot_id)
    config = make_config(recipe_name or definition.training.recipe, options, snapshot.categories)
    parent = find_parent(run.catalog, run.store, product_line, config)
    if parent is not None:
        run.add_input("model", parent.model_id)
    fingerprint = digest_of(
        {"config": config.model_dump(mode="json"), "snapshot": snapshot.snapshot_id, "parent": parent and parent.model_id}
    )

    experiment = Experiment(run.workdir / "tracking", tracking_id_of(run.identity.run_id, product_line))
    experiment.start(_about(run, config, snapshot, parent))
    try:
        finished = _trained(run, config, snapshot, parent, fingerprint, experiment, on_step or _say_nothing)
        detector = _open(run, config, finished)
        from scanloop.training.scoring import score_split

        scored = score_split(detector, snapshot, "val")
        metrics: dict[str, Any] = {**scored.metrics, "final_loss": finished.curves[-1][1].get("loss"), "iterations": len(finished.curves)}
        log.info("Trained %s: %s", finished.model_id[:12], ", ".join(f"{name} {_short(value)}" for name, value in metrics.items()))
        _send_pictures(experiment, detector, snapshot, scored)
        experiment.metrics({name: value for name, value in metrics.items() if isinstance(value, (int, float))})
        experiment.finish(run.store, time.monotonic() - started)
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
        "seconds": round(time.monotonic() - started, 1),
    }


def _trained(
    run: JobRun,
    config: ModelConfig,
    snapshot: SnapshotReader,
    parent: Parent | None,
    fingerprint: str,
    experiment: Experiment,
    on_step: OnStep,
) -> Finished:
    """Train, or find that this run has trained already. The weights are in the store when this returns."""
    from scanloop.training.loop import fit
    from scanloop.training.network import build_model, model_id_of, weights_bytes
    from scanloop.training.state import StateStore

    prefix = f"training/{run.definition.product_line}/{folder_name(run.identity.run_id)}"
    finished = _finished(run.store, f"{prefix}/finished.json", fingerprint)
    states = StateStore(run.store, prefix, fingerprint)
    if finished is None:
        started = time.monotonic()
        records = _train_records(snapshot)
        model = build_model(config)
        if parent is not None:
            _start_from(model, run, config, parent)
        dataset = _dataset(run.store, config, records)
        log.info("Training %s on %d scans of snapshot %s for %d iterations, from %s.", config.recipe, len(records), snapshot.snapshot_id[:12],
                 config.options.iterations, f"model {parent.model_id[:12]}" if parent else "scratch")  # fmt: skip

        def note(done: int, total: int, values: Mapping[str, float]) -> None:
            experiment.scalars(done, values)
            on_step(done, total, values)

        weights = [record.weight for record in records]
        fitted = fit(config, model, dataset, weights, states, run.workdir, name=run.definition.product_line, on_step=note)
        _replay(experiment, fitted.curves[: fitted.resumed_at])
        content = weights_bytes(fitted.weights)
        step("training.before_weights")
        stored = run.store.put_content("models", content, ".safetensors")
        step("training.after_weights")
        curves = [[done, values] for done, values in fitted.curves]
        finished = Finished(fingerprint, model_id_of(content), stored.key, curves, time.monotonic() - started)
        run.store.put(f"{prefix}/finished.json", json.dumps(asdict(finished)).encode())
        step("training.after_finished")
    else:
        _replay(experiment, finished.curves)
    states.clear()
    stored_head = run.store.head(finished.weights_key)
    if stored_head is None:
        raise ObjectNotFound(f"The weights {run.store.uri(finished.weights_key)} of this run are gone.")
    run.add_output(replace(stored_head, sha256=finished.model_id))
    return finished


def _replay(experiment: Experiment, curves: Sequence[Any]) -> None:
    """Tell this attempt's experiment what earlier attempts did."""
    for done, values in curves:
        experiment.scalars(done, values)


def _finished(store: Store, key: str, fingerprint: str) -> Finished | None:
    if store.head(key) is None:
        return None
    try:
        found = Finished(**json.loads(store.get(key)))
    except (ValueError, TypeError):
        return None
    return found if found.fingerprint == fingerprint and store.verify(found.weights_key, found.model_id) else None


def _train_records(snapshot: SnapshotReader) -> list[SnapshotRecord]:
    records = sorted(snapshot.records("train"), key=lambda record: record.scan_id)
    if not any(record.boxes for record in records):
        raise DataWrong(f"Snapshot {snapshot.snapshot_id[:12]} has {len(records)} train scans and no box to learn from.")
    return records


def _dataset(store: Store, config: ModelConfig, records: Sequence[SnapshotRecord]) -> Any:
    from scanloop.training.dataset import ScanDataset, snapshot_loader
    from scanloop.training.loop import cpu_threads

    options = config.options
    load = snapshot_loader(store, records, categories=config.categories, size_px=options.size_px, planes_spec=options.planes)
    dataset = ScanDataset(load, len(records), config.categories, options)
    dataset.warm_up(cpu_threads(options.threads))
    return dataset


def _start_from(model: Any, run: JobRun, config: ModelConfig, parent: Parent) -> None:
    """Put the parent's weights into a fresh network."""
    from scanloop.training.network import read_weights, warm_started

    path = run.store.download(parent.weights_key, run.workdir / "parent.safetensors")
    model.load_state_dict(warm_started(model.state_dict(), read_weights(path), config.categories, parent.categories))
    path.unlink()


def _open(run: JobRun, config: ModelConfig, finished: Finished) -> Detector:
    """Build the detector from the bytes that were kept, as everybody after this will."""
    from scanloop.training.detector import Detector
    from scanloop.training.network import build_model

    path = run.store.download(finished.weights_key, run.workdir / "model.safetensors")
    return Detector(build_model(config, path), config, finished.model_id)


def _about(run: JobRun, config: ModelConfig, snapshot: SnapshotReader, parent: Parent | None) -> dict[str, Any]:
    product_line = run.definition.product_line
    links = {"run_id": run.identity.run_id, "snapshot_id": snapshot.snapshot_id, "parent_model_id": parent.model_id if parent else ""}
    return {
        "project": f"scanloop/{product_line}",
        "name": f"{config.recipe} on {snapshot.snapshot_id[:12]}",
        "tags": [product_line, config.recipe],
        "options": config.options.model_dump(mode="json"),
        "links": links,
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
