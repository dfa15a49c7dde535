"""The commands as people and DAGs run them: real processes, exit codes, one JSON line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import rows_of

COMMAND = str(Path(sys.executable).parent / "scanloop")


@pytest.fixture
def scanloop(deployment):
    """Run one `scanloop` command on the deployment."""
    settings = deployment.world.settings
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCANLOOP_")}
    environment = kept | {"SCANLOOP_HOME": str(settings.home), "SCANLOOP_DATABASE_URL": settings.database_url, "SCANLOOP_ACTOR": "test"}

    def run(*words: str, code: int = 0) -> dict[str, object]:
        done = subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=180, env=environment)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout) if done.stdout else {"said": done.stderr.strip()}

    run.environment = environment
    return run


def test_from_a_champion_to_a_device_by_commands(scanloop, deployment, tmp_path):
    ceremony = scanloop("release", "init")
    assert ceremony["product_lines"] == ["cabin"]
    release_id = deployment.release_id
    publish = ("release", "publish", "--product-line", "cabin", "--release", release_id, "--run-id", "publish")
    assert "did not answer within 0 s" in scanloop(*publish, "--wait-s", "0", code=75)["said"]
    assert scanloop("release", "sign", "--once") == {"released": [release_id], "refused": []}
    assert scanloop(*publish)["state"] == "released"
    assert scanloop("release", "sign", "--once") == {"released": [], "refused": []}
    device = ("--device-home", str(tmp_path / "device"))
    trust = ("--root-sha256", str(ceremony["root_sha256"]), "--channel-url", str(ceremony["channel_url"]))
    enrolled = scanloop("edge", "enrol", *device, "--site", "ams", "--product-line", "cabin", *trust)
    assert scanloop("edge", "update", *device)["model_id"] == deployment.exported["model_id"]
    recorded = scanloop("release", "enrol-device", "--enrolment", str(enrolled["enrolment"]), "--run-id", "enrol")
    assert recorded["device_id"] == enrolled["device_id"]
    (row,) = rows_of(deployment.world, "devices")
    assert (row["device_id"], row["state"], row["product_lines"]) == (enrolled["device_id"], "enrolled", ["cabin"])
    assert "is release 1 on stable already" in scanloop("release", "export", "--product-line", "cabin", code=99)["said"]


def test_a_refused_release_exits_65_each_time_it_is_asked_for(scanloop, deployment):
    deployment.sql("UPDATE decisions SET verdict = 'reject'")
    deployment.ask()
    assert scanloop("release", "sign", "--once")["refused"] == [deployment.release_id]
    publish = ("release", "publish", "--product-line", "cabin", "--release", deployment.release_id, "--run-id", "publish")
    for _ in range(2):
        done = subprocess.run([COMMAND, *publish], capture_output=True, text=True, timeout=60, env=scanloop.environment)
        assert done.returncode == 65
        assert "says reject, not promote" in done.stderr
        assert json.loads(done.stdout)["state"] == "refused"
    assert rows_of(deployment.world, "releases")[0]["state"] == "refused"


def test_the_signer_runs_until_it_is_told_to_stop(scanloop, deployment):
    process = subprocess.Popen(
        [COMMAND, "release", "sign", "--poll-s", "0.1"], env=scanloop.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert deployment.publish(wait_s=60)["state"] == "released"
        second = subprocess.run(
            [COMMAND, "release", "sign", "--once"], capture_output=True, text=True, env=scanloop.environment, timeout=60
        )
        assert (second.returncode, "Another signer is at work" in second.stderr) == (75, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_mistakes_are_one_sentence(scanloop, deployment, tmp_path):
    said = scanloop("release", "publish", "--product-line", "cabin", "--release", "cabin-9-0123456789ab", code=65)["said"]
    assert said == "Error: The catalog knows no release cabin-9-0123456789ab of cabin."
    assert "There is no signer at" in scanloop("release", "sign", "--once", "--signer-home", str(tmp_path / "none"), code=64)["said"]
    inside = str(deployment.world.settings.home / "store" / "signer")
    assert "must lie apart" in scanloop("release", "init", "--signer-home", inside, code=64)["said"]
    assert "cannot be read" in scanloop("release", "enrol-device", "--enrolment", str(tmp_path / "none"), code=64)["said"]


def test_a_forged_enrolment_is_refused(scanloop, deployment, tmp_path):
    from release_world import Channel

    home = Channel(tmp_path / "made").device(tmp_path / "device")
    content = json.loads(home.enrolment.read_text())
    content["device"]["product_line"] = "hold"
    (tmp_path / "forged.json").write_text(json.dumps(content))
    assert "not signed by the key" in scanloop("release", "enrol-device", "--enrolment", str(tmp_path / "forged.json"), code=65)["said"]
    assert rows_of(deployment.world, "devices") == []
