"""A device answers scans of every kind it may be given, and runs without what a device does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scan_files
from release_world import make_scan

from scanloop.canonical import canonical_json
from scanloop.edge.answer import answer_scan
from scanloop.edge.detector import Detector
from scanloop.edge.install import current_version
from scanloop.edge.report import device_status, write_device_report
from scanloop.edge.report_dicos import read_report
from scanloop.errors import DataWrong, WrongArguments

COMMAND = [str(Path(sys.executable).parent / "scanloop"), "edge"]


@pytest.fixture
def planes() -> dict[str, np.ndarray]:
    return make_scan(7)


@pytest.mark.parametrize("kind", ["dicos", "png", "tiff"])
def test_every_kind_of_scan_gets_the_same_answer(device, planes, tmp_path, kind):
    scan = tmp_path / f"scan.{kind}"
    scan.write_bytes(getattr(scan_files, kind)(planes))
    if kind != "dicos":
        (tmp_path / f"scan.{kind}.json").write_bytes(scan_files.sidecar())
    answer = answer_scan(
        device, scan, report_path=tmp_path / "tdr.dcs", json_path=tmp_path / "answer.json", picture_path=tmp_path / "picture.png"
    )
    rules = Detector(device.current).rules
    expected = Detector(device.current).alarms(planes).to_records(rules.categories)
    assert list(answer.threats) == expected
    assert expected
    assert (answer.decision, answer.version) == ("ALARM", current_version(device))
    assert json.loads((tmp_path / "answer.json").read_text()) == answer.to_json()
    assert [threat["category"] for threat in read_report(tmp_path / "tdr.dcs")] == [threat["category"] for threat in expected]

    import cv2

    picture = cv2.imread(str(tmp_path / "picture.png"))
    assert picture.shape == (48, 64, 3)


def test_a_scan_of_less_depth_is_brought_to_full_scale(device, tmp_path):
    planes = scan_files.picture(bits=14)
    (tmp_path / "scan.dcs").write_bytes(scan_files.dicos(planes, bits=14))
    from scanloop.scans.planes import scale_to_16_bits

    detector = Detector(device.current)
    expected = detector.alarms({name: scale_to_16_bits(pixels, 14) for name, pixels in planes.items()})
    assert list(answer_scan(device, tmp_path / "scan.dcs").threats) == expected.to_records(detector.rules.categories)


def test_what_is_no_scan_is_refused(device, tmp_path):
    (tmp_path / "note.txt").write_text("not a scan")
    with pytest.raises(DataWrong):
        answer_scan(device, tmp_path / "note.txt")
    with pytest.raises(WrongArguments, match="There is no file"):
        answer_scan(device, tmp_path / "missing.dcs")


def test_a_device_without_a_release_says_so(channel, planes, tmp_path):
    home = channel.device(tmp_path / "empty")
    (tmp_path / "scan.dcs").write_bytes(scan_files.dicos(planes))
    with pytest.raises(WrongArguments, match="has no whole release"):
        answer_scan(home, tmp_path / "scan.dcs")


def test_a_device_with_a_damaged_release_answers_with_the_one_before(channel, device, planes, bundle, tmp_path):
    from release_world import variant

    from scanloop.edge.update import update

    channel.release(variant(bundle, tmp_path / "second", "second"), 2)
    update(device)
    (device.versions / "2" / "model.onnx").write_bytes(b"bit rot")
    (tmp_path / "scan.dcs").write_bytes(scan_files.dicos(planes))
    assert answer_scan(device, tmp_path / "scan.dcs").version == 1


def test_scans_are_answered_while_an_update_is_under_way(device, planes, tmp_path):
    (tmp_path / "scan.dcs").write_bytes(scan_files.dicos(planes))
    with device.locked():
        assert answer_scan(device, tmp_path / "scan.dcs").version == 1
        assert device_status(device)["release_version"] == 1


def test_a_device_tells_about_itself_in_a_file_that_it_signed(device, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    report = write_device_report(device, folder=tmp_path / "medium")
    content = json.loads(Path(report["path"]).read_bytes())
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(device.device().public_key))
    key.verify(bytes.fromhex(content["signature"]), canonical_json(content["status"]))
    assert (content["status"]["release_version"], content["status"]["counter"]) == (1, 1)
    assert Path(report["path"]).parent == tmp_path / "medium"


FORBIDDEN = (
    "torch",
    "mmdet",
    "mmcv",
    "mmengine",
    "sqlalchemy",
    "psycopg",
    "boto3",
    "clearml",
    "great_expectations",
    "pandas",
    "matplotlib",
)
DEVICE = f"""
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r}:
            raise ModuleNotFoundError(f"a device has no {{name}}", name=name)

sys.meta_path.insert(0, Missing())
from scanloop.cli.main import run
code = run(sys.argv[1:])
found = sorted(set({FORBIDDEN!r}) & {{name.partition(".")[0] for name in sys.modules}})
sys.exit(f"a device loaded {{found}}" if found else code)
"""


def as_device(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `scanloop edge …` on a machine that has none of the packages a device lacks."""
    return subprocess.run([sys.executable, "-c", DEVICE, "edge", *words], capture_output=True, text=True, timeout=120)


def test_the_whole_life_of_a_device_needs_neither_torch_nor_a_database(channel, bundle, planes, tmp_path):
    channel.release(bundle, 1)
    (tmp_path / "scan.dcs").write_bytes(scan_files.dicos(planes))
    home = ("--device-home", str(tmp_path / "device"))
    enrol = ("enrol", *home, "--site", "ams", "--product-line", "cabin", "--channel-url", channel.url)
    enrolled = as_device(*enrol, "--root-sha256", channel.ceremony.root_sha256)
    assert enrolled.returncode == 0, enrolled.stderr
    updated = as_device("update", *home)
    assert updated.returncode == 0, updated.stderr
    assert json.loads(updated.stdout)["version"] == 1
    again = as_device("update", *home)
    assert (again.returncode, again.stdout) == (99, "")
    answered = as_device("answer", str(tmp_path / "scan.dcs"), *home, "--out", str(tmp_path / "tdr.dcs"))
    assert answered.returncode == 0, answered.stderr
    assert len(read_report(tmp_path / "tdr.dcs")) == len(json.loads(answered.stdout)["threats"]) > 0
    status = as_device("status", *home)
    assert json.loads(status.stdout)["release_version"] == 1
    report = json.loads(as_device("report", *home).stdout)
    assert Path(report["path"]).is_file()


def test_a_person_reads_one_sentence_and_never_a_traceback(tmp_path):
    home = ("--device-home", str(tmp_path / "nowhere"))
    for words, code in (
        (("update", *home), 64),
        (("status", *home), 64),
        (("enrol", *home, "--site", "a", "--product-line", "b", "--channel-url", "ftp://x", "--root-sha256", "0"), 64),
        (("enrol", *home, "--site", "a", "--product-line", "b", "--channel-url", (tmp_path / "no").as_uri(), "--root-sha256", "0"), 75),
        (("enrol", *home, "--site", "a", "--product-line", "b", "--channel-url", "file:///x", "--root", str(tmp_path / "no")), 64),
        (("enrol", *home, "--site", "a", "--product-line", "b", "--channel-url", "file:///x"), 64),
    ):
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
