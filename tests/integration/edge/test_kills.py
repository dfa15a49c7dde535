"""The device is killed at every boundary, and at random instants: there is always a whole release, and going on ends where no kill would have."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import killed
import pytest
from release_world import Channel, assert_whole, snapshot_of, variant

from scanloop.edge import install
from scanloop.edge.channel import UpdateRefused
from scanloop.edge.device import DeviceHome, enrol
from scanloop.edge.state import load_state
from scanloop.edge.update import update
from scanloop.errors import NothingToDo

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "edge").glob("*.py"))


def do_update(home: DeviceHome) -> None:
    update(home)


def do_refused_update(home: DeviceHome) -> None:
    try:
        update(home)
    except UpdateRefused:
        return
    raise AssertionError("it was installed")


def do_recover(home: DeviceHome) -> None:
    with home.locked():
        install.recover(home)


def do_enrol(home: DeviceHome) -> None:
    channel = json.loads((home.folder.parent / "channel.json").read_text())
    enrol(home, site="ams", product_line="cabin", channel="stable", channel_url=channel["url"], root=channel["root"].encode())


@dataclass(frozen=True)
class Scenario:
    """A start, an act, and where it must end."""

    start: Path
    act: Callable[[DeviceHome], None]

    def fresh(self, folder: Path) -> DeviceHome:
        shutil.copytree(self.start, folder, symlinks=True)
        return DeviceHome(folder / "device")


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory, bundle) -> dict[str, Scenario]:
    base = tmp_path_factory.mktemp("kills")
    channel = Channel(base / "made")

    def start(name: str) -> Path:
        (base / name).mkdir()
        (base / name / "channel.json").write_text(json.dumps({"url": channel.url, "root": channel.root.decode()}))
        return base / name

    made = {"enrol": Scenario(start("enrol"), do_enrol)}
    channel.release(bundle, 1)
    made["first release"] = Scenario(start("first release"), do_update)
    device = channel.device(base / "first release" / "device")

    def copy(name: str) -> DeviceHome:
        shutil.copytree(device.folder, start(name) / "device", symlinks=True)
        return DeviceHome(base / name / "device")

    update(copy("later"))
    device = DeviceHome(base / "later" / "device")
    channel.release(variant(bundle, base / "two", "two"), 2)
    update(device)
    damaged = copy("damaged")
    (damaged.versions / "2" / "model.onnx").write_bytes(b"bit rot")
    made["damaged"] = Scenario(base / "damaged", do_recover)
    made["third release"] = Scenario(base / "later", do_update)
    elsewhere = Channel(base / "elsewhere")
    for version, note in ((1, "one"), (2, "two")):
        elsewhere.release(variant(bundle, base / f"else {version}", note), version)
    home = elsewhere.device(start("failing") / "device")
    update(home)
    bad = variant(bundle, base / "bad", "bad")
    expected = json.loads((bad / "selftest.json").read_bytes())
    expected["samples"]["class_logits_8"]["values"][0] += 5
    (bad / "selftest.json").write_text(json.dumps(expected))
    elsewhere.release(bad, 3)
    made["failing"] = Scenario(base / "failing", do_refused_update)
    channel.release(bundle, 3)
    return made


def settled(scenario: Scenario, home: DeviceHome) -> dict[str, object]:
    """Go on until there is nothing left to do, and say what is there then."""
    for _ in range(2):
        try:
            scenario.act(home)
        except (NothingToDo, UpdateRefused):
            break
    return {**snapshot_of(home), "device": sorted(path.name for path in home.folder.iterdir() if not path.name.startswith("."))}


SCENARIOS = ["enrol", "first release", "third release", "failing", "damaged"]
covered: set[str] = set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_boundary_it_converges(scenarios, name, tmp_path):
    scenario = scenarios[name]
    reference = scenario.fresh(tmp_path / "reference")
    trace = tmp_path / "trace"
    assert killed.run(scenario.act, reference, trace=trace) == 0
    counts = killed.passed(trace)
    covered.update(counts)
    expected = settled(scenario, reference)
    for boundary, number in killed.occurrences(counts, most=1 if name == "first release" else 2):
        home = scenario.fresh(tmp_path / f"{boundary}-{number}")
        counter = load_state(home.state).counter
        assert killed.run(scenario.act, home, kill=boundary, passing=number) == killed.KILLED, boundary
        if name == "damaged":
            with home.locked():
                assert install.recover(home)[0] is not None
        if name != "enrol":
            whole = assert_whole(home)
            assert (whole is not None) or name == "first release", boundary
            assert load_state(home.state).counter >= counter
        assert settled(scenario, home) == expected, (boundary, number)
        shutil.rmtree(home.folder.parent)


def test_every_boundary_of_the_device_was_covered(scenarios):
    assert covered == killed.boundaries(*SOURCES)


def test_killed_at_random_instants_there_is_always_a_whole_release(scenarios, tmp_path):
    seed = int(os.environ.get("SCANLOOP_TEST_SEED", "20261123"))
    generator = random.Random(seed)
    scenario = scenarios["third release"]
    expected = settled(scenario, scenario.fresh(tmp_path / "reference"))
    home = scenario.fresh(tmp_path / "killed")
    for _ in range(6):
        process = killed.start(scenario.act, home)
        time.sleep(generator.uniform(0.0, 0.6))
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert assert_whole(home) in (2, 3), f"seed {seed}"
    assert settled(scenario, home) == expected, f"seed {seed}"
