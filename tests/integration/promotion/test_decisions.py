"""From two models to a champion: verdicts, states, what is kept, and what makes a decision void."""

from __future__ import annotations

import json
import re

import pytest
import sqlalchemy as sa
from judged_world import GATE, GOOD, add_judged_model, compare, promote
from small_world import define, rows_of

from scanloop.errors import DataWrong, NothingToDo, WrongArguments
from scanloop.execution.anchors import audit_violations


def states(world):
    return {row["model_id"]: row["state"] for row in rows_of(world, "models")}


def crown(run_body, judged, name="poor"):
    """Make the first champion."""
    return promote(run_body, compare(run_body, judged.models[name], judged.snapshot)["decision_id"])


def test_a_first_champion_and_then_a_better_one(run_body, world, judged):
    first = crown(run_body, judged)
    assert first == {
        "champion": judged.poor,
        "previous_champion": None,
        "sequence": 1,
        "decision_id": rows_of(world, "decisions")[0]["decision_id"],
        "approver": None,
    }
    decision = compare(run_body, judged.good, judged.snapshot)
    assert (decision["verdict"], decision["champion_id"]) == ("promote", judged.poor)
    assert states(world)[judged.good] == "candidate"

    second = promote(run_body, decision["decision_id"])

    assert (second["champion"], second["previous_champion"], second["sequence"]) == (judged.good, judged.poor, 2)
    assert {states(world)[judged.good], states(world)[judged.poor]} == {"champion", "retired"}
    (place,) = rows_of(world, "champions")
    assert (place["model_id"], place["sequence"], place["decision_id"]) == (judged.good, 2, decision["decision_id"])
    assert [row["model_id"] for row in rows_of(world, "champion_history")] == [judged.poor, judged.good]
    assert list(audit_violations(world.catalog, world.store)) == []


def test_a_worse_candidate_is_rejected_and_cannot_be_promoted(run_body, world, judged):
    crown(run_body, judged, "good")
    decision = compare(run_body, judged.bad, judged.snapshot)
    assert decision["verdict"] == "reject"
    assert states(world)[judged.bad] == "rejected"
    with pytest.raises(NothingToDo, match=r"The verdict of decision .* is reject"):
        promote(run_body, decision["decision_id"])
    assert rows_of(world, "champions")[0]["model_id"] == judged.good


def test_too_little_evidence_is_no_rejection(run_body, world, judged):
    crown(run_body, judged, "good")
    define(run_body, "stricter", categories=["handgun", "knife", "grenade"], gate={"target_pfa": 0.2, "max_pd_drop": 0.01})
    decision = compare(run_body, judged.alike, judged.snapshot)
    assert decision["verdict"] == "insufficient_evidence"
    assert re.search(r"About \d+ more bags with threats would settle it", decision["reasons"][0])
    assert states(world)[judged.alike] == "candidate"
    with pytest.raises(NothingToDo, match="insufficient_evidence"):
        promote(run_body, decision["decision_id"])


def test_the_evidence_holds_everything_and_is_what_the_row_names(run_body, world, judged):
    crown(run_body, judged)
    decision = compare(run_body, judged.good, judged.snapshot)
    (row,) = rows_of(world, "decisions", decision_id=decision["decision_id"])
    assert world.store.verify(row["evidence_key"], row["evidence_sha256"])
    assert row["evidence_key"].startswith(f"evidence/{decision['decision_id']}/")
    evidence = json.loads(world.store.get(row["evidence_key"]))
    assert (evidence["verdict"], evidence["candidate_id"], evidence["champion_id"]) == ("promote", judged.good, judged.poor)
    assert evidence["policy"]["max_pd_drop"] == 0.15
    assert [finding["rule"] for finding in evidence["findings"]] == ["threat_bags", "clean_bags", "pfa", "pd", "slices", "ap50_gain"]
    for image in [image for kind in evidence["images"].values() for image in kind] + [evidence["page"]]:
        assert world.store.verify(image["key"], image["sha256"])
    assert {image["name"] for image in evidence["images"]["charts"]} == {"operating_curves", "by_category", "differences"}
    gained = evidence["comparison"]["difference"]["bags"]["gained_bags"]
    assert {image["bag_id"] for image in evidence["images"]["gained"]} == set(gained[:3]) != set()
    page = world.store.get(evidence["page"]["key"]).decode()
    assert "May be promoted" in page
    assert page.count("data:image/jpeg") == sum(len(kind) for name, kind in evidence["images"].items() if name != "charts")
    assert "http" not in page, "the page must not need a network"


