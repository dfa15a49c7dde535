"""The job `evaluation run`: what a model is worth on the test split of a frozen snapshot."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.canonical import canonical_json, digest_of
from scanloop.errors import DataWrong
from scanloop.evaluation import charts, gallery
from scanloop.evaluation.lookup import Row, ancestors, find_evaluation, find_model
from scanloop.evaluation.outcomes import BagScores, bag_scores
from scanloop.evaluation.page import Image, evaluation_page
from scanloop.evaluation.reference import DetectionSet, ReferenceSet
from scanloop.evaluation.splits import bags_of, load_split
from scanloop.evaluation.summary import summarise
from scanloop.evaluation.tables import read_detections, write_detections, write_outcomes
from scanloop.evaluation.thresholds import OperatingPoint, choose_operating_point
from scanloop.snapshots.manifest import SnapshotReader, load_snapshot
from scanloop.steps import step

if TYPE_CHECKING:
    from scanloop.execution import JobRun
    from scanloop.store import Store, StoredObject

log = logging.getLogger(__name__)
FORMAT = 1
PREFIX = "evaluations"
PICTURES = 6
"""Bags shown as worst misses, and as worst false alarms."""


@dataclass(frozen=True)
class Judged:
    """A model's detections on the parts of a snapshot that it may be judged on."""

    val: ReferenceSet
    """Val bags that the model was not trained on."""
    val_detections: DetectionSet
    """What it says about them."""
    test: ReferenceSet
    """Test bags that it has never seen."""
    test_detections: DetectionSet
    """What it says about them."""
    left_out: dict[str, int]
    """Bags left out of each split because the model, or one that it started from, has seen them."""

    def operating_point(self, target_pfa: float) -> OperatingPoint:
        """Thresholds for a target, from the val split."""
        return choose_operating_point(bag_scores(self.val, self.val_detections), target_pfa)


def evaluate_model(run: JobRun, model_id: str, snapshot_id: str) -> dict[str, Any]:
    """Evaluate a model on a snapshot and keep detections, outcomes, numbers, charts and a page.

    A model is evaluated on a snapshot once; later calls return what is known.

    Raises:
        WrongArguments: unknown model or snapshot.
        DataWrong: the snapshot's test or val split cannot be judged on.
    """
    from scanloop.training.choose import find_snapshot

    product_line = run.definition.product_line
    snapshot = load_snapshot(run.store, find_snapshot(run.catalog, product_line, snapshot_id))
    with run.catalog.read() as connection:
        model = find_model(connection, product_line, model_id)
    row = ensure_evaluation(run, model, snapshot)
    return {"evaluation_id": row["evaluation_id"], "model_id": model["model_id"], "snapshot_id": snapshot.snapshot_id,
            "report_key": row["report_key"], **row["summary"]}  # fmt: skip


def ensure_evaluation(run: JobRun, model: Row, snapshot: SnapshotReader) -> Row:
    """The evaluation of a model on a snapshot: the one in the catalog, or a new one that this run publishes."""
    run.add_input("model", model["model_id"])
    run.add_input("snapshot", snapshot.snapshot_id)
    with run.catalog.read() as connection:
        row = find_evaluation(connection, model["model_id"], snapshot.snapshot_id)
    if row is not None:
        log.info("Model %s is evaluated on snapshot %s already.", model["model_id"][:12], snapshot.snapshot_id[:12])
        return row
    return record_evaluation(run, model, snapshot, _detect(run, model, snapshot))


def record_evaluation(run: JobRun, model: Row, snapshot: SnapshotReader, found: bytes) -> Row:
    """Make an evaluation out of a model's detections on the val and test splits (as `write_detections` keeps them), and publish it."""
    row = _write(run, model, snapshot, found)
    run.publication.insert("evaluations", [row], action="model.evaluated", subject="evaluation_id")
    return row


