"""The commands as people and DAGs call them: exit codes, one JSON line, a process killed at every boundary."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import sqlalchemy as sa
import tifffile
from report_files import place, region, tdr, threat
from scan_files import PEOPLE, dicos, picture, png, sidecar

import scanloop
from scanloop import steps
from scanloop.catalog import Catalog
from scanloop.catalog.tables import bags, deliveries, quarantine, scan_validations, scanners, scans, sites, validation_results
from scanloop.cli.main import run
from scanloop.cli.options import World
from scanloop.execution import JobRun, RunIdentity, execute
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.plan import plan_ingest
from scanloop.intake.shard import ingest_shard
from scanloop.scans.transforms import IDENTITY, ViewTransform
from scanloop.settings import Settings
from scanloop.store import open_store
from scanloop.validation.run import validate_scans

Command = Callable[..., "Done"]
TABLES = (sites, scanners, bags, scans, quarantine, deliveries, validation_results, scan_validations)
STEPS = re.compile(r"\bstep\(\"([a-z_.]+)\"\)")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `scanloop` with these arguments on the test's deployment, without the start of a process."""
    for name, value in environment.items():
        if name.startswith("SCANLOOP_"):
            monkeypatch.setenv(name, value)

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(list(arguments))
        return Done(code, *capsys.readouterr())

    return call


def deliver(world: World) -> dict[str, str]:
    landing = open_store(world.settings.landing_url)
    files = {
        "south-terminal/0042/2026-03-01/B1.dcs": dicos(picture(1)),
        "south-terminal/0042/2026-03-01/B1_again.dcs": dicos(picture(1)),
        "south-terminal/0042/2026-03-01/note.txt": b"hello " + PEOPLE.encode(),
        "south-terminal/0042/2026-03-01/blank.dcs": dicos({name: pixels * 0 + 61000 for name, pixels in picture(1).items()}),
        "north-terminal/SN-7/2026-03-01/B2.png": png(picture(2)),
    }
    landing.put("north-terminal/SN-7/2026-03-01/B2.png.json", sidecar())
    for key, content in files.items():
        landing.put(key, content)
    return {key.rpartition("/")[2]: hashlib.sha256(content).hexdigest() for key, content in files.items()}


