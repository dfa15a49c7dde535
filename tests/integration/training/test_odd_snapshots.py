"""Trainings on what data may be like at its edges: one bag, no val split, scans a few pixels wide."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
import small_world
from small_world import add_bags, define, label_everything, rows_of, run_job_of

from scanloop.errors import DataWrong
from scanloop.training.detector import load_detector
from scanloop.training.train import train_detector

TINY = ("size_px=64", "iterations=2", "batch_size=2", "threads=1", "device=cpu", "crop_px=0")
ALL_TRAIN = {"splits": {"train": 1.0, "val": 0.0, "test": 0.0}}


def train(run_body, *more, run_id="train-1"):
    body = lambda run: train_detector(run, overrides=(*TINY, *more))  # noqa: E731
    return run_body("model.train", body, run_id=run_id, product_line="cabin", lease="cabin/train")


def snapshot_of(run_body, world, bags, **changes):
    define(run_body, **changes)
    add_bags(run_body, world, bags, views=("side",))
    label_everything(run_body, "one")
    return run_job_of(run_body, "snapshot.create", "snap")["snapshot_id"]


def with_threats(count):
    """Names of bags in which `small_world` puts a threat."""
    import hashlib

    names = (f"bag-{number}" for number in range(1000))
    found = [name for name in names if int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 3]
    return found[:count]


def test_one_scan_and_no_val_split_are_enough_to_train(run_body, world):
    snapshot_of(run_body, world, with_threats(1), snapshot=ALL_TRAIN)
    result = train(run_body)
    assert {name: result["metrics"][name] for name in ("val_ap", "val_ap50", "val_scans")} == {
        "val_ap": None,
        "val_ap50": None,
        "val_scans": 0,
    }
    row = rows_of(world, "models")[0]
    session = zipfile.ZipFile(BytesIO(world.store.get(f"tracking/{row['tracking_id']}/session.zip")))
    events = [event for line in session.read("metrics.jsonl").decode().splitlines() for event in json.loads(line)]
    assert not any(str(event.get("value")) in ("None", "nan") for event in events)


def test_looks_at_a_val_split_that_is_not_there_are_refused(run_body, world):
    snapshot_of(run_body, world, with_threats(2), snapshot=ALL_TRAIN)
    with pytest.raises(DataWrong, match="no val scan with a box, so validate_interval has nothing to look at"):
        train(run_body, "validate_interval=1")


@pytest.mark.parametrize("size_px", [(3000, 30), (30, 3000), (36, 36)], ids=["a hundred times as high", "as wide", "tiny"])
def test_scans_of_any_shape_can_be_learned_from(run_body, world, monkeypatch, size_px):
    monkeypatch.setattr(small_world, "SIZE_PX", size_px)
    snapshot_of(run_body, world, with_threats(16))
    assert np.isfinite(train(run_body)["metrics"]["final_loss"])
    detector = load_detector(world.store, rows_of(world, "models")[0])
    high = np.full(size_px, 40000, np.uint16)
    found = detector.detect({"high": high, "low": high})
    assert (found.boxes_xyxy <= [size_px[1], size_px[0]] * 2).all()
