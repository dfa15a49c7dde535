"""The evidence of a decision: everything that it was made from, under `evidence/<decision id>/`, each file under its own digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.canonical import canonical_json
from scanloop.evaluation import gallery, page
from scanloop.evaluation.evaluate import keep_image, kept
from scanloop.evaluation.lookup import Row
from scanloop.evaluation.page import Image
from scanloop.evaluation.reference import ReferenceSet
from scanloop.promotion import charts
from scanloop.promotion.comparison import Comparison, Side
from scanloop.promotion.gate import Judgement
from scanloop.promotion.policy import GatePolicy
from scanloop.steps import step

if TYPE_CHECKING:
    from scanloop.execution import JobRun
    from scanloop.store import Store, StoredObject

FORMAT = 1
BAGS_SHOWN = 3
"""Bags shown of each kind, once for each model."""


@dataclass(frozen=True)
class Contender:
    """One model of a decision with what is known about it."""

    model: Row
    """Its row."""
    evaluation: Row
    """The row of its evaluation on the decision's snapshot."""
    results: dict[str, Any]
    """The numbers of that evaluation."""
    side: Side
    """What it says about the bags that are compared."""


@dataclass(frozen=True)
class Decision:
    """A decision before it is written down."""

    decision_id: str
    """Its name."""
    snapshot_id: str
    """The snapshot that both were judged on."""
    policy: GatePolicy
    """What was asked."""
    reference: ReferenceSet
    """The bags that were compared."""
    left_out: int
    """Bags of the test split that one of the models has seen."""
    candidate: Contender
    """Who wants the place."""
    champion: Contender | None
    """Who has it."""
    comparison: Comparison
    """What was measured."""
    judgement: Judgement
    """What the gate says."""

    @property
    def needs_approval(self) -> bool:
        """Whether a named person must agree before the switch."""
        return self.judgement.verdict == "promote" and self.policy.approval == "always"


def write_evidence(run: JobRun, decision: Decision) -> StoredObject:
    """Write charts, pictures, page and numbers; returns the numbers' file, which names the others by digest."""
    folder = f"evidence/{decision.decision_id}"
    content = _content(run, decision)
    images = _images(run.store, decision)
    content["images"] = {kind: [keep_image(run, folder, image) for image in found] for kind, found in images.items()}
    step("promotion.after_images")
    report = run.store.put_content(folder, _page(content, images), ".html")
    content["page"] = kept(run, report)
    step("promotion.after_page")
    stored = run.store.put_content(folder, canonical_json(content), ".json")
    run.add_output(stored)
    step("promotion.after_evidence")
    return stored


def _content(run: JobRun, decision: Decision) -> dict[str, Any]:
    contenders = {"candidate": decision.candidate, "champion": decision.champion}
    return {
        "format": FORMAT,
        "decision_id": decision.decision_id,
        "product_line": run.definition.product_line,
        "definition_version": run.definition.version,
        "snapshot_id": decision.snapshot_id,
        "candidate_id": decision.candidate.model["model_id"],
        "champion_id": decision.champion.model["model_id"] if decision.champion else None,
        "policy": decision.policy.as_json(),
        "verdict": decision.judgement.verdict,
        "needs_approval": decision.needs_approval,
        "findings": [finding.as_json() for finding in decision.judgement.findings],
        "comparison": decision.comparison.as_json(),
        "left_out": decision.left_out,
        "evidence_of": {name: _sources(contender) for name, contender in contenders.items() if contender is not None},
    }


def _sources(contender: Contender) -> dict[str, Any]:
    model, evaluation = contender.model, contender.evaluation
    return {
        "model_id": model["model_id"],
        "trained_on": model["snapshot_id"],
        "parent_model_id": model["parent_model_id"],
        "recipe": model["recipe"],
        "evaluation_id": evaluation["evaluation_id"],
        "results_key": evaluation["results_key"],
        "detections": contender.results["detections"],
        "operating_point": contender.side.point.as_json(),
    }


def _images(store: Store, decision: Decision) -> dict[str, list[Image]]:
    candidate, champion, paired = decision.candidate, decision.champion, decision.comparison.paired
    both = (candidate.results, champion.results if champion else None)
    shown = [Image("operating_curves", charts.operating_curves(*both)), Image("by_category", charts.by_category(*both))]
    if champion is None or paired is None:
        return {"charts": shown}
    return {
        "charts": [*shown, Image("differences", charts.differences(paired, decision.policy), is_wide=True)],
        "lost": _bags(store, decision, champion, "lost", paired.lost_bags),
        "gained": _bags(store, decision, champion, "gained", paired.gained_bags),
        "new_false_alarms": _bags(store, decision, champion, "new_false_alarm", paired.new_false_alarms),
    }


def _bags(store: Store, decision: Decision, champion: Contender, kind: str, bag_ids: Sequence[str]) -> list[Image]:
    """Each bag twice: with what the candidate says, and with what the champion says."""
    images = []
    for rank, bag_id in enumerate(bag_ids[:BAGS_SHOWN], 1):
        for who, contender in (("candidate", decision.candidate), ("champion", champion)):
            point = contender.side.point
            thresholds = dict(zip(point.categories, point.thresholds, strict=True))
            picture = gallery.bag_picture(store, decision.reference, contender.side.detections, bag_id, thresholds)
            images.append(Image(f"{kind}_{rank}_{who}", picture, f"As the {who} sees it", bag_id))
    return images


def _page(content: dict[str, Any], images: dict[str, list[Image]]) -> bytes:
    galleries = []
    if content["champion_id"] is not None:
        galleries = [
            ("Lost: threats that only the champion finds", "None.", images["lost"]),
            ("Gained: threats that only the candidate finds", "None.", images["gained"]),
            ("New false alarms: clean bags that alarm with the candidate alone", "None.", images["new_false_alarms"]),
        ]
    folders = [Path(__file__).parent / "templates", page.TEMPLATES]
    return page.render("decision.html", folders, decision=content, charts=images["charts"], galleries=galleries)