def dump(world: World) -> dict[str, list[dict[str, Any]]]:
    """Everything intake and validation wrote, without clocks and without what differs between landing zones."""
    found = {}
    with world.catalog.read() as connection:
        for table in TABLES:
            rows = [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for row in rows:
                row.pop("created_at")
                row.pop("delivery_id", None)
            found[table.name] = sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return found


def objects(world: World) -> dict[str, str]:
    """Every object that counts, with its digest; publications and receipts name deliveries and times."""
    names = (found.key for found in world.store.list() if not found.key.startswith(("receipts/", "publications/", "intake/work/")))
    return {name: hashlib.sha256(world.store.get(name)).hexdigest() for name in names}


def test_the_commands_in_order_as_a_dag_runs_them(world: World, command: Command) -> None:
    sent = deliver(world)
    planned = command("ingest", "plan", "--max-shards=8", "--run-id=r1")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert (plan["count"], plan["deliveries"]) == (len(plan["shards"]), 5)
    totals = {"scans": 0, "duplicates": 0, "quarantined": 0}
    for shard in plan["shards"]:
        result = json.loads(command("ingest", "shard", f"--shard={shard}", "--run-id=r1").stdout)
        totals = {name: totals[name] + result[name] for name in totals}
    assert totals == {"scans": 3, "duplicates": 1, "quarantined": 1}
    assert json.loads(command("ingest", "acknowledge", "--run-id=r1").stdout)["acknowledged"] == 6
    validated = command("validation", "run", "--run-id=r2")
    assert json.loads(validated.stdout) == {"validated": 2, "quarantined": 1, "drifted_scanners": [], "product_lines": []}
    assert PEOPLE not in validated.stderr
    for nothing in (("ingest", "plan"), ("validation", "run")):
        done = command(*nothing)
        assert (done.returncode, done.stdout) == (99, "")
        assert done.stderr.splitlines()[-1].startswith("Nothing to do: ")

    listed = [json.loads(line) for line in command("quarantine", "list", "--json").stdout.splitlines()]
    assert {row["quarantine_id"]: row["stage"] for row in listed} == {sent["note.txt"]: "intake", sent["blank.dcs"]: "validation"}
    assert "not_a_scan" in command("quarantine", "list").stdout
    shown = json.loads(command("quarantine", "show", sent["note.txt"][:12]).stdout)
    assert (shown["raw_is_intact"], shown["deliveries"]) == (True, ["south-terminal/0042/2026-03-01/note.txt"])
    released = command("quarantine", "release", sent["blank.dcs"], "--run-id=r3")
    assert json.loads(released.stdout)["stage"] == "validation"
    assert json.loads(command("ingest", "plan").stdout)["released"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest", "shard", "--shard=nonsense"),
        ("ingest", "shard"),
        ("ingest", "plan", "--max-shards=0"),
        ("quarantine", "release", "beef"),
        ("quarantine", "show", "%"),
        ("scan", "inspect", "no-such-file"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_get_one_sentence_and_64(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert "Traceback" not in done.stderr


def test_inspect_says_what_a_file_is_and_writes_its_pictures(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "bag.png"
    planes = picture(2)
    file.write_bytes(png(planes))
    file.with_name("bag.png.json").write_bytes(sidecar())
    done = command("scan", "inspect", str(file), "--json", "--out", str(tmp_path / "out"))
    facts = json.loads(done.stdout)
    assert (facts["scanner_id"], facts["bag_id"]) == ("argus-line-2-sn-7", "north-terminal/north-terminal/b000123")
    assert facts["scan_id"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert PEOPLE not in done.stdout + done.stderr
    written = sorted(Path(path).name for path in facts["written"])
    assert written == [
        f"bag.{name}" for name in ("colour.png", "high.png", "high.tiff", "low.png", "low.tiff", "planes.tiff", "views.json")
    ]
    for name, pixels in planes.items():
        assert (tifffile.imread(tmp_path / "out" / f"bag.{name}.tiff") == pixels).all()
    views = json.loads((tmp_path / "out" / "bag.views.json").read_text())
    assert {name: ViewTransform.from_dict(view["transform"]) for name, view in views.items()} == dict.fromkeys(
        ("high", "low", "colour"), IDENTITY
    )
    colour = imagecodecs.png_decode((tmp_path / "out" / "bag.colour.png").read_bytes())
    assert colour.shape == (*planes["high"].shape, 3)
    table = "".join(line.split("│")[2].strip() for line in command("scan", "inspect", str(file)).stdout.splitlines() if "│" in line)
    assert "argus-line-2-sn-7" in table
    assert facts["scan_id"] in table


def test_inspect_of_what_is_no_file_does_not_wait_for_its_end(command: Command, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "a.png").write_bytes(png(picture()))
    (tmp_path / "a.png.json").mkdir()
    for what in ("/dev/zero", str(pipe), str(tmp_path / "a.png")):
        done = command("scan", "inspect", what)
        assert (done.returncode, done.stdout) == (64, "")
        assert "Expected a file, found" in done.stderr


def test_inspect_writes_each_plane_whatever_it_is_called(command: Command, tmp_path: Path) -> None:
    planes = {"high": picture(2)["high"], "low": picture(2)["low"], "colour": picture(3)["high"], "planes": picture(3)["low"]}
    (tmp_path / "bag.png").write_bytes(png(planes))
    (tmp_path / "bag.png.json").write_bytes(sidecar(planes=list(planes)))
    done = command("scan", "inspect", str(tmp_path / "bag.png"), "--json", "--out", str(tmp_path / "out"))
    written = json.loads(done.stdout)["written"]
    assert len(set(written)) == len(written) == len(list((tmp_path / "out").iterdir())) == 11
    for name, pixels in planes.items():
        path = tmp_path / "out" / f"bag.{'plane.' if name == 'planes' else ''}{name}.tiff"
        assert (tifffile.imread(path) == pixels).all()
    assert imagecodecs.png_decode((tmp_path / "out" / "bag.colour-picture.png").read_bytes()).ndim == 3


def test_inspect_of_what_is_no_scan_gives_the_reason_and_65(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "cut.dcs"
    file.write_bytes(dicos(picture())[:2000])
    done = command("scan", "inspect", str(file))
    assert (done.returncode, done.stdout) == (65, "")
    assert "announces" in done.stderr
    assert "Traceback" not in done.stderr


KILLS = (
    ("intake.after_work", 1, 0),
    ("intake.after_raw", 1, 1),
    ("intake.after_raw", 6, 1),
    ("intake.after_planes", 1, 1),
    ("intake.after_planes", 3, 1),
    ("intake.after_masks", 1, 1),
    ("intake.before_delete", 1, 2),
    ("intake.after_delete", 4, 2),
    ("validation.after_page", 2, 3),
)
"""Boundary, which passing of it, and the job in which it is."""
JOBS: tuple[tuple[str, str, str | None, Callable[[JobRun], dict[str, Any]]], ...] = (
    ("ingest.plan", "", None, lambda run: plan_ingest(run, 1)),
    ("ingest.shard", "00/01", None, lambda run: ingest_shard(run, Shard(0, 1))),
    ("ingest.acknowledge", "", None, acknowledge),
    ("validation.run", "", "validation", validate_scans),
)


def test_every_boundary_of_intake_and_validation_is_in_the_kill_test() -> None:
    package = Path(scanloop.__file__).parent
    found = {
        name for room in ("intake", "validation") for path in (package / room).glob("*.py") for name in STEPS.findall(path.read_text())
    }
    by_the_queue = {name for name in found if name.startswith("queue.")}  # test_queue.py kills there
    assert found - by_the_queue == {name for name, *_ in KILLS}


def new_world(folder: Path, url: str) -> World:
    settings = Settings(home=folder, database_url=url)
    return World(settings, open_store(settings.store_url), Catalog(url))


def deliver_report(world: World) -> None:
    """A Threat Detection Report with a mask, beside what `deliver` brings."""
    shown = place(["2.25.1"], regions=[region((0, 0, 0), (2, 2, 1), np.ones((1, 2, 2), bool))])
    open_store(world.settings.landing_url).put("south-terminal/SN-9/2026-03-02/r.dcs", tdr([threat(1, "Gun", [shown])]))


def job(world: World, number: int, attempt: int = 1) -> None:
    name, part, lease, body = JOBS[number]
    identity = RunIdentity("r1", name, part, attempt, "test")
    execute(body, identity, settings=world.settings, store=world.store, catalog=world.catalog, lease=lease)


def killed_job(world: World, number: int, boundary: str, passing: int) -> int:
    """Run a job in a child process that is killed at a boundary; the signal that ended it."""
    child = os.fork()
    if child == 0:
        steps._ACTIVE, steps._KILL, steps._KILL_AT = True, boundary, str(passing)
        steps._passed.clear()
        job(new_world(world.settings.home, world.settings.database_url), number)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_job_killed_at_any_boundary_and_run_again_comes_to_the_same(tmp_path: Path, make_database: Callable[[], str]) -> None:
    whole = new_world(tmp_path / "whole", make_database())
    deliver(whole)
    deliver_report(whole)
    for number in range(len(JOBS)):
        job(whole, number)
    expected, kept = dump(whole), objects(whole)
    assert len(expected["scans"]) == 3
    whole.catalog.close()
    for boundary, passing, at in KILLS:
        world = new_world(tmp_path / f"{boundary}-{passing}", make_database())
        deliver(world)
        deliver_report(world)
        for number in range(at):
            job(world, number)
        assert killed_job(world, at, boundary, passing) == -signal.SIGKILL, boundary
        for number in range(at, len(JOBS)):
            job(world, number, attempt=2)
        assert dump(world) == expected, boundary
        assert objects(world) == kept, boundary
        assert not list(open_store(world.settings.landing_url).list()), boundary
        world.catalog.close()
