"""The job that turns a champion into a bundle: export, parity, bundle, and a row that asks for a release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from scanloop.canonical import canonical_json
from scanloop.catalog.tables import champions, decisions, models, releases
from scanloop.edge.manifest import REQUIRED_FILES
from scanloop.errors import DataWrong, NothingToDo
from scanloop.execution import JobRun
from scanloop.steps import step

PARITY_SCANS = 8
PARITY_PREFIX = "parity"


@dataclass(frozen=True)
class Champion:
    """The model to release, with what vouches for it."""

    model_id: str
    """SHA-256 of its weights."""
    snapshot_id: str
    """What it was trained on."""
    weights_key: str
    """Where its weights are."""
    config_key: str
    """Where its configuration is."""
    decision_id: str
    """Why it is champion."""
    evidence_key: str
    """Where the evidence of that decision is."""
    evidence_sha256: str
    """What the evidence must hash to."""


def export_release(run: JobRun, product_line: str) -> dict[str, Any]:
    """Export the champion of `product_line` and ask for its release. A request that is still open is returned instead of a second one.

    Raises:
        NothingToDo: there is no champion, or it is released already.
        DataWrong: the exported network does not answer as the trained one, or what vouches for the champion is damaged.
    """
    channel = run.definition.release.channel
    champion = find_champion(run, product_line)
    earlier = _releases_of(run, product_line)
    for row in earlier:
        if row["model_id"] == champion.model_id and row["channel"] == channel and row["state"] != "refused":
            if row["state"] == "released":
                raise NothingToDo(
                    f"The champion {champion.model_id[:12]} of {product_line} is release {row['version']} on {channel} already."
                )
            return _result(row, parity=row["attributes"].get("parity", {}))
    version = max((int(row["version"]) for row in earlier), default=0) + 1
    evidence = run.store.get(champion.evidence_key)
    if hashlib.sha256(evidence).hexdigest() != champion.evidence_sha256:
        raise DataWrong(f"The evidence {run.store.uri(champion.evidence_key)} is not what decision {champion.decision_id[:12]} recorded.")
    folder = run.workdir / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "evidence.json").write_bytes(evidence)
    parity = _export_and_compare(run, champion, folder, operating_point(evidence, champion.model_id))
    report = {"release": f"{product_line}/{version}", "model_id": champion.model_id, "snapshot_id": champion.snapshot_id, **parity}
    report["onnx_sha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    parity_object = run.store.put_content(PARITY_PREFIX, canonical_json(report), ".json")
    step("release.after_parity")
    if not parity["holds"]:
        raise DataWrong(
            f"The exported network does not answer as the trained one: {json.dumps(parity)}. "
            f"The report is {run.store.uri(parity_object.key)}."
        )
    return _publish_bundle(run, product_line, champion, version, folder, parity_object.key, report)


def find_champion(run: JobRun, product_line: str) -> Champion:
    """Read the champion and what vouches for it. Raises NothingToDo if there is none."""
    joined = (
        sa.select(
            models,
            decisions.c.decision_id,
            decisions.c.evidence_key,
            decisions.c.evidence_sha256,
            decisions.c.snapshot_id.label("judged_on"),
        )
        .select_from(champions)
        .join(models, models.c.model_id == champions.c.model_id)
        .join(decisions, decisions.c.decision_id == champions.c.decision_id)
        .where(champions.c.product_line == product_line)
    )
    with run.catalog.read() as connection:
        row = connection.execute(joined).mappings().one_or_none()
    if row is None:
        raise NothingToDo(f"{product_line} has no champion yet.")
    return Champion(**{name: row[name] for name in Champion.__dataclass_fields__})


def _releases_of(run: JobRun, product_line: str) -> list[dict[str, Any]]:
    with run.catalog.read() as connection:
        rows = connection.execute(
            sa.select(releases).where(releases.c.product_line == product_line).order_by(releases.c.version)
        ).mappings()
        return [dict(row) for row in rows]


def operating_point(evidence: bytes, model_id: str) -> dict[str, Any]:
    """The thresholds that the decision judged the champion at. Raises DataWrong if the evidence is about another model."""
    try:
        judged = json.loads(evidence)["evidence_of"]["candidate"]
        point: dict[str, Any] = judged["operating_point"]
        if judged["model_id"] == model_id and point["thresholds"]:
            return point
    except (ValueError, KeyError, TypeError):
        pass
    raise DataWrong(f"The evidence of the decision names no thresholds of model {model_id[:12]}.")


def check_exportable(recipe_name: str, model_id: str) -> None:
    """Raises DataWrong if models of this recipe cannot leave the house."""
    from scanloop.training.recipes import RECIPES

    if not RECIPES[recipe_name].is_exportable:
        exportable = ", ".join(known.name for known in RECIPES.values() if known.is_exportable)
        raise DataWrong(
            f"The champion {model_id[:12]} is of the recipe {recipe_name}, which cannot be exported to ONNX; those that can are {exportable}."
        )


def _export_and_compare(run: JobRun, champion: Champion, folder: Path, point: Mapping[str, Any]) -> dict[str, Any]:
    """Fill `folder` with the files of the bundle, evidence apart. Returns the parity as plain values."""
    from scanloop.edge.detector import Detector
    from scanloop.release.bundle import write_rules, write_selftest
    from scanloop.release.export_onnx import export_onnx
    from scanloop.release.parity import compare
    from scanloop.training.config import config_from_bytes
    from scanloop.training.network import build_model

    config = config_from_bytes(run.store.get(champion.config_key))
    check_exportable(config.recipe, champion.model_id)
    weights = run.store.download(champion.weights_key, run.workdir / "model.safetensors")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != champion.model_id:
        raise DataWrong(f"The weights {run.store.uri(champion.weights_key)} are not those of model {champion.model_id[:12]}.")
    model = build_model(config, weights)
    export_onnx(model, len(config.options.planes), config.options.size_px, folder / "model.onnx")
    step("release.after_onnx")
    write_rules(folder, config.categories, config.preprocess, config.postprocess, point)
    detector = Detector(folder)
    scans = _val_scans(run, champion)
    parity, alarms = compare(model, detector, scans)
    clearest = max(range(len(scans)), key=lambda index: (len(alarms[index]), -index))
    write_selftest(folder, detector, scans[clearest], alarms[clearest])
    return parity.to_json()


def _val_scans(run: JobRun, champion: Champion) -> list[Mapping[str, np.ndarray]]:
    """Planes of the first scans of the val split of the snapshot that the model is from."""
    from scanloop.scans.planes import read_planes
    from scanloop.snapshots.manifest import load_snapshot

    records = load_snapshot(run.store, champion.snapshot_id).records("val")
    chosen = [record for record, _ in zip(records, range(PARITY_SCANS), strict=False)]
    for record in chosen:
        run.add_input("scan", record.scan_id)
    return [read_planes(run.store.get(record.planes_key)) for record in chosen]


def _publish_bundle(
    run: JobRun, product_line: str, champion: Champion, version: int, folder: Path, parity_key: str, report: Mapping[str, Any]
) -> dict[str, Any]:
    from scanloop.release.bundle import store_bundle

    channel = run.definition.release.channel
    facts = {
        "product_line": product_line,
        "channel": channel,
        "version": version,
        "model_id": champion.model_id,
        "snapshot_id": champion.snapshot_id,
        "decision_id": champion.decision_id,
    }
    bundle = store_bundle(run.store, folder, REQUIRED_FILES, facts)
    run.add_input("model", champion.model_id)
    run.add_input("decision", champion.decision_id)
    run.add_input("evidence", champion.evidence_sha256)
    for stored in (*bundle.files, bundle.stored):
        run.add_output(stored)
    parity_sha256 = Path(parity_key).stem
    run.outputs.append({"key": parity_key, "sha256": parity_sha256, "size_bytes": len(canonical_json(report))})
    row = {
        "release_id": f"{product_line}-{version}-{bundle.manifest.sha256[:12]}",
        "product_line": product_line,
        "version": version,
        "model_id": champion.model_id,
        "bundle_key": bundle.stored.key,
        "bundle_sha256": bundle.manifest.sha256,
        "channel": channel,
        "state": "requested",
        "attributes": {"parity": dict(report), "parity_key": parity_key, "decision_id": champion.decision_id},
    }
    run.publication.insert("releases", [row], action="release.requested", subject="release_id")
    return _result(row, parity=report)


def _result(row: Mapping[str, Any], parity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "release_id": row["release_id"],
        "version": int(row["version"]),
        "model_id": row["model_id"],
        "channel": row["channel"],
        "bundle_key": row["bundle_key"],
        "bundle_sha256": row["bundle_sha256"],
        "parity": dict(parity),
    }
