"""`evaluation run` with a detector that was really trained, on a real catalog and store; and killed at every boundary."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from judged_world import POOR, add_judged_model, add_model, compare, evaluate_as, make_snapshot, promote
from killed import boundaries
from small_world import die_at, rows_of

from scanloop.canonical import canonical_json
from scanloop.cli.main import run
from scanloop.errors import DataWrong, WrongArguments
from scanloop.evaluation.evaluate import evaluate_model
from scanloop.training.train import train_detector

TINY = ("size_px=64", "iterations=4", "batch_size=4", "threads=1")


def train(run_body, snapshot_id, run_id):
    body = lambda run: train_detector(run, snapshot_id=snapshot_id, overrides=TINY)  # noqa: E731
    return run_body("model.train", body, run_id=run_id, product_line="cabin", lease="cabin/train")["model_id"]


def evaluate(run_body, model_id, snapshot_id, run_id="evaluate-1"):
    body = lambda run: evaluate_model(run, model_id, snapshot_id)  # noqa: E731
    return run_body("evaluation.run", body, run_id=run_id, product_line="cabin", lease="cabin/evaluation")


@pytest.fixture(scope="module")
def results_of():
    """Read the numbers that an evaluation's row names."""
    return lambda world, row: json.loads(world.store.get(row["results_key"]))


def test_a_trained_model_is_scored_and_everything_is_kept(run_body, world, results_of):
    snapshot_id = make_snapshot(run_body, world, bags=40)
    model_id = train(run_body, snapshot_id, "train-1")

    result = evaluate(run_body, model_id, snapshot_id)

    (row,) = rows_of(world, "evaluations")
    results = results_of(world, row)
    assert result["evaluation_id"] == row["evaluation_id"] == results["evaluation_id"]
    assert (results["model_id"], results["snapshot_id"]) == (model_id, snapshot_id)
    assert world.store.get(row["results_key"]) == canonical_json(results)
    assert results["counts"]["bags"] == 20
    assert results["counts"]["threat_bags"] + results["counts"]["clean_bags"] == 20
    assert row["summary"]["operating_point"] == results["operating_point"]
    assert set(results["operating_point"]["thresholds"]) == {"handgun", "knife", "grenade"}
    assert results["pd"]["total"] == results["counts"]["threat_bags"]
    assert set(results["by_scanner"]) == {"Acme X1", "Acme X2", "Borealis 7"}
    assert sum(part["bags"] for part in results["by_scanner"].values()) == 20

    detections = pq.read_table(io.BytesIO(world.store.get(results["detections"]["key"]))).to_pylist()
    assert len(detections) > 20
    assert sum(detection["split"] == "test" for detection in detections) == results["counts"]["detections"]
    outcomes = pq.read_table(io.BytesIO(world.store.get(row["outcomes_key"]))).to_pylist()
    assert sum(o["bag_is_detected"] for o in outcomes if o["category"] == "knife") == results["pd"]["count"]
    assert sum(o["bag_is_alarmed"] and o["bag_is_clean"] for o in outcomes if o["category"] == "knife") == results["pfa"]["count"]

    page = world.store.get(row["report_key"]).decode()
    assert model_id in page
    assert "http" not in page, "the page must not need a network"
    assert page.count("<img") == 4 + len(results["images"]["misses"]) + len(results["images"]["false_alarms"])

    receipt = json.loads(world.store.get(rows_of(world, "runs", job="evaluation.run")[0]["receipt_key"]))
    kept = {row["results_key"], row["outcomes_key"], row["report_key"], results["detections"]["key"]}
    assert kept <= {output["key"] for output in receipt["outputs"]}
    assert {"kind": "model", "id": model_id} in receipt["inputs"]

    again = evaluate(run_body, model_id[:10], snapshot_id[:10], run_id="evaluate-2")
    assert again == result
    assert [found["run_id"] for found in rows_of(world, "evaluations")] == ["evaluate-1"]

    with world.catalog.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM evaluations"))
    evaluate(run_body, model_id, snapshot_id, run_id="evaluate-3")
    assert rows_of(world, "evaluations")[0]["results_key"] == row["results_key"], "the same model on the same scans gives the same bytes"