def test_the_same_question_is_decided_once(run_body, world, judged):
    first = compare(run_body, judged.poor, judged.snapshot, run_id="one")
    again = compare(run_body, judged.poor[:12], judged.snapshot[:12], run_id="two")
    assert first == again
    assert [row["run_id"] for row in rows_of(world, "decisions")] == ["one"]


def test_evidence_does_not_depend_on_the_run(run_body, world, judged):
    keys = []
    for run_id in ("one", "two"):
        keys.append(compare(run_body, judged.poor, judged.snapshot, run_id=run_id)["evidence_key"])
        with world.catalog.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM decisions"))
    assert keys[0] == keys[1]


def test_the_champion_itself_is_no_candidate(run_body, judged):
    crown(run_body, judged)
    with pytest.raises(NothingToDo, match="is the champion of cabin already"):
        compare(run_body, judged.poor, judged.snapshot, run_id="again")


def test_a_decision_against_another_champion_is_stale(run_body, world, judged):
    stale = compare(run_body, judged.good, judged.snapshot)
    crown(run_body, judged)
    with pytest.raises(DataWrong, match=f"was made against nobody, the champion of cabin now is {judged.poor[:12]}. Compare again"):
        promote(run_body, stale["decision_id"])
    assert rows_of(world, "champions")[0]["model_id"] == judged.poor


def test_a_decision_is_followed_once(run_body, judged):
    first = crown(run_body, judged)
    with pytest.raises(NothingToDo, match="champion of cabin by this decision already"):
        promote(run_body, first["decision_id"], run_id="again")
    better = compare(run_body, judged.good, judged.snapshot)
    promote(run_body, better["decision_id"])
    with pytest.raises(DataWrong, match="was followed before"):
        promote(run_body, first["decision_id"], run_id="once-more")


def test_a_decision_under_another_policy_is_void(run_body, judged):
    decision = compare(run_body, judged.poor, judged.snapshot)
    define(run_body, "laxer", categories=["handgun", "knife", "grenade"], gate={"target_pfa": 0.2, "max_pd_drop": 0.9})
    with pytest.raises(DataWrong, match="The gate of cabin was changed"):
        promote(run_body, decision["decision_id"])


@pytest.mark.parametrize("asked", ["ffff", ""])
def test_an_unknown_or_ambiguous_name_is_a_wrong_argument(run_body, world, judged, asked):
    add_judged_model(run_body, world, judged.snapshot, "another", GOOD)
    with pytest.raises(WrongArguments, match=f"model of cabin begins with '{asked}'"):
        compare(run_body, asked, judged.snapshot)
    with pytest.raises(WrongArguments, match=f"No decision of cabin begins with '{asked}'"):
        promote(run_body, asked)


def test_detections_that_contradict_the_numbers_stop_the_decision(run_body, world, judged):
    """A results file of another evaluation, put in its place, names that evaluation; its own with other numbers has another digest."""
    poor, good = (rows_of(world, "evaluations", model_id=model)[0] for model in (judged.poor, judged.good))
    with world.catalog.engine.begin() as connection:
        change = sa.text("UPDATE evaluations SET results_key = :key WHERE evaluation_id = :id")
        connection.execute(change, {"key": good["results_key"], "id": poor["evaluation_id"]})
    with pytest.raises(DataWrong, match="is about another model or snapshot"):
        compare(run_body, judged.poor, judged.snapshot)

    results = json.loads(world.store.get(good["results_key"]))
    results["ap"]["ap50"] = 0.99
    world.store.put(good["results_key"], json.dumps(results).encode())
    with pytest.raises(DataWrong, match="does not have the digest"):
        compare(run_body, judged.good, judged.snapshot)

    stored = world.store.put_content("evaluations", json.dumps(results).encode(), ".json")
    with world.catalog.engine.begin() as connection:
        connection.execute(change, {"key": stored.key, "id": good["evaluation_id"]})
    with pytest.raises(DataWrong, match=r"says ap50 0.99, its kept detections say 0\.\d+"):
        compare(run_body, judged.good, judged.snapshot)


def test_definitions_can_be_applied_again(run_body, judged):
    """The gate's own values decide, not how often the definition was stored."""
    decision = compare(run_body, judged.poor, judged.snapshot)
    define(run_body, "again", categories=["handgun", "knife", "grenade"], title="Cabin", gate=GATE)
    assert promote(run_body, decision["decision_id"])["champion"] == judged.poor
