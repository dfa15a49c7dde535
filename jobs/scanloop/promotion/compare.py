"""The job `promotion compare`: whether a candidate may take the champion's place, decided on one frozen test split, with the evidence."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scanloop.errors import DataWrong, NothingToDo
from scanloop.evaluation.evaluate import Judged, ensure_evaluation, judged_on, load_results
from scanloop.evaluation.lookup import Row, find_model
from scanloop.evaluation.reference import Bools, DetectionSet, ReferenceSet
from scanloop.promotion.comparison import Comparison, Side, compare
from scanloop.promotion.evidence import Contender, Decision, write_evidence
from scanloop.promotion.gate import judge
from scanloop.promotion.policy import GatePolicy, decision_id
from scanloop.promotion.records import champion_of, find_decision
from scanloop.snapshots.manifest import SnapshotReader, load_snapshot
from scanloop.steps import step

if TYPE_CHECKING:
    from scanloop.execution import JobRun

log = logging.getLogger(__name__)
SAME_NUMBER = 1e-9
"""Two ways to compute one AP differ by rounding alone."""


def compare_models(run: JobRun, model_id: str, snapshot_id: str) -> dict[str, Any]:
    """Compare a candidate with the champion of its product line, or judge it alone if there is none, and write the decision down.

    Whichever of them has no evaluation on the snapshot yet is evaluated first. The same question is decided once: asked again, the
    decision that exists is returned.

    Raises:
        WrongArguments: unknown model or snapshot.
        NothingToDo: the model is the champion already.
        DataWrong: they cannot be judged on this snapshot, or what is kept of an evaluation contradicts itself.
    """
    from scanloop.training.choose import find_snapshot

    product_line, policy = run.definition.product_line, GatePolicy.of(run.definition.gate)
    snapshot = load_snapshot(run.store, find_snapshot(run.catalog, product_line, snapshot_id))
    with run.catalog.read() as connection:
        candidate = find_model(connection, product_line, model_id)
        place = champion_of(connection, product_line)
        champion = find_model(connection, product_line, place["model_id"]) if place else None
        if champion is not None and champion["model_id"] == candidate["model_id"]:
            raise NothingToDo(f"Model {candidate['model_id'][:12]} is the champion of {product_line} already.")
        name = decision_id(candidate["model_id"], champion["model_id"] if champion else None, snapshot.snapshot_id, policy)
        known = find_decision(connection, name)
    if known is not None:
        log.info("This was decided before: %s.", name[:12])
        return _result(known, policy)
    decision = _decide(run, policy, name, snapshot, candidate, champion)
    step("promotion.before_evidence")
    stored = write_evidence(run, decision)
    row = {
        "decision_id": name,
        "product_line": product_line,
        "candidate_id": candidate["model_id"],
        "champion_id": champion["model_id"] if champion else None,
        "snapshot_id": snapshot.snapshot_id,
        "verdict": decision.judgement.verdict,
        "needs_approval": decision.needs_approval,
        "reasons": decision.judgement.reasons,
        "evidence_key": stored.key,
        "evidence_sha256": str(stored.sha256),
    }
    run.publication.insert("decisions", [row], action="model.judged", subject="decision_id")
    if decision.judgement.verdict == "reject" and candidate["state"] == "candidate":
        key, rejected = {"model_id": candidate["model_id"]}, {"state": "rejected"}
        run.publication.update("models", key=key, expect={"state": "candidate"}, set=rejected, action="model.rejected")
    for reason in decision.judgement.reasons:
        log.info("%s", reason)
    return _result(row, policy)


def _result(row: Row, policy: GatePolicy) -> dict[str, Any]:
    names = ("decision_id", "candidate_id", "champion_id", "snapshot_id", "verdict", "needs_approval", "reasons", "evidence_key")
    return {**{name: row[name] for name in names}, "approvers": list(policy.approvers)}


def _decide(run: JobRun, policy: GatePolicy, name: str, snapshot: SnapshotReader, candidate: Row, champion: Row | None) -> Decision:
    rows = [candidate, *([champion] if champion else [])]
    evaluations = [ensure_evaluation(run, row, snapshot) for row in rows]
    step("promotion.after_evaluations")
    results = [load_results(run.store, row) for row in evaluations]
    judged = [judged_on(run, row, snapshot, found["detections"]) for row, found in zip(rows, results, strict=True)]
    reference, detections = _shared(judged)
    sides = [
        Side(row["model_id"], found, one.operating_point(policy.target_pfa))
        for row, found, one in zip(rows, detections, judged, strict=True)
    ]
    comparison = compare(reference, sides[0], sides[1] if champion else None, confidence=policy.confidence, seed=int(name[:8], 16))
    _agrees(comparison, reference, results)
    contenders = [Contender(*parts) for parts in zip(rows, evaluations, results, sides, strict=True)]
    left_out = max(one.left_out["test_bags"] + len(one.test.bag_ids) for one in judged) - len(reference.bag_ids)
    return Decision(
        decision_id=name,
        snapshot_id=snapshot.snapshot_id,
        policy=policy,
        reference=reference,
        left_out=left_out,
        candidate=contenders[0],
        champion=contenders[1] if champion else None,
        comparison=comparison,
        judgement=judge(comparison, policy),
    )


def _shared(judged: list[Judged]) -> tuple[ReferenceSet, list[DetectionSet]]:
    """The test bags that every model may be judged on, with each model's detections on them. Raises DataWrong if there is none."""
    common = set.intersection(*(set(one.test.scan_positions) for one in judged))
    if not common:
        raise DataWrong("Candidate and champion have no bag of the test split in common that neither has seen. Make a new snapshot.")
    parts = []
    for one in judged:
        keep: Bools = np.array([scan.scan_id in common for scan in one.test.scans])
        reference, positions = one.test.only(keep)
        parts.append((reference, one.test_detections.only(positions)))
    return parts[0][0], [found for _, found in parts]


def _agrees(comparison: Comparison, reference: ReferenceSet, results: list[dict[str, Any]]) -> None:
    """The kept detections must give the kept AP, where both are over the same scans. Raises DataWrong."""
    measured = [comparison.candidate, *([comparison.champion] if comparison.champion else [])]
    for model, kept in zip(measured, results, strict=True):
        if kept["counts"]["scans"] != len(reference.scans):
            continue
        for name in ("ap", "ap50"):
            ours, theirs = getattr(model, name), kept["ap"][name]
            if (ours is None) != (theirs is None) or (ours is not None and not math.isclose(ours, theirs, abs_tol=SAME_NUMBER)):
                raise DataWrong(f"The evaluation of {model.model_id[:12]} says {name} {theirs}, its kept detections say {ours}.")
