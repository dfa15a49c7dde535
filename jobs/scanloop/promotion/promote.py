"""The job `promotion promote`: the switch of champions, and everything that must hold before it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.errors import DataWrong, NothingToDo, WrongArguments
from scanloop.evaluation.evaluate import verified
from scanloop.evaluation.lookup import Row, find_evaluation
from scanloop.execution.receipts import Receipt
from scanloop.product_lines import ProductLine
from scanloop.promotion.policy import GatePolicy
from scanloop.promotion.receipts import NotVouched, vouched
from scanloop.promotion.records import champion_of, decision_named, was_followed
from scanloop.steps import step
from scanloop.store import Store

if TYPE_CHECKING:
    from scanloop.execution import JobRun


class NotApproved(DataWrong):
    """The approval that the policy asks for is missing, or is not by somebody who may give it."""


@dataclass(frozen=True)
class Switch:
    """A switch of champions for which everything holds."""

    decision: Row
    """The decision that it follows."""
    candidate: Row
    """The row of the model that becomes champion."""
    place: Row | None
    """The champion's row as it is now; None: there is none."""
    approver: str | None
    """Who agreed, where somebody had to."""

    @property
    def sequence(self) -> int:
        """Number of the new champion, from 1."""
        return int(self.place["sequence"]) + 1 if self.place else 1

    def as_json(self) -> dict[str, Any]:
        """The result of the job, and what a dry run tells."""
        return {
            "champion": self.candidate["model_id"],
            "previous_champion": self.place["model_id"] if self.place else None,
            "sequence": self.sequence,
            "decision_id": self.decision["decision_id"],
            "approver": self.approver,
        }


def promote_candidate(run: JobRun, decision_id: str, approver: str | None = None) -> dict[str, Any]:
    """Make the candidate of a decision the champion.

    Raises:
        NothingToDo: the decision's verdict is not to promote, or it was followed before.
        WrongArguments: unknown decision; an approver though none is asked for.
        NotApproved: the approval that the policy asks for is missing or not valid.
        DataWrong: the decision is stale, its evidence was changed, or a receipt that it rests on is missing or forged.
    """
    with run.catalog.read() as connection:
        switch = plan_switch(run.store, connection, run.definition, decision_id, approver, run.identity.actor)
    step("promotion.after_checks")
    run.add_input("decision", switch.decision["decision_id"])
    run.add_input("model", switch.candidate["model_id"])
    _publish(run, switch)
    return switch.as_json()


def plan_switch(
    store: Store, connection: sa.Connection, definition: ProductLine, decision_id: str, approver: str | None, actor: str
) -> Switch:
    """Check everything that must hold, and say what would be switched; changes nothing. Raises as `promote_candidate` does."""
    product_line = definition.product_line
    name = decision_named(connection, decision_id, product_line)["decision_id"]
    place = champion_of(connection, product_line)
    if place is not None and place["decision_id"] == name:
        raise NothingToDo(f"Model {place['model_id'][:12]} is the champion of {product_line} by this decision already.")
    decision, judged_by = vouched(store, connection, "decisions", name)
    if decision["verdict"] != "promote":
        raise NothingToDo(f"The verdict of decision {name[:12]} is {decision['verdict']}: {decision['reasons'][0]}")
    if was_followed(connection, name):
        raise DataWrong(f"Decision {name[:12]} was followed before; another champion came since. Compare again.")
    current = place["model_id"] if place else None
    if current != decision["champion_id"]:
        raise DataWrong(
            f"Decision {name[:12]} was made against {_named(decision['champion_id'])}, the champion of {product_line} now is {_named(current)}. "
            "Compare again."
        )
    evidence = json.loads(verified(store, decision["evidence_key"], decision["evidence_sha256"]))
    policy = GatePolicy.of(definition.gate)
    if evidence["policy"] != policy.as_json():
        raise DataWrong(f"The gate of {product_line} was changed after decision {name[:12]} was made. Compare again.")
    candidate, trained_by = vouched(store, connection, "models", decision["candidate_id"])
    started_by = [judged_by, trained_by, *_evaluated_by(store, connection, decision)]
    agreed = _check_approval(policy, decision, approver, {actor, *(receipt.actor for receipt in started_by)})
    return Switch(decision, candidate, place, agreed)


def _named(model_id: str | None) -> str:
    return model_id[:12] if model_id else "nobody"


def _evaluated_by(store: Store, connection: sa.Connection, decision: Row) -> list[Receipt]:
    receipts = []
    for model_id in (decision["candidate_id"], decision["champion_id"]):
        if model_id is None:
            continue
        evaluation = find_evaluation(connection, model_id, decision["snapshot_id"])
        if evaluation is None:
            raise NotVouched(f"Model {model_id[:12]} has no evaluation on snapshot {decision['snapshot_id'][:12]}. Nothing was promoted.")
        receipts.append(vouched(store, connection, "evaluations", evaluation["evaluation_id"])[1])
    return receipts


def _check_approval(policy: GatePolicy, decision: Row, approver: str | None, actors: set[str]) -> str | None:
    """Who agreed. An actor is `kind:name`; whoever started a run that the candidate comes from may not approve it."""
    if not decision["needs_approval"]:
        if approver:
            raise WrongArguments(f"Decision {decision['decision_id'][:12]} needs no approval, so --approver has no meaning here.")
        return None
    may = ", ".join(policy.approvers)
    if not approver:
        raise NotApproved(f"Decision {decision['decision_id'][:12]} needs the approval of one of: {may}. Name who agreed with --approver.")
    if approver not in policy.approvers:
        raise NotApproved(f"{approver} may not approve for {decision['product_line']}; one of these may: {may}.")
    if approver in {actor.partition(":")[2] or actor for actor in actors}:
        raise NotApproved(f"{approver} started a run that this promotion rests on, so somebody else must approve it; of: {may}.")
    return approver


def _publish(run: JobRun, switch: Switch) -> None:
    """Guarded so that of two promotions that race exactly one takes place: each change expects the state that was checked."""
    product_line, decision_id = run.definition.product_line, switch.decision["decision_id"]
    seat = {"model_id": switch.candidate["model_id"], "decision_id": decision_id, "sequence": switch.sequence}
    key = {"product_line": product_line}
    if switch.place is None:
        # Adding a row leaves another run's row alone without a word, so being in the place is made sure of.
        run.publication.insert("champions", [{**key, **seat}], action="champion.seated", subject="product_line")
        run.publication.update("champions", key=key, expect=seat, set=seat, action="champion.confirmed")
    else:
        expected = {name: switch.place[name] for name in ("model_id", "decision_id", "sequence")}
        changed = {**seat, "run_id": run.identity.run_id}
        run.publication.update("champions", key=key, expect=expected, set=changed, action="champion.switched")
        old = {"model_id": switch.place["model_id"]}
        run.publication.update("models", key=old, expect={"state": "champion"}, set={"state": "retired"}, action="model.retired")
    run.publication.insert("champion_history", [{**key, **seat}], action="champion.recorded", subject="product_line/sequence")
    new, state = {"model_id": switch.candidate["model_id"]}, {"state": switch.candidate["state"]}
    run.publication.update("models", key=new, expect=state, set={"state": "champion"}, action="model.promoted")
    if switch.approver is not None:
        approved = {"approver": switch.approver}
        run.publication.update(
            "decisions", key={"decision_id": decision_id}, expect={"approver": None}, set=approved, action="decision.approved"
        )
