"""Faults around the loop: runs repeated, deliveries repeated and reordered, two workers at once, the database stopped, the disk full."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from harness.invariants import check_all, differences
from harness.ledger import Ledger
from harness.loop import SHARDS, Stage, run_stage
from harness.matrix import History
from harness.servers import stop_at_once
from harness.tier import SEED
from harness.world import World

from scanloop.catalog import Catalog
from scanloop.catalog.embedded import serve_embedded
from scanloop.catalog.migrate import migrate

SCANLOOP = str(Path(sys.executable).with_name("scanloop"))


def _is_job(stage: Stage, world: World) -> bool:
    return stage.code == 0 and any(word.startswith("--run-id=") for word in stage.arguments(world))


def test_every_job_run_again_changes_nothing(world: World, history: History, subtests: pytest.Subtests) -> None:
    """At the end of everything, each job comes once more with its old run id."""
    before = world.dump()
    jobs = [stage for stage in history.stages if _is_job(stage, world)]
    assert len(jobs) >= 20
    for stage in jobs:
        with subtests.test(stage=stage.name):
            result = dict(world.results[stage.name])
            assert run_stage(world, stage).result == result
            assert differences(world.dump(), before) == []
    assert check_all(world) == []


def _ingest(world: World, run_id: str, shards: list[str]) -> int:
    """Plan, ingest and acknowledge; returns how many deliveries there were."""
    planned = world.run(["ingest", "plan", f"--max-shards={len(SHARDS)}", f"--run-id={run_id}"])
    assert planned.code == 0, planned.stderr
    for shard in shards:
        done = world.run(["ingest", "shard", f"--shard={shard}", f"--run-id={run_id}"])
        assert done.code in (0, 99), done.stderr
    done = world.run(["ingest", "acknowledge", f"--run-id={run_id}"])
    assert done.code == 0, done.stderr
    return int(planned.result["deliveries"])


def _scan_ids(world: World) -> set[str]:
    with psycopg.connect(world.database_url) as connection:
        return {row[0] for row in connection.execute("SELECT scan_id FROM scans")}


def test_deliveries_that_come_twice_late_and_in_another_order_change_nothing(history: History, world: World) -> None:
    expected, ledger = _scan_ids(world), world.ledger
    drawn = random.Random(SEED)
    world.restore("ingest_plan")
    world.ledger = Ledger(set(ledger.entries))
    landing = world.home / "landing"
    originals = [path for path in sorted(landing.rglob("*")) if path.is_file() and ".scanloop-aside" not in path.parts]
    images = [path for path in originals if path.suffix != ".json"]

    def deliver_again(path: Path, name: str) -> None:
        for source in (path.with_name(path.name + ".json"), path):
            if source.exists():
                shutil.copyfile(source, path.parent / (name + source.name))

    try:
        twice = drawn.sample(images, round(0.3 * len(images)))
        for path in twice:
            deliver_again(path, "again_")
        world.ledger.note(landing)
        late = world.folder / "late"
        shutil.copytree(landing, late, dirs_exist_ok=True)
        assert _ingest(world, "ingest-1", list(reversed(SHARDS))) == len(images) + len(twice)
        assert check_all(world) == []
        assert _scan_ids(world) == expected
        shutil.copytree(late, landing, dirs_exist_ok=True)
        world.ledger.note(landing)
        _ingest(world, "ingest-2", list(SHARDS))
        assert check_all(world) == []
        assert _scan_ids(world) == expected
        with psycopg.connect(world.database_url) as connection:
            rows = connection.execute("SELECT outcome, count(*) FROM deliveries WHERE run_id = 'ingest-2' GROUP BY outcome").fetchall()
        assert "scan" not in dict(rows)
        assert dict(rows)["duplicate"] >= len(expected)
    finally:
        world.ledger = ledger


def _start(world: World, arguments: list[str], **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCANLOOP, *arguments], env=world.environment(**changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


TOGETHER = (
    "definitions.apply",
    "ingest.shard.0",
    "selection.create",
    "labelling.push",
    "snapshot.create",
    "promotion.promote",
    "release.publish",
)


@pytest.mark.parametrize("stage", TOGETHER)
def test_two_workers_with_one_run_id_have_one_effect(world: World, history: History, stage: str) -> None:
    wanted = history.stage(stage)
    world.restore(wanted.key)
    workers = [_start(world, wanted.arguments(world)) for _ in range(2)]
    said = [worker.communicate(timeout=120) for worker in workers]
    codes = sorted(worker.returncode for worker in workers)
    assert codes in ([0, 0], [0, 75], [75, 75]), said
    assert not any("Traceback" in err for _, err in said), said
    run_stage(world, wanted)
    assert check_all(world) == []
    assert differences(world.dump(), history.dumps[stage]) == []


@pytest.mark.parametrize("stage", TOGETHER)
def test_two_runs_of_one_job_at_once_break_nothing(world: World, history: History, stage: str) -> None:
    wanted = history.stage(stage)
    world.restore(wanted.key)
    arguments = [word for word in wanted.arguments(world) if not word.startswith("--run-id=")]
    workers = [_start(world, [*arguments, f"--run-id=rival-{number}"]) for number in range(2)]
    said = [worker.communicate(timeout=120) for worker in workers]
    codes = sorted(worker.returncode for worker in workers)
    assert 0 in codes, said
    assert set(codes) <= {0, 65, 75, 99}, said
    assert not any("Traceback" in err for _, err in said), said
    for number in range(2):
        assert world.run([*arguments, f"--run-id=rival-{number}"]).code in (0, 65, 99)
    assert check_all(world) == []


@pytest.fixture
def server(server_folders: Callable[[], Path], history: History, tmp_path: Path) -> tuple[World, Path]:
    """A deployment on a server of its own, with deliveries waiting; and the server's data folder."""
    folder = server_folders()
    url = serve_embedded(folder, "template_catalog")
    catalog = Catalog(url)
    migrate(catalog)
    catalog.close()
    world = World(tmp_path / "world", url, history.world.run_command).create()
    for stage in history.stages[:2]:
        run_stage(world, stage)
    return world, folder