def test_comparing_evaluates_the_champion_on_the_new_snapshot(run_body, world, results_of):
    first = make_snapshot(run_body, world, bags=40, gate={"min_ap50": 0.0, "target_pfa": 0.9})
    champion = train(run_body, first, "train-1")
    promote(run_body, compare(run_body, champion, first)["decision_id"])
    second = make_snapshot(run_body, world, bags=40, seed=2, name="snap-2", gate={"min_ap50": 0.0, "target_pfa": 0.9})
    candidate = add_model(run_body, second, "candidate")
    evaluate_as(run_body, world, candidate, second, POOR, 1, run_id="evaluate-1")

    decision = compare(run_body, candidate, second)

    assert decision["champion_id"] == champion
    by_run = {(row["model_id"], row["snapshot_id"]): row["run_id"] for row in rows_of(world, "evaluations")}
    assert by_run == {
        (champion, first): f"compare-{champion[:6]}",
        (candidate, second): "evaluate-1",
        (champion, second): f"compare-{candidate[:6]}",
    }
    evidence = json.loads(world.store.get(decision["evidence_key"]))
    for who, model_id in (("candidate", candidate), ("champion", champion)):
        (row,) = rows_of(world, "evaluations", model_id=model_id, snapshot_id=second)
        assert evidence["comparison"][who]["ap50"] == pytest.approx(results_of(world, row)["ap"]["ap50"], abs=1e-9)
    assert evidence["comparison"]["counts"]["bags"] == 20


def test_bags_that_a_model_was_trained_on_never_count(run_body, world, results_of):
    """The second snapshot tests on 80 bags; the first one, half as large, had 40 of them in train and val."""
    first = make_snapshot(run_body, world, bags=80)
    second = make_snapshot(run_body, world, bags=160, moved=1, name="moved")
    parent = add_model(run_body, first, "parent")
    child = add_model(run_body, second, "child", parent_model_id=parent)
    fresh = add_model(run_body, second, "fresh")
    for model_id, snapshot_id, left_out in ((parent, first, 0), (parent, second, 40), (child, second, 40), (fresh, second, 0)):
        evaluate_as(run_body, world, model_id, snapshot_id, POOR, 1)
        (row,) = rows_of(world, "evaluations", model_id=model_id, snapshot_id=snapshot_id)
        results = results_of(world, row)
        assert results["left_out"] == {"test_bags": left_out, "val_bags": 0}
        assert results["counts"]["bags"] == (40 if snapshot_id == first else 80 - left_out)
    promote(run_body, compare(run_body, parent, first)["decision_id"])
    decision = compare(run_body, fresh, second)
    evidence = json.loads(world.store.get(decision["evidence_key"]))
    assert (evidence["left_out"], evidence["comparison"]["counts"]["bags"]) == (40, 40), (
        "neither may have seen a bag that both are judged on"
    )


def test_a_model_that_has_seen_everything_cannot_be_judged(run_body, world):
    first = make_snapshot(run_body, world, bags=16)
    model_id = add_model(run_body, first, "one")
    moved = make_snapshot(run_body, world, bags=16, moved=1, name="moved")
    with pytest.raises(DataWrong, match="has seen every bag of the test split"):
        evaluate_as(run_body, world, model_id, moved, POOR, 1)


@pytest.mark.parametrize(("model", "snapshot"), [("ffff", ""), ("", "ffff")])
def test_an_unknown_name_is_a_wrong_argument(run_body, world, model, snapshot):
    snapshot_id = make_snapshot(run_body, world, bags=8)
    model_id = add_model(run_body, snapshot_id, "one")
    with pytest.raises(WrongArguments, match="begins with 'ffff'"):
        evaluate(run_body, model or model_id, snapshot or snapshot_id)


def test_a_scan_with_projected_threats_is_refused(run_body, world):
    snapshot_id = make_snapshot(run_body, world, bags=8, synthetic_split="test")
    model_id = add_model(run_body, snapshot_id, "one")
    with pytest.raises(DataWrong, match="has projected threats"):
        evaluate_as(run_body, world, model_id, snapshot_id, POOR, 1)


def content(world):
    """What the rooms know and hold, without times."""
    rows = {
        table: [{name: value for name, value in row.items() if name != "created_at"} for row in rows_of(world, table)]
        for table in ("evaluations", "decisions", "champions", "champion_history", "models")
    }
    kept = {stored.key: hashlib.sha256(world.store.get(stored.key)).hexdigest() for stored in world.store.list("evidence/")}
    return rows, kept


EVALUATION_STEPS = sorted(boundaries("evaluation/evaluate.py"))
PROMOTION_STEPS = sorted(boundaries("promotion/compare.py", "promotion/evidence.py", "promotion/promote.py"))


def test_every_boundary_is_known():
    assert [f"evaluation.after_{what}" for what in ("detections", "images", "outcomes", "report", "results")] == EVALUATION_STEPS
    assert [
        f"promotion.{what}"
        for what in ("after_checks", "after_evaluations", "after_evidence", "after_images", "after_page", "before_evidence")
    ] == PROMOTION_STEPS


def test_an_evaluation_killed_at_every_boundary(run_body, world):
    """One model a boundary, all equally good: whatever was killed, the same numbers come out, and once more changes nothing."""
    snapshot_id = make_snapshot(run_body, world, bags=24)
    for name in EVALUATION_STEPS:
        model_id = add_model(run_body, snapshot_id, name)

        def act(model_id=model_id):
            evaluate_as(run_body, world, model_id, snapshot_id, POOR, 3)

        assert die_at(world, name, act), name
        assert rows_of(world, "evaluations", model_id=model_id) == []
        act()
        ended = content(world)
        act()
        assert content(world) == ended, name
    summaries = [canonical_json(row["summary"]) for row in rows_of(world, "evaluations")]
    assert (len(summaries), len(set(summaries))) == (len(EVALUATION_STEPS), 1)