def _write(run: JobRun, model: Row, snapshot: SnapshotReader, found: bytes) -> dict[str, Any]:
    detections = kept(run, run.store.put_content(PREFIX, found, ".detections.parquet"))
    step("evaluation.after_detections")
    judged = judged_on(run, model, snapshot, detections)
    gate = run.definition.gate
    point = judged.operating_point(gate.target_pfa)
    bags = bag_scores(judged.test, judged.test_detections)
    outcomes = kept(run, run.store.put_content(PREFIX, write_outcomes(judged.test, bags, point), ".outcomes.parquet"))
    step("evaluation.after_outcomes")
    results = {
        "format": FORMAT,
        "evaluation_id": digest_of([model["model_id"], snapshot.snapshot_id]),
        "product_line": run.definition.product_line,
        "model_id": model["model_id"],
        "snapshot_id": snapshot.snapshot_id,
        "left_out": judged.left_out,
        **summarise(judged.test, judged.test_detections, point, gate.confidence),
        "detections": detections,
        "outcomes": outcomes,
    }
    images = {"charts": _charts(results), **_pictures(run.store, judged, results)}
    results["images"] = {
        kind: [
            {
                "name": image.name,
                "caption": image.caption,
                "bag_id": image.bag_id,
                **kept(run, run.store.put_content(PREFIX, image.data, image.suffix)),
            }
            for image in found
        ]
        for kind, found in images.items()
    }
    step("evaluation.after_images")
    report = run.store.put_content(PREFIX, evaluation_page(results, images["charts"], images["misses"], images["false_alarms"]), ".html")
    run.add_output(report)
    step("evaluation.after_report")
    stored = run.store.put_content(PREFIX, canonical_json(results), ".json")
    run.add_output(stored)
    step("evaluation.after_results")
    log.info(
        "Evaluated %s: AP50 %s, Pd %s, Pfa %s.",
        model["model_id"][:12],
        results["ap"]["ap50"],
        results["pd"]["rate"],
        results["pfa"]["rate"],
    )
    return {
        "evaluation_id": results["evaluation_id"],
        "model_id": model["model_id"],
        "snapshot_id": snapshot.snapshot_id,
        "product_line": run.definition.product_line,
        "results_key": stored.key,
        "outcomes_key": outcomes["key"],
        "report_key": report.key,
        "summary": _summary(results, bags),
    }


def _summary(results: Mapping[str, Any], bags: BagScores) -> dict[str, Any]:
    pd, pfa = results["pd"], results["pfa"]
    return {
        "ap": results["ap"]["ap"],
        "ap50": results["ap"]["ap50"],
        "pd": pd["rate"],
        "pd_lower": pd["lower"],
        "pfa": pfa["rate"],
        "pfa_upper": pfa["upper"],
        "threat_bags": int(bags.is_threat.sum()),
        "clean_bags": int(bags.is_clean.sum()),
        "operating_point": results["operating_point"],
    }


def keep_image(run: JobRun, prefix: str, image: Image) -> dict[str, str]:
    """Write an image to the store, and say where it is and what it shows."""
    stored = run.store.put_content(prefix, image.data, image.suffix)
    return {"name": image.name, "caption": image.caption, "bag_id": image.bag_id, **kept(run, stored)}


def kept(run: JobRun, stored: StoredObject) -> dict[str, str]:
    """Put an object into the receipt, and say where it is and what it hashes to."""
    run.add_output(stored)
    return {"key": stored.key, "sha256": str(stored.sha256)}


def _detect(run: JobRun, model: Row, snapshot: SnapshotReader) -> bytes:
    """Look at the val and test splits. What one attempt has seen, the next attempt of the run does not look at again."""
    from scanloop.evaluation.detecting import detect_split
    from scanloop.training.detector import load_detector

    done = run.workdir / f"detections-{model['model_id']}-{snapshot.snapshot_id}.parquet"
    if done.exists():
        return done.read_bytes()
    splits = {split: load_split(snapshot, split) for split in ("val", "test")}
    detector = load_detector(run.store, model)
    found = {
        split: (reference, detect_split(detector, run.store, reference, f"Model {model['model_id'][:12]} on {split}"))
        for split, reference in splits.items()
    }
    data = write_detections(found)
    unfinished = done.with_suffix(".unfinished")
    unfinished.write_bytes(data)
    unfinished.rename(done)
    return data