@pytest.mark.parametrize(
    ("stage", "boundary"),
    [
        ("ingest.shard.0", "intake.after_planes"),
        ("ingest.shard.0", "execution.after_receipt"),
        ("ingest.shard.1", "execution.before_commit"),
    ],
)
def test_a_database_that_stops_in_the_middle_of_a_job_loses_nothing(
    server: tuple[World, Path], history: History, tmp_path: Path, stage: str, boundary: str
) -> None:
    world, folder = server
    wanted = history.stage(stage)
    run_stage(world, history.stage("ingest.plan"))
    trace, go = tmp_path / "trace", tmp_path / "go"
    process = _start(world, wanted.arguments(world), SCANLOOP_STEP_TRACE=str(trace), SCANLOOP_STEP_PAUSE=f"{boundary}:{go}")
    while not trace.exists() or boundary not in trace.read_text():
        assert process.poll() is None, process.communicate()
    stop_at_once(folder)
    go.touch()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "Traceback" not in said
    assert "is not available" in said.splitlines()[-1]
    assert serve_embedded(folder, "template_catalog") == world.template_url
    assert check_all(world, killed=True) == []
    for name in ("ingest.shard.0", "ingest.shard.1", "ingest.acknowledge", "validation.run"):
        run_stage(world, history.stage(name))
    assert check_all(world) == []
    assert len(_scan_ids(world)) == len({each.sha256 for each in world.ledger.entries}) - _count_other(world)


def _count_other(world: World) -> int:
    """Delivered contents that are no scans: sidecars, reports, a truncated file and a stray note."""
    sidecars = {each.sha256 for each in world.ledger.entries if each.is_sidecar}
    with psycopg.connect(world.database_url) as connection:
        held = connection.execute("SELECT count(*) FROM quarantine WHERE stage = 'intake'").fetchone()
        reports = connection.execute("SELECT count(*) FROM threat_reports").fetchone()
    assert held == (2,)
    assert reports is not None
    assert reports[0] > 0
    return len(sidecars) + reports[0] + 2


ON_SMALL_DISK = (
    'mount -t tmpfs -o "size=$2" none "$1" && cp -a "$0/." "$1" && shift 2; "$@"; code=$?; cp -a "$STORE/." "$AFTER"; exit $code'
)
"""Give a command a store on a disk of its own with little room, and keep what it left there."""


def _used_kib(folder: Path) -> int:
    return int(subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.parametrize("stage", ["ingest.shard.0", "labelling.push", "model.train"])
def test_a_disk_that_fills_up_in_the_middle_of_a_job_loses_nothing(world: World, history: History, stage: str) -> None:
    wanted = history.stage(stage)
    following = history.stages[[each.name for each in history.stages].index(stage) + 1]
    saved = world.folder / "saved"
    before, after = _used_kib(saved / wanted.key / "store"), _used_kib(saved / following.key / "store")
    world.restore(wanted.key)
    store, left = world.home / "store", world.folder / "left"
    shutil.rmtree(left, ignore_errors=True)
    left.mkdir()
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    size = f"{before + (after - before) * 2 // 5}k"
    command = [
        *namespace,
        "sh",
        "-c",
        ON_SMALL_DISK,
        str(saved / wanted.key / "store"),
        str(store),
        size,
        SCANLOOP,
        *wanted.arguments(world),
    ]
    tried = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine lets no test mount a small disk: {tried.stderr.strip()}")
    environment = world.environment(STORE=str(store), AFTER=str(left))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 75, done.stderr
    assert "No space left on device. Make room and run again." in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    shutil.rmtree(store)
    shutil.copytree(left, store, copy_function=shutil.copy2)
    assert check_all(world, killed=True) == []
    run_stage(world, wanted)
    assert check_all(world) == []
    assert differences(world.dump(), history.dumps[stage]) == []


def test_the_ledger_is_kept_outside(history: History) -> None:
    ledger = replace(history.world.ledger)
    assert len({each.sha256 for each in ledger.entries}) < len(ledger.entries)  # one file was delivered twice
    assert not any("ledger" in path.name for path in history.world.home.iterdir())
