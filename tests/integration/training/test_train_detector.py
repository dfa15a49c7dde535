"""`model train` on a real catalog and store: a candidate comes out, killed trainings end up where unbroken ones do."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of

from scanloop.errors import DataWrong, ObjectCorrupt, WrongArguments
from scanloop.training.detector import load_detector
from scanloop.training.train import train_detector

BAGS = [f"bag-{number}" for number in range(60)]
TINY = ("size_px=64", "iterations=6", "batch_size=4", "state_interval=2", "threads=1", "device=cpu")


@pytest.fixture
def snapshot_id(run_body, world):
    """Id of a small snapshot of the product line `cabin`."""
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    return run_job_of(run_body, "snapshot.create", "snap")["snapshot_id"]


def train(run_body, run_id="train-1", **arguments):
    """Run the job in this process."""
    overrides = arguments.pop("overrides", TINY)
    body = lambda run: train_detector(run, overrides=overrides, **arguments)  # noqa: E731
    return run_body("model.train", body, run_id=run_id, product_line="cabin", lease="cabin/train")


def train_process(environment, run_id, *, kill=None, overrides=TINY):
    """Run the command in a process of its own."""
    sets = [f"--set={override}" for override in overrides]
    command = [str(Path(sys.executable).with_name("scanloop")), "model", "train", "--product-line=cabin", f"--run-id={run_id}", *sets]
    extra = {"SCANLOOP_STEP_KILL": kill} if kill else {}
    return subprocess.run(command, env=environment | extra, capture_output=True, text=True, timeout=120, check=False)


def test_a_candidate_comes_out(run_body, world, snapshot_id):
    result = train(run_body)
    row = rows_of(world, "models")[0]
    assert (row["model_id"], row["snapshot_id"], row["state"]) == (result["model_id"], snapshot_id, "candidate")
    assert row["parameters"]["iterations"] == 6
    assert set(row["metrics"]) == {"val_ap", "val_ap50", "val_scans", "final_loss", "iterations"}
    assert world.store.verify(row["weights_key"], row["model_id"])
    detector = load_detector(world.store, row)
    assert detector.categories == ("handgun", "knife")
    assert [key for key in (stored.key for stored in world.store.list("training/")) if key.endswith(".pt")] == []

    receipt = json.loads(world.store.get(rows_of(world, "runs", job="model.train")[0]["receipt_key"]))
    assert {"kind": "snapshot", "id": snapshot_id} in receipt["inputs"]
    assert {row["weights_key"], row["config_key"]} == {output["key"] for output in receipt["outputs"]}

    session = zipfile.ZipFile(io.BytesIO(world.store.get(f"tracking/{row['tracking_id']}/session.zip")))
    task = json.loads(session.read("task.json"))
    assert task["hyperparams"]["links"]["snapshot_id"]["value"] == snapshot_id
    assert task["hyperparams"]["options"]["iterations"]["value"] == "6"
    events = [event for line in session.read("metrics.jsonl").decode().splitlines() for event in json.loads(line)]
    assert {event["iter"] for event in events if event["metric"] == "loss"} == {1, 2, 3, 4, 5, 6}
    assert sum(event["metric"] == "detections" for event in events) >= 1
    assert any(name.endswith(".png") for name in session.namelist())


def test_a_champion_is_where_the_next_training_starts(run_body, world, snapshot_id):
    first = train(run_body)["model_id"]

    def crown(run):
        decision = {"decision_id": "d", "product_line": "cabin", "candidate_id": first, "snapshot_id": snapshot_id, "verdict": "promote"}
        decision |= {"needs_approval": False, "reasons": [], "evidence_key": "evidence/none", "evidence_sha256": "0" * 64}
        run.publication.insert("decisions", [decision], action="decision.made", subject="decision_id")
        champion = {"product_line": "cabin", "model_id": first, "decision_id": "d", "sequence": 1}
        run.publication.insert("champions", [champion], action="model.promoted", subject="model_id")
        return {}

    run_body("test.crown", crown, run_id="crown")
    warm = train(run_body, "train-2")
    cold = train(run_body, "train-3", overrides=(*TINY, "warm_start=false"))
    assert warm["parent_model_id"] == first
    assert cold["parent_model_id"] is None
    assert warm["metrics"]["final_loss"] < cold["metrics"]["final_loss"]

    key = next(row["weights_key"] for row in rows_of(world, "models") if row["model_id"] == first)
    content = bytearray(world.store.get(key))
    content[-1] ^= 1
    world.store.put(key, bytes(content))
    with pytest.raises(ObjectCorrupt, match=f"{first[:12]} was expected"):
        train(run_body, "train-4")


def test_a_killed_training_gives_the_weights_of_an_unbroken_one(run_body, world, snapshot_id, environment):
    for kill in ("training.after_state:2", "training.after_weights"):
        assert train_process(environment, "broken", kill=kill).returncode == -signal.SIGKILL
        assert rows_of(world, "models") == []
    finished = train_process(environment, "broken")
    assert finished.returncode == 0, finished.stderr
    broken = json.loads(finished.stdout)
    unbroken = train(run_body, "unbroken")
    assert broken["model_id"] == unbroken["model_id"]
    assert broken["metrics"] == unbroken["metrics"]
    assert len(rows_of(world, "models")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"overrides": ("momentum=3",)}, "--set expects key=value", id="unknown option"),
        pytest.param({"overrides": ("iterations=many",)}, "Training option iterations", id="not a number"),
        pytest.param({"overrides": ("size_px=65",)}, "Training option size_px", id="size"),
        pytest.param({"recipe_name": "os.system"}, "Unknown recipe", id="recipe"),
        pytest.param({"snapshot_id": "ffff"}, "No snapshot begins", id="snapshot"),
    ],
)
def test_what_cannot_be_trained_is_refused(run_body, snapshot_id, arguments, message):
    with pytest.raises(WrongArguments, match=message):
        train(run_body, **arguments)


def test_a_snapshot_without_boxes_is_refused(run_body, world):
    define(run_body)
    clean = [bag for bag in (f"bag-{number}" for number in range(150)) if is_clean(bag)]
    add_bags(run_body, world, clean)
    label_everything(run_body, "one")
    run_job_of(run_body, "snapshot.create", "snap")
    with pytest.raises(DataWrong, match="no box to learn from"):
        train(run_body)


def is_clean(bag):
    """Whether `small_world` makes this bag clean."""
    import hashlib

    return int(hashlib.sha256(bag.encode()).hexdigest()[:8], 16) % 3 == 0


def test_an_unknown_option_is_exit_code_64(environment, run_body, snapshot_id):
    refused = train_process(environment, "r", overrides=("dropout=0.1",))
    assert refused.returncode == 64
    assert refused.stdout == ""
    assert "dropout=0.1" in refused.stderr
    assert "Traceback" not in refused.stderr
