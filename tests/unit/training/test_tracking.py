"""Tracking: what is noted reaches a ClearML offline session; a tracker that hangs, fails or is not there changes nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scanloop.store import open_store
from scanloop.training import tracking
from scanloop.training.tracking import Experiment, child_environment, tracking_id_of

ABOUT = {
    "project": "scanloop/cabin",
    "name": "rtmdet_tiny on 0123",
    "tags": ["cabin"],
    "options": {"iterations": 3},
    "links": {"snapshot_id": "0123", "run_id": "run-1"},
    "config": {"model": {"type": "RTMDet"}},
}


@pytest.fixture
def kept(tmp_path):
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path / "tracking", tracking_id_of("run-1", "cabin"))
    yield experiment
    experiment.stop()


def picture() -> bytes:
    """A small PNG."""
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def tell(experiment):
    """Everything that a training tells."""
    experiment.start(ABOUT)
    for iteration in (1, 2, 3):
        experiment.scalars(iteration, {"loss": 1 / iteration})
    experiment.picture("scan-1", 3, picture())
    experiment.metrics({"val_ap50": 0.5, "val_ap": None})


def test_an_offline_session_holds_what_was_told(experiment, kept):
    tell(experiment)
    experiment.finish(kept, training_s=1000)
    prefix = f"tracking/{experiment.tracking_id}"
    assert {stored.key for stored in kept.list(prefix)} == {
        f"{prefix}/events.jsonl",
        f"{prefix}/pictures/000.png",
        f"{prefix}/result.json",
        f"{prefix}/session.zip",
    }
    session = zipfile.ZipFile(io.BytesIO(kept.get(f"{prefix}/session.zip")))
    task = json.loads(session.read("task.json"))
    assert task["name"] == ABOUT["name"]
    assert task["project_name"] == ABOUT["project"]
    assert task["type"] == "training"
    assert experiment.tracking_id in task["tags"]
    assert task["hyperparams"]["options"]["iterations"]["value"] == "3"
    assert task["hyperparams"]["links"]["snapshot_id"]["value"] == "0123"
    assert "RTMDet" in task["configuration"]["config"]["value"]
    assert task["script"].get("diff", "") == ""
    events = [event for line in session.read("metrics.jsonl").decode().splitlines() for event in json.loads(line)]
    losses = {event["iter"]: event["value"] for event in events if event["metric"] == "loss"}
    assert losses == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}
    assert [event["value"] for event in events if event["metric"] == "Summary"] == [0.5]
    assert any(name.endswith(".png") for name in session.namelist())
    assert json.loads(kept.get(f"{prefix}/result.json")) == {
        "experiment_id": task["id"],
        "mode": "offline",
        "session": f"cache/offline/{task['id']}.zip",
    }


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import signal; signal.pause()", id="hangs"),
        pytest.param("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()", id="hangs and ignores signals"),
        pytest.param("raise SystemExit(3)", id="fails"),
    ],
)
def test_a_tracker_that_does_not_work_costs_the_deadline_at_most(experiment, kept, tmp_path, monkeypatch, program):
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}'\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(tracking.sys, "executable", str(broken))
    monkeypatch.setattr(tracking, "LATE_AT_LEAST_S", 0.3)
    tell(experiment)
    process = experiment._child
    experiment.finish(kept, training_s=1)
    assert process.returncode is not None
    lines = kept.get(f"tracking/{experiment.tracking_id}/events.jsonl").decode().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["begin", *["scalars"] * 3, "picture", "metrics", "end"]


def test_a_tracker_that_cannot_be_started_changes_nothing(experiment, kept, monkeypatch):
    monkeypatch.setattr(tracking.sys, "executable", "/nowhere/python")
    tell(experiment)
    experiment.finish(kept, training_s=1)
    assert kept.head(f"tracking/{experiment.tracking_id}/events.jsonl") is not None


def test_a_folder_that_cannot_be_written_changes_nothing(kept, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    experiment = Experiment(tmp_path / "file" / "tracking", "0" * 32)
    tell(experiment)
    experiment.finish(kept, training_s=1)
    assert list(kept.list("tracking/")) == []


def test_the_tracker_ends_when_the_training_dies(tmp_path):
    experiment = Experiment(tmp_path, "0" * 32)
    experiment.start(ABOUT)
    experiment._child.stdin.close()
    assert experiment._child.wait(60) == 1
    assert not (tmp_path / "result.json").exists()


def test_the_tracker_knows_no_secret_but_its_own(tmp_path):
    outside = {
        "PATH": "/bin",
        "HOME": "/home/somebody",
        "AWS_SECRET_ACCESS_KEY": "s3",
        "SCANLOOP_DATABASE_URL": "postgresql://u:p@h/d",
        "CLEARML_API_ACCESS_KEY": "k",
    }
    known = child_environment(tmp_path, outside)
    assert set(known) == {
        "PATH", "HOME", "CLEARML_API_ACCESS_KEY", "CLEARML_CACHE_DIR", "CLEARML_CONFIG_FILE", "CLEARML_OFFLINE_MODE", "PYTHONUNBUFFERED",
    }  # fmt: skip
    assert known["HOME"] == str(tmp_path / "home")
    assert "CLEARML_OFFLINE_MODE" not in child_environment(tmp_path, outside | {"CLEARML_API_HOST": "https://clearml.example"})


def test_a_training_process_exits_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from scanloop.training.tracking import Experiment; "
        f"e = Experiment(Path({str(tmp_path)!r}), '0' * 32); e.start({ABOUT!r}); e.stop(); sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False, env=os.environ)
    assert done.returncode == 7
    assert not (Path(tmp_path) / "result.json").exists()


def test_ids_follow_from_run_and_product_line():
    assert tracking_id_of("run-1", "cabin") == tracking_id_of("run-1", "cabin")
    assert len({tracking_id_of("run-1", "cabin"), tracking_id_of("run-1", "hold"), tracking_id_of("run-2", "cabin")}) == 3
