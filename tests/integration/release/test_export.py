"""The champion as a bundle: one ONNX file that answers as PyTorch does, with everything a device needs beside it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from release_world import make_network, make_scan, seed_champion
from small_world import rows_of

from scanloop.edge.detector import OUTPUT_NAMES, Detector
from scanloop.edge.manifest import parse_manifest
from scanloop.errors import DataWrong, NothingToDo
from scanloop.release.bundle import bundle_file_key
from scanloop.release.export import operating_point
from scanloop.release.parity import compare


@pytest.fixture
def unpacked(deployment, tmp_path):
    """The exported bundle's files in a folder."""
    manifest = parse_manifest(deployment.world.store.get(deployment.exported["bundle_key"]))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for file in manifest.files:
        deployment.world.store.download(bundle_file_key(file), folder / file.name)
    return manifest, folder


def test_a_bundle_is_whole_and_vouched_for(deployment, unpacked):
    manifest, folder = unpacked
    (row,) = rows_of(deployment.world, "releases")
    assert (row["state"], row["version"], row["channel"]) == ("requested", 1, "stable")
    assert row["bundle_sha256"] == manifest.sha256 == deployment.exported["bundle_sha256"]
    assert (manifest.product_line, manifest.version, manifest.model_id) == ("cabin", 1, row["model_id"])
    for file in manifest.files:
        assert hashlib.sha256((folder / file.name).read_bytes()).hexdigest() == file.sha256
    (decision,) = rows_of(deployment.world, "decisions")
    assert manifest.file("evidence.json").sha256 == decision["evidence_sha256"]
    assert json.loads((folder / "thresholds.json").read_bytes())["alarm"] == {"handgun": 0.12, "knife": 0.15}
    parity = deployment.exported["parity"]
    assert parity["holds"]
    assert parity["scans"] > 0
    assert parity["detections"] > 0
    assert parity["onnx_sha256"] == manifest.file("model.onnx").sha256


def test_the_self_check_of_the_bundle_passes_where_it_was_made(unpacked):
    from scanloop.edge.selfcheck import check

    assert check(unpacked[1])["worst_difference"] < 1e-4


def test_the_exported_network_is_the_trained_one(deployment, unpacked):
    _, model = make_network(0)
    parity, alarms = compare(model, Detector(unpacked[1]), [make_scan(seed, 60, 80) for seed in range(20, 24)])
    assert parity.holds
    assert parity.scans == len(alarms) == 4
    assert parity.worst_logit < 1e-4


def test_another_network_does_not_pass_for_it(unpacked):
    _, other = make_network(1)
    parity, _ = compare(other, Detector(unpacked[1]), [make_scan(20)])
    assert not parity.holds


def test_a_batch_gives_what_single_scans_give(unpacked):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(unpacked[1] / "model.onnx"))
    batch = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    together = session.run(list(OUTPUT_NAMES), {"planes": batch})
    for index in range(3):
        for whole, single in zip(together, session.run(list(OUTPUT_NAMES), {"planes": batch[index : index + 1]}), strict=True):
            np.testing.assert_allclose(whole[index], single[0], atol=1e-5)


def test_an_open_request_is_returned_and_not_doubled(deployment):
    again = deployment.export("another-run")
    assert again["release_id"] == deployment.release_id
    assert len(rows_of(deployment.world, "releases")) == 1


def test_a_released_champion_is_nothing_to_do_and_a_new_one_gets_the_next_number(deployment):
    deployment.ask()
    deployment.signer.answer_all()
    assert deployment.publish()["state"] == "released"
    with pytest.raises(NothingToDo, match="is release 1 on stable already"):
        deployment.export("again")
    seed_champion(deployment.run, deployment.world, seed=3, prefix="two")
    exported = deployment.export("two-export")
    assert exported["version"] == 2
    assert exported["model_id"] != deployment.exported["model_id"]


def test_weights_that_are_not_the_champions_are_not_exported(deployment):
    (model,) = rows_of(deployment.world, "models")
    deployment.world.store.put(model["weights_key"], b"other weights")
    deployment.sql("DELETE FROM releases")
    with pytest.raises(DataWrong, match="are not those of model"):
        deployment.export("again")


def test_a_champion_of_a_recipe_without_onnx_is_refused_in_one_sentence(deployment):
    from scanloop.training.config import make_config
    from scanloop.training.options import TrainingOptions

    (model,) = rows_of(deployment.world, "models")
    config = make_config("faster_rcnn_r18", TrainingOptions(size_px=64), ("handgun", "knife"))
    deployment.world.store.put(model["config_key"], config.to_bytes())
    deployment.sql("DELETE FROM releases")
    with pytest.raises(DataWrong, match="is of the recipe faster_rcnn_r18, which cannot be exported to ONNX"):
        deployment.export("again")


def test_changed_evidence_is_not_exported(deployment):
    (decision,) = rows_of(deployment.world, "decisions")
    deployment.world.store.put(decision["evidence_key"], b"{}")
    deployment.sql("DELETE FROM releases")
    with pytest.raises(DataWrong, match="is not what decision"):
        deployment.export("again")


def test_without_a_champion_there_is_nothing_to_export(run_body, world):
    from small_world import define

    from scanloop.release.export import export_release

    define(run_body)
    with pytest.raises(NothingToDo, match="has no champion yet"):
        run_body("release.export", lambda run: export_release(run, "cabin"), product_line="cabin")


@pytest.mark.parametrize("evidence", [b"", b"[]", b"{}", b'{"evidence_of": {"candidate": {"model_id": "x", "operating_point": {}}}}'])
def test_evidence_without_thresholds_is_refused(evidence):
    with pytest.raises(DataWrong, match="names no thresholds"):
        operating_point(evidence, "x")
