"""Receipts, approvals and races: no champion without proof, none without the right yes, one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from judged_world import GATE, GOOD, add_model, compare, evaluate_as, promote
from small_world import define, rows_of

from scanloop.cli.options import load_definition
from scanloop.errors import DataWrong, LeaseHeld, ObjectNotFound, Superseded, WrongArguments
from scanloop.execution import RunIdentity, execute
from scanloop.execution.anchors import audit_violations
from scanloop.execution.leases import acquire
from scanloop.execution.receipts import load_with_hash
from scanloop.promotion.promote import NotApproved, promote_candidate
from scanloop.promotion.receipts import NotVouched

CATEGORIES = ["handgun", "knife", "grenade"]


def sql(world, statement, **values):
    with world.catalog.engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def receipt_of(world, table, **where):
    (row,) = rows_of(world, table, **where)
    return next(run["receipt_key"] for run in rows_of(world, "runs", run_id=row["run_id"]))


RESTS_ON = {"decision": "decisions", "evaluation": "evaluations", "training": "models"}


@pytest.mark.parametrize("which", RESTS_ON)
def test_a_missing_receipt_stops_the_promotion(run_body, world, judged, which):
    decision = compare(run_body, judged.poor, judged.snapshot)
    key = {"decision": "decision_id", "evaluation": "model_id", "training": "model_id"}[which]
    value = decision["decision_id"] if which == "decision" else judged.poor
    world.store.delete(receipt_of(world, RESTS_ON[which], **{key: value}))
    with pytest.raises(NotVouched, match=r"The receipt .* is not in the store. Nothing was promoted"):
        promote(run_body, decision["decision_id"])
    assert rows_of(world, "champions") == []


def test_a_forged_receipt_stops_the_promotion(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    key = receipt_of(world, "decisions")
    world.store.put(key, world.store.get(key).replace(b'"attempt": 1', b'"attempt": 2'))
    assert load_with_hash(world.store, key) is not None
    with pytest.raises(NotVouched, match="it was forged"):
        promote(run_body, decision["decision_id"])


def test_a_forged_publication_stops_the_promotion(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    receipt, _ = load_with_hash(world.store, receipt_of(world, "decisions"))
    world.store.put(receipt.publication["key"], world.store.get(receipt.publication["key"]) + b"\n")
    with pytest.raises(NotVouched, match="is not the publication that the receipt"):
        promote(run_body, decision["decision_id"])


def test_a_verdict_written_by_hand_stops_the_promotion(run_body, world, judged):
    promote(run_body, compare(run_body, judged.good, judged.snapshot)["decision_id"])
    decision = compare(run_body, judged.bad, judged.snapshot)
    assert decision["verdict"] == "reject"
    sql(world, "UPDATE decisions SET verdict = 'promote' WHERE decision_id = :id", id=decision["decision_id"])
    with pytest.raises(NotVouched, match=r"was changed after run .* published it: verdict"):
        promote(run_body, decision["decision_id"])
    assert rows_of(world, "champions")[0]["model_id"] == judged.good


def test_a_decision_written_by_hand_stops_the_promotion(run_body, world, judged):
    sql(
        world,
        "INSERT INTO decisions (decision_id, product_line, candidate_id, snapshot_id, verdict, needs_approval, reasons, evidence_key,"
        " evidence_sha256, run_id) VALUES ('forged', 'cabin', :model, :snapshot, 'promote', false, '[]', 'e', 'e', 'nobody')",
        model=judged.bad,
        snapshot=judged.snapshot,
    )
    with pytest.raises(NotVouched, match="No completion receipt of run nobody vouches for decision forged"):
        promote(run_body, "forged")


def test_the_receipt_of_another_run_does_not_vouch(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    other = rows_of(world, "models", model_id=judged.poor)[0]["run_id"]
    sql(world, "UPDATE decisions SET run_id = :other", other=other)
    with pytest.raises(NotVouched, match="No completion receipt"):
        promote(run_body, decision["decision_id"])


def test_changed_evidence_stops_the_promotion(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    world.store.put(decision["evidence_key"], b"{}")
    with pytest.raises(DataWrong, match="does not have the digest"):
        promote(run_body, decision["decision_id"])
    world.store.delete(decision["evidence_key"])
    with pytest.raises(ObjectNotFound):
        promote(run_body, decision["decision_id"])
    assert rows_of(world, "champions") == []


# ---- approval


@pytest.fixture
def awaiting(run_body, judged):
    """A decision that needs the approval of ada or bob."""
    define(run_body, "approval", categories=CATEGORIES, gate={**GATE, "approval": "always", "approvers": ["ada", "bob"]})
    decision = compare(run_body, judged.poor, judged.snapshot)
    assert (decision["needs_approval"], decision["approvers"]) == (True, ["ada", "bob"])
    return decision["decision_id"]


def test_a_named_person_may_approve(run_body, world, awaiting):
    assert promote(run_body, awaiting, approver="bob")["approver"] == "bob"
    assert rows_of(world, "decisions")[0]["approver"] == "bob"
    assert list(audit_violations(world.catalog, world.store)) == []


@pytest.mark.parametrize(
    ("approver", "said"), [(None, "needs the approval of one of: ada, bob"), ("eve", "eve may not approve"), ("Ada", "may not")]
)
def test_nobody_else_may(run_body, world, awaiting, approver, said):
    with pytest.raises(NotApproved, match=said):
        promote(run_body, awaiting, approver=approver)
    assert rows_of(world, "champions") == []


def started_by(world, actor, run_id, job, body):
    parts = {"settings": world.settings, "store": world.store, "catalog": world.catalog}
    return execute(body, RunIdentity(run_id, job, "", 1, actor, "cabin"), definition=load_definition(world.catalog, "cabin"), **parts)


@pytest.mark.parametrize("actor", ["airflow:ada", "person:ada", "ada"])
def test_who_runs_the_promotion_may_not_approve_it(run_body, world, awaiting, actor):
    with pytest.raises(NotApproved, match="ada started a run that this promotion rests on"):
        started_by(world, actor, "p", "promotion.promote", lambda run: promote_candidate(run, awaiting, "ada"))
    started_by(world, actor, "p", "promotion.promote", lambda run: promote_candidate(run, awaiting, "bob"))
    assert rows_of(world, "champions")[0]["model_id"]


def test_who_started_the_comparison_may_not_approve_it(run_body, world, judged):
    from scanloop.promotion.compare import compare_models

    define(run_body, "approval", categories=CATEGORIES, gate={**GATE, "approval": "always", "approvers": ["ada", "bob"]})
    decision = started_by(world, "airflow:bob", "c", "promotion.compare", lambda run: compare_models(run, judged.good, judged.snapshot))
    with pytest.raises(NotApproved, match="bob started"):
        promote(run_body, decision["decision_id"], approver="bob")
    assert promote(run_body, decision["decision_id"], approver="ada")["approver"] == "ada"


def test_an_approver_where_none_is_asked_for_is_a_mistake(run_body, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    with pytest.raises(WrongArguments, match="needs no approval"):
        promote(run_body, decision["decision_id"], approver="ada")


# ---- races


def test_of_many_first_champions_exactly_one_is_made(run_body, world, judged):
    decisions = [
        compare(run_body, model, judged.snapshot, run_id=f"c-{model[:8]}")["decision_id"]
        for model in (judged.poor, judged.good, judged.alike)
    ]
    outcomes = race(world, decisions)
    assert sorted(outcomes) == ["Superseded", "Superseded", "promoted"]
    assert_one_champion(world, sequence=1)


def test_of_many_successors_exactly_one_is_made(run_body, world, judged):
    promote(run_body, compare(run_body, judged.poor, judged.snapshot)["decision_id"])
    third = add_model(run_body, judged.snapshot, "third")
    evaluate_as(run_body, world, third, judged.snapshot, GOOD, 77)
    decisions = [compare(run_body, model, judged.snapshot, run_id=f"c-{model[:8]}") for model in (judged.good, judged.alike, third)]
    assert {decision["verdict"] for decision in decisions} == {"promote"}
    outcomes = race(world, [decision["decision_id"] for decision in decisions])
    assert sorted(outcomes) == ["Superseded", "Superseded", "promoted"]
    assert_one_champion(world, sequence=2)


def race(world, decisions):
    """Promote every decision at once, without the lease that would keep them apart: all pass their checks, then all publish."""
    checked = threading.Barrier(len(decisions))

    def attempt(numbered):
        number, decision_id = numbered

        def body(run):
            result = promote_candidate(run, decision_id)
            checked.wait(30)
            return result

        try:
            started_by(world, "test", f"race-{number}", "promotion.promote", body)
        except Superseded:
            return "Superseded"
        return "promoted"

    with ThreadPoolExecutor(len(decisions)) as pool:
        return list(pool.map(attempt, enumerate(decisions)))


def assert_one_champion(world, sequence):
    (place,) = rows_of(world, "champions")
    assert place["sequence"] == sequence
    assert [row["model_id"] for row in rows_of(world, "models", state="champion")] == [place["model_id"]]
    newest = rows_of(world, "champion_history")[-1]
    assert (newest["sequence"], newest["model_id"], newest["decision_id"]) == (sequence, place["model_id"], place["decision_id"])
    assert len(rows_of(world, "champion_history")) == sequence


def test_who_lost_the_race_loses_again_with_the_same_run(run_body, world, judged):
    decisions = [compare(run_body, model, judged.snapshot, run_id=f"c-{model[:8]}")["decision_id"] for model in (judged.poor, judged.good)]
    outcomes = race(world, decisions)
    loser = outcomes.index("Superseded")
    before = rows_of(world, "champions")
    with pytest.raises(Superseded):
        started_by(world, "test", f"race-{loser}", "promotion.promote", lambda run: promote_candidate(run, decisions[loser]))
    assert rows_of(world, "champions") == before


def test_a_promotion_waits_while_another_run_holds_the_lease(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    lease = acquire(world.catalog, "cabin/promotion", "somebody/promotion.promote")
    with pytest.raises(LeaseHeld, match="is being worked on by somebody"):
        promote(run_body, decision["decision_id"])
    lease.release()
    assert promote(run_body, decision["decision_id"])["champion"] == judged.poor


def test_a_candidate_without_an_evaluation_of_its_own_is_refused(run_body, world, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    sql(world, "DELETE FROM evaluations WHERE model_id = :model", model=judged.poor)
    with pytest.raises(NotVouched, match="has no evaluation"):
        promote(run_body, decision["decision_id"])
