"""The tracker of a training against a server: what is noted arrives; a server that does not work costs the training its share at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from tracked_world import LOSSES, begin_of

from scanloop.training import tracking
from scanloop.training.tracking import Experiment, tracking_id_of

RUN = "train-live"
ABOUT = {name: value for name, value in begin_of(RUN).items() if name not in ("kind", "tracking_id", "at")}


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path / "tracking", tracking_id_of(RUN, "cabin"))
    yield experiment
    experiment.stop()


def tell(experiment, store, losses=LOSSES):
    experiment.start(ABOUT, store)
    for iteration, loss in losses.items():
        experiment.scalars(iteration, {"loss": loss})
    experiment.picture("scan-1", 3, b"\x89PNG")
    experiment.metrics({"val_ap50": 0.5})


def test_what_is_noted_arrives(clearml, experiment, store):
    tell(experiment, store)
    experiment.finish(store, training_s=2000)
    (task,) = clearml.tasks()
    assert task["status"] == "completed"
    assert clearml.scalars(task["id"], "loss") == LOSSES
    assert experiment.url == f"http://web.test/projects/{task['project']}/experiments/{task['id']}/output/log"
    assert json.loads(store.get(f"tracking/{experiment.tracking_id}/result.json"))["mode"] == "server"
    assert len(clearml.files) == 1


@pytest.mark.parametrize("fault", ["hang", "500", "dead"])
def test_a_server_that_does_not_work_costs_a_share_and_is_told_by_the_sync(
    clearml, experiment, world, run_body, told_datasets, sync, fault, monkeypatch
):
    from judged_world import add_model, make_snapshot

    waited = []
    real_end = Experiment._end
    monkeypatch.setattr(Experiment, "_end", lambda self, deadline_s: (waited.append(deadline_s), real_end(self, deadline_s))[1])
    clearml.fault = fault
    tell(experiment, world.store)
    experiment.finish(world.store, training_s=60)
    experiment.stop()
    assert sum(waited) <= 0.05 * 60  # every wait for the tracker is one of these; noting something is a line in a file
    assert experiment.url is None
    assert clearml.tasks() == []

    clearml.recover()
    snapshot_id = make_snapshot(run_body, world, bags=8)
    told_datasets()
    world.store.put("models/none.json", b'{"categories": ["handgun"]}')
    add_model(run_body, snapshot_id, "live", tracking_id=experiment.tracking_id)
    sync()
    (task,) = clearml.tasks()
    assert task["status"] == "completed"
    assert clearml.scalars(task["id"], "loss") == LOSSES


def test_a_next_attempt_goes_on_in_the_same_experiment(clearml, experiment, store, tmp_path):
    experiment.start(ABOUT, store)
    experiment.scalars(1, {"loss": 1.0})
    clearml.wait_for("events.add_batch")
    experiment._child.stdin.close()  # as when the training process is killed
    assert experiment._child.wait(60) == 1
    (task,) = clearml.tasks()
    assert (task["status"], task["status_reason"]) == ("stopped", "The training process died.")
    second = Experiment(tmp_path / "second", experiment.tracking_id)
    tell(second, store)
    second.finish(store, training_s=2000)
    assert [task["status"] for task in clearml.tasks()] == ["completed"]
    assert clearml.scalars(task["id"], "loss") == LOSSES


@pytest.mark.parametrize(
    ("ending", "code", "status", "reason"),
    [
        pytest.param("signal.pause()", 143, "stopped", "The training was cancelled.", id="cancelled"),
        pytest.param("raise ValueError('the loss diverged')", 1, "failed", "ValueError: the loss diverged", id="failed"),
    ],
)
def test_a_training_that_does_not_finish_closes_its_experiment(clearml, tmp_path, ending, code, status, reason):
    program = (
        "import signal, sys; from pathlib import Path; from scanloop.store import open_store; from scanloop.training import tracking\n"
        "tracking.ABORT_S = 60\n"
        f"experiment = tracking.Experiment(Path({str(tmp_path / 'x')!r}), '0' * 32)\n"
        f"store = open_store({(tmp_path / 'store').as_uri()!r})\n"
        f"experiment.start({ABOUT!r}, store)\n"
        f"try:\n    experiment.scalars(1, {{'loss': 1.0}})\n    {ending}\nfinally:\n    experiment.stop()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ), stderr=subprocess.DEVNULL)
    clearml.wait_for("tasks.started")
    if code == 143:
        child.send_signal(signal.SIGTERM)
    assert child.wait(60) == code
    (task,) = clearml.tasks()
    assert (task["status"], task["status_reason"]) == (status, reason)
    kept = (tmp_path / "store" / "tracking" / ("0" * 32) / "events.jsonl").read_text().splitlines()
    assert json.loads(kept[-1])["kind"] == "abort"


def test_limits_are_those_that_are_promised():
    assert (tracking.LATE_SHARE, tracking.SERVER_AT_LEAST_S) == (0.05, 2.0)
    assert tracking.ABORT_S < 20