def test_a_promotion_killed_at_every_boundary(run_body, world):
    """Compare and promote, killed anywhere and run again: one decision with its evidence, one champion, the same every time."""
    snapshot_id = make_snapshot(run_body, world, bags=24)
    model_id = add_judged_model(run_body, world, snapshot_id, "one", POOR)
    left = set()
    for position, name in enumerate(PROMOTION_STEPS):
        acts = [
            lambda run_id=f"c-{position}": compare(run_body, model_id, snapshot_id, run_id=run_id),
            lambda run_id=f"p-{position}": promote(run_body, rows_of(world, "decisions")[0]["decision_id"], run_id=run_id),
        ]
        killed = int(name == "promotion.after_checks")
        for act in acts[:killed]:
            act()
        assert die_at(world, name, acts[killed]), name
        assert rows_of(world, "champions") == []
        for act in (*acts[killed:], *acts):
            act()
        rows, kept = content(world)
        left.add(json.dumps([rows, kept]).replace(f'"c-{position}"', "").replace(f'"p-{position}"', ""))
        (decision,) = rows["decisions"]
        assert world.store.verify(decision["evidence_key"], decision["evidence_sha256"])
        with world.catalog.engine.begin() as connection:  # the next boundary starts anew
            for statement in (
                "ALTER TABLE champion_history DISABLE TRIGGER USER",
                "DELETE FROM champion_history",
                "DELETE FROM champions",
                "DELETE FROM decisions",
                "UPDATE models SET state = 'candidate'",
            ):
                connection.execute(sa.text(statement))
    assert len(left) == 1


def test_comparing_what_is_evaluated_needs_no_detector(world, run_body, environment):
    snapshot_id = make_snapshot(run_body, world, bags=24)
    model_id = add_judged_model(run_body, world, snapshot_id, "one", POOR)
    command = "import sys; from scanloop.cli.main import run; code = run(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    words = ["promotion", "compare", "--product-line=cabin", f"--model={model_id}", f"--snapshot={snapshot_id}"]
    done = subprocess.run(
        [sys.executable, "-c", command, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidate_id"] == model_id


def test_the_commands(world, run_body, environment, monkeypatch, capsys, tmp_path):
    snapshot_id = make_snapshot(run_body, world, bags=40)
    model_id = add_judged_model(run_body, world, snapshot_id, "one", POOR)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def scanloop(*arguments, code=0):
        capsys.readouterr()
        assert run(list(arguments)) == code
        return capsys.readouterr()

    (listed,) = [json.loads(line) for line in scanloop("evaluation", "list", "--json").out.splitlines()]
    assert listed["model_id"] == model_id
    page = tmp_path / "page.html"
    scanloop("evaluation", "page", listed["evaluation_id"][:8], "--to", str(page))
    assert page.read_bytes() == world.store.get(listed["report_key"])
    subject = ("--product-line=cabin", f"--model={model_id}", f"--snapshot={snapshot_id}")
    assert json.loads(scanloop("evaluation", "run", *subject).out)["evaluation_id"] == listed["evaluation_id"]

    decision = json.loads(scanloop("promotion", "compare", *subject, "--run-id=dag-1").out)
    assert decision["verdict"] == "promote"
    runs_before = len(rows_of(world, "runs"))
    promotion = ("promotion", "promote", "--product-line=cabin", f"--decision={decision['decision_id']}")
    dry = json.loads(scanloop(*promotion, "--dry-run").out)
    assert (dry["champion"], dry["sequence"], dry["dry_run"]) == (model_id, 1, True)
    assert (rows_of(world, "champions"), len(rows_of(world, "runs"))) == ([], runs_before)
    assert "AP50: the first champion reaches" in scanloop("promotion", "show", decision["decision_id"][:10], "--page", str(page)).out
    assert "May be promoted" in page.read_text()
    done = json.loads(scanloop(*promotion, "--run-id=dag-1").out)
    assert done == {key: value for key, value in dry.items() if key != "dry_run"}
    assert "already" in scanloop(*promotion, code=99).err
    (history,) = [json.loads(line) for line in scanloop("promotion", "history", "--product-line=cabin", "--json").out.splitlines()]
    assert (history["sequence"], history["model_id"]) == (1, model_id)
    (decided,) = [json.loads(line) for line in scanloop("promotion", "list", "--product-line=cabin", "--json").out.splitlines()]
    assert (decided["decision_id"], decided["verdict"]) == (decision["decision_id"], "promote")
    assert "No decision begins with 'nope'" in scanloop("promotion", "show", "nope", code=64).err
