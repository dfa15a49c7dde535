"""`model reproduce` on a real catalog: equal weights on an equal machine, a plain no where the record is not what was trained."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of

from scanloop.errors import DataWrong
from scanloop.training.loop import Fitted
from scanloop.training.reproduce import Check, compare_curves, is_alike, reproduce_model, worst_difference
from scanloop.training.train import Finished, states_prefix, train_detector

TINY = ("size_px=64", "iterations=3", "batch_size=4", "threads=1", "device=cpu")


@pytest.fixture
def snapshot_id(run_body, world):
    """Id of a small snapshot of the product line `cabin`."""
    define(run_body)
    add_bags(run_body, world, [f"bag-{number}" for number in range(40)])
    label_everything(run_body, "one")
    return run_job_of(run_body, "snapshot.create", "snap")["snapshot_id"]


def train(run_body, run_id="train-1", overrides=TINY, **arguments):
    body = lambda run: train_detector(run, overrides=overrides, **arguments)  # noqa: E731
    return run_body("model.train", body, run_id=run_id, product_line="cabin", lease="cabin/train")


def reproduce(run_body, world, run_id="again"):
    row = rows_of(world, "models")[0]
    body = lambda run: reproduce_model(run, row, lambda *_: None)  # noqa: E731
    return run_body("model.reproduce", body, run_id=run_id, product_line="cabin")


def test_a_model_is_reproduced_bit_for_bit_and_nothing_is_published(environment, run_body, world, snapshot_id):
    trained = train(run_body)
    before = sorted(stored.key for stored in world.store.list("models/"))
    command = [str(Path(sys.executable).with_name("scanloop")), "model", "reproduce", trained["model_id"][:12], "--run-id=again"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert (result["is_reproduced"], result["found_model_id"], result["differing"]) == (True, trained["model_id"], {})
    assert [(check["what"], check["holds"]) for check in result["checks"]][:3] == [("weights", True), ("steps", True), ("losses", True)]
    assert "reproduced" in again.stderr
    assert len(rows_of(world, "models")) == 1
    assert sorted(stored.key for stored in world.store.list("models/")) == before
    assert [stored.key for stored in world.store.list(f"{states_prefix('cabin', 'again')}/")] == []
    receipt = json.loads(world.store.get(rows_of(world, "runs", run_id="again")[0]["receipt_key"]))
    assert {"kind": "model", "id": trained["model_id"]} in receipt["inputs"]


def test_another_machine_is_said_and_judged_by_the_tolerances(run_body, world, snapshot_id):
    trained = train(run_body)
    key = f"{states_prefix('cabin', 'train-1')}/finished.json"
    noted = json.loads(world.store.get(key))
    noted["environment"] |= {"torch": "1.0", "cpu": "another"}
    del noted["environment"]["libraries"]
    noted["curves"] = [[done, values | {"loss": values["loss"] * 1.05}] for done, values in noted["curves"]]
    world.store.put(key, json.dumps(noted).encode())
    result = reproduce(run_body, world)
    assert result["is_reproduced"]
    assert result["found_model_id"] == trained["model_id"]
    assert set(result["differing"]) == {"torch", "cpu", "libraries"}
    assert [check["holds"] for check in result["checks"] if check["what"] in ("weights", "steps", "losses")] == [True, True, True]
    assert result["differing"]["libraries"][0] == "not recorded"


def test_a_record_of_another_training_is_not_reproduced(environment, run_body, world, snapshot_id):
    """The weights that the catalog names came from another learning rate than the record says."""
    row_before = train(run_body)
    row = rows_of(world, "models")[0]
    config = json.loads(world.store.get(row["config_key"]))
    config["options"]["learning_rate"] = 0.02
    stored = world.store.put_content("models", json.dumps(config).encode(), ".json")
    forged = row | {"config_key": stored.key}
    body = lambda run: reproduce_model(run, forged, lambda *_: None)  # noqa: E731
    result = run_body("model.reproduce", body, run_id="again", product_line="cabin")
    assert not result["is_reproduced"]
    assert result["found_model_id"] != row_before["model_id"]
    assert result["checks"][0]["holds"] is False

    boasting = row | {"metrics": row["metrics"] | {"val_ap50": row["metrics"]["val_ap50"] + 0.2}}
    body = lambda run: reproduce_model(run, boasting, lambda *_: None)  # noqa: E731
    result = run_body("model.reproduce", body, run_id="boasting", product_line="cabin")
    assert not result["is_reproduced"]
    assert {check["what"]: check["holds"] for check in result["checks"]} == {
        "weights": True, "steps": True, "losses": True, "val_ap": True, "val_ap50": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "expected"),
    [([True, None], True), ([True, False], False), ([None, None], False), ([], False)],
    ids=["what can be judged holds", "one does not", "nothing to judge by", "nothing"],
)
def test_what_counts_as_alike(judged, expected):
    assert is_alike([Check("x", "", "", "", holds) for holds in judged]) is expected


CURVE = [(1, {"loss": 2.0}), (2, {"loss": 1.0}), (3, {"loss": 0.5})]
RECORDED = {
    "as it is": (CURVE, [True, True]),
    "within the tolerance": ([(done, {"loss": values["loss"] * 1.05}) for done, values in CURVE], [True, True]),
    "one loss beyond it": ([*CURVE[:2], (3, {"loss": 0.6})], [True, False]),
    "a step is missing": (CURVE[:2], [False, True]),
    "no steps": ([], [False, False]),
    "no losses": ([(done, {}) for done, _ in CURVE], [True, False]),
    "no numbers": ([(done, {"loss": float("nan")}) for done, _ in CURVE], [True, False]),
    "no values": ([(done, None) for done, _ in CURVE], [True, False]),
}


@pytest.mark.parametrize(("curves", "holds"), RECORDED.values(), ids=RECORDED)
def test_what_a_recorded_curve_is_worth(curves, holds):
    recorded = Finished("f", "m", "k", curves, 1.0)
    found = Fitted({}, CURVE, 0, 0.0, 0.0, {})
    assert [check.holds for check in compare_curves(recorded, found, may_stop_early=False)] == holds
    assert [check.holds for check in compare_curves(recorded, found, may_stop_early=True)] == [None, holds[1]]


def test_a_lost_record_is_no_yes():
    assert not is_alike(compare_curves(None, Fitted({}, CURVE, 0, 0.0, 0.0, {}), may_stop_early=False))


def test_the_worst_difference_is_of_the_steps_that_both_took():
    assert worst_difference([1.0, 2.0, 4.0], [1.0, 2.2]) == pytest.approx(0.1)
    assert worst_difference([], [1.0]) is None
    assert worst_difference([1.0, float("nan"), 1.0], [1.0, 1.0, 1.0]) == float("inf")


def weights_in_store(world, seed):
    """Keep the weights of a fresh network; returns the option that names them."""
    from scanloop.training.config import make_config
    from scanloop.training.network import build_model, weights_bytes
    from scanloop.training.options import TrainingOptions

    network = build_model(make_config("rtmdet_tiny", TrainingOptions(size_px=64, seed=seed), ("handgun", "knife", "grenade")))
    content = weights_bytes(network.state_dict())
    world.store.put("pretrained/tiny.safetensors", content)
    return f"pretrained=pretrained/tiny.safetensors#sha256={hashlib.sha256(content).hexdigest()}"


def test_a_training_from_pretrained_weights_names_them_and_is_reproduced(run_body, world, snapshot_id):
    named = weights_in_store(world, seed=9)
    address = named.replace("=pretrained/", f"={world.store.uri('x').removesuffix('x')}pretrained/")
    trained = train(run_body, overrides=(*TINY, address))
    row = rows_of(world, "models")[0]
    assert row["parameters"]["pretrained"] == named.partition("=")[2]  # a key: the address of this store is in no record
    assert world.store.url.encode() not in world.store.get(row["config_key"]) + world.store.get(row["weights_key"])
    receipt = json.loads(world.store.get(rows_of(world, "runs", job="model.train")[0]["receipt_key"]))
    assert {"kind": "weights", "id": named.rpartition("=")[2]} in receipt["inputs"]
    assert reproduce(run_body, world)["found_model_id"] == trained["model_id"]


def test_pretrained_weights_that_changed_are_refused(run_body, world, snapshot_id):
    named = weights_in_store(world, seed=9)
    world.store.put("pretrained/tiny.safetensors", b"others")
    with pytest.raises(DataWrong, match="has the digest"):
        train(run_body, overrides=(*TINY, named))


def test_a_training_looks_at_the_real_val_split_and_keeps_the_best(run_body, world, snapshot_id):
    """On scans this small nothing is learned in three steps, so nothing stops; every look is in the record."""
    result = train(run_body, overrides=(*TINY, "validate_interval=1", "patience=1"))
    noted = json.loads(world.store.get(f"{states_prefix('cabin', 'train-1')}/finished.json"))
    looks = [values["val_ap50"] for _, values in noted["curves"]]
    assert all(0 <= ap50 <= 1 for ap50 in looks)
    assert result["metrics"]["val_ap50"] == pytest.approx(max(looks))


@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="a machine without a GPU")
def test_a_training_on_a_gpu_says_so(run_body, world, snapshot_id):
    assert train(run_body, overrides=(*TINY, "device=auto"))["environment"]["device"] != "cpu"