def judged_on(run: JobRun, model: Row, snapshot: SnapshotReader, detections: Mapping[str, str]) -> Judged:
    """A model's kept detections on what it may be judged on: never a bag that it, or a model that its weights started from, was trained on.

    Raises:
        DataWrong: nothing is left to judge on, or the kept detections are not those that their record names.
    """
    data = verified(run.store, detections["key"], detections["sha256"])
    trained, seen = _history(run, model)
    parts: dict[str, tuple[ReferenceSet, DetectionSet]] = {}
    left_out: dict[str, int] = {}
    for split, known in (("val", trained), ("test", seen)):
        whole = load_split(snapshot, split)
        part, positions = whole.only(np.array([scan.bag_id not in known for scan in whole.scans]))
        if not part.scans:
            raise DataWrong(
                f"Model {model['model_id'][:12]} has seen every bag of the {split} split of snapshot {snapshot.snapshot_id[:12]}."
            )
        parts[split] = (part, read_detections(data, split, whole).only(positions))
        left_out[f"{split}_bags"] = len(whole.bag_ids) - len(part.bag_ids)
    return Judged(*parts["val"], *parts["test"], left_out)


def _history(run: JobRun, model: Row) -> tuple[frozenset[str], frozenset[str]]:
    """Bags that a model and its ancestors were trained on; and those together with the ones their thresholds were chosen on."""
    with run.catalog.read() as connection:
        chain = ancestors(connection, model)
    trained: frozenset[str] = frozenset()
    chosen_on: frozenset[str] = frozenset()
    for snapshot_id in {row["snapshot_id"] for row in chain}:
        snapshot = load_snapshot(run.store, snapshot_id)
        trained |= bags_of(snapshot, "train")
        chosen_on |= bags_of(snapshot, "val")
    return trained, trained | chosen_on


def verified(store: Store, key: str, sha256: str) -> bytes:
    """An object of the store. Raises DataWrong if it is not the one that its record names."""
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataWrong(f"{store.uri(key)} does not have the digest {sha256[:12]} that its record names.")
    return data


def load_results(store: Store, row: Row) -> dict[str, Any]:
    """The numbers of an evaluation, from the file that its row names. Raises DataWrong if that file was changed."""
    key = str(row["results_key"])
    results: dict[str, Any] = json.loads(verified(store, key, key.rsplit("/", 1)[-1].split(".", maxsplit=1)[0]))
    if (results["model_id"], results["snapshot_id"]) != (row["model_id"], row["snapshot_id"]):
        raise DataWrong(f"{store.uri(key)} is about another model or snapshot than evaluation {str(row['evaluation_id'])[:12]}.")
    return results


def _charts(results: Mapping[str, Any]) -> list[Image]:
    return [
        Image("operating_curve", charts.operating_curve(results)),
        Image("precision_recall", charts.precision_recall(results)),
        Image("by_category", charts.slices(results, "by_category", "category"), is_wide=True),
        Image("by_scanner", charts.slices(results, "by_scanner", "scanner model"), is_wide=True),
    ]


def _pictures(store: Store, judged: Judged, results: Mapping[str, Any]) -> dict[str, list[Image]]:
    thresholds = results["operating_point"]["thresholds"]

    def shown(kind: str, entries: list[dict[str, Any]]) -> list[Image]:
        return [
            Image(
                f"{kind}_{rank}",
                gallery.bag_picture(store, judged.test, judged.test_detections, entry["bag_id"], thresholds),
                gallery.captioned(entry),
                entry["bag_id"],
            )
            for rank, entry in enumerate(entries[:PICTURES], 1)
        ]

    return {"misses": shown("miss", results["worst_misses"]), "false_alarms": shown("false_alarm", results["worst_false_alarms"])}
