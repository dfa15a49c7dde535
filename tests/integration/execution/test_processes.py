"""Real processes: killed at every boundary of the execution, overtaken, and run twice at once."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from scanloop.catalog.canonical import canonical_lines
from scanloop.catalog.tables import leases, product_lines, runs
from scanloop.cli.options import World
from scanloop.execution.anchors import audit_violations

ROOT = Path(__file__).resolve().parents[3]
SCANLOOP = Path(sys.executable).with_name("scanloop")
BOUNDARIES = re.findall(
    r'step\("(execution\.[a-z_]+)"\)', "".join(path.read_text() for path in (ROOT / "jobs/scanloop/execution").glob("*.py"))
)
Apply = Callable[..., list[str]]


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    """The command line of a real job: `definitions apply` of a folder whose product line has the given title."""

    def command(run_id: str, title: str = "Cabin") -> list[str]:
        folder = tmp_path / f"definitions-{title}"
        if not folder.exists():
            folder.mkdir()
            shutil.copy(ROOT / "product_lines" / "taxonomy.yaml", folder)
            text = (ROOT / "product_lines" / "cabin_baggage.yaml").read_text()
            (folder / "cabin.yaml").write_text(re.sub("^title: .*$", f"title: {title}", text, flags=re.MULTILINE))
        return [str(SCANLOOP), "definitions", "apply", f"--folder={folder}", f"--run-id={run_id}"]

    return command


def _run(command: list[str], environment: dict[str, str], **steps: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment | steps, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def _paused(command: list[str], environment: dict[str, str], boundary: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that stands at `boundary`, and the file that lets it go on."""
    trace, go = tmp_path / f"trace-{boundary}", tmp_path / f"go-{boundary}"
    steps = {"SCANLOOP_STEP_TRACE": str(trace), "SCANLOOP_STEP_PAUSE": f"{boundary}:{go}"}
    process = subprocess.Popen(command, env=environment | steps, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not (trace.exists() and boundary in trace.read_text().split()):
            assert process.poll() is None, process.communicate()
        yield process, go
    finally:
        go.touch()
        if process.poll() is None:
            process.kill()
        process.communicate()


def _titles(world: World) -> dict[str, bool]:
    with world.catalog.read() as connection:
        return {row.definition["title"]: row.is_active for row in connection.execute(sa.select(product_lines))}


def _expire_leases(world: World) -> None:
    with world.catalog.begin() as connection:
        connection.execute(sa.update(leases).values(expires_at=sa.func.now()))


def test_there_are_boundaries_around_every_outside_write() -> None:
    assert [
        f"execution.{name}" for name in ("before_publication", "after_publication", "after_receipt", "before_commit", "after_commit")
    ] == BOUNDARIES


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_killed_at_a_boundary_and_run_again_it_ends_as_if_never_killed(
    world: World, environment: dict[str, str], apply: Apply, boundary: str, make_database: Callable[[], str], tmp_path: Path
) -> None:
    killed = _run(apply("run-1"), environment, SCANLOOP_STEP_KILL=boundary)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    published = boundary == "execution.after_commit"
    assert _titles(world) == ({"Cabin": True} if published else {})
    again = _run(apply("run-1"), environment)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["changed"] == ["cabin_baggage"]
    assert list(audit_violations(world.catalog, world.store)) == []

    from scanloop.catalog import Catalog

    other = {**environment, "SCANLOOP_HOME": str(tmp_path / "unfaulted"), "SCANLOOP_DATABASE_URL": make_database()}
    assert _run(apply("run-1"), other).returncode == 0
    unfaulted = Catalog(other["SCANLOOP_DATABASE_URL"])
    assert list(canonical_lines(unfaulted)) == list(canonical_lines(world.catalog))
    unfaulted.close()


def test_another_run_is_told_to_come_back_while_the_lease_is_held(
    world: World, environment: dict[str, str], apply: Apply, tmp_path: Path
) -> None:
    with _paused(apply("run-1"), environment, "execution.before_publication", tmp_path) as (first, go):
        second = _run(apply("run-2", "Other"), environment)
        assert second.returncode == 75
        assert second.stderr.splitlines()[-1] == "Error: definitions is being worked on by run-1/definitions.apply. Run again later."
        go.touch()
        assert first.wait(60) == 0
    assert _run(apply("run-2", "Other"), environment).returncode == 0
    assert _titles(world) == {"Cabin": False, "Other": True}


@pytest.mark.parametrize("boundary", ["execution.before_publication", "execution.after_publication", "execution.after_receipt"])
def test_a_worker_that_wakes_after_its_lease_changes_nothing(
    world: World, environment: dict[str, str], apply: Apply, tmp_path: Path, boundary: str
) -> None:
    with _paused(apply("run-1"), environment, boundary, tmp_path) as (late, go):
        _expire_leases(world)
        assert _run(apply("run-2", "Other"), environment).returncode == 0
        before = list(canonical_lines(world.catalog))
        go.touch()
        _, said = late.communicate(timeout=60)
        assert late.returncode == 75, said
        assert "The lease on definitions passed to run-2/definitions.apply (fence 2, ours was 1)." in said
    assert list(canonical_lines(world.catalog)) == before
    assert _titles(world) == {"Other": True}


def test_a_later_attempt_overtakes_a_stuck_one_and_only_one_receipt_counts(
    world: World, environment: dict[str, str], apply: Apply, tmp_path: Path
) -> None:
    with _paused(apply("run-1"), environment, "execution.after_publication", tmp_path) as (stuck, go):
        again = _run([*apply("run-1"), "--attempt=2"], environment)
        assert again.returncode == 0, again.stderr
        go.touch()
        assert stuck.wait(60) == 75
    assert _titles(world) == {"Cabin": True}
    assert [stored.key for stored in world.store.list("receipts/")] == ["receipts/run-1/definitions.apply.json"]
    assert list(audit_violations(world.catalog, world.store)) == []


JOB_WITHOUT_LEASE = """
import os, sys
from pathlib import Path
from scanloop.cli.options import RunOptions, run_job

def body(run):
    (run.workdir / "scratch").write_text(str(os.getpid()))
    run.publication.insert("sites", [{"site_id": f"site-{n}", "name": "x"} for n in range(50)], action="site.added", subject="site_id")
    assert (run.workdir / "scratch").read_text() == str(os.getpid())
    return {"by": os.getpid()}

run_job("test.add", body, options=RunOptions("run-1", 1))
"""


def test_workers_with_one_run_id_at_once_have_one_receipt_and_one_effect(world: World, environment: dict[str, str]) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", JOB_WITHOUT_LEASE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
    assert len(list(world.store.list("receipts/"))) == 1
    with world.catalog.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one() == 1
        assert connection.execute(sa.text("SELECT count(*) FROM audit_log")).scalar_one() == 51
    assert list(audit_violations(world.catalog, world.store)) == []
    assert not list((world.settings.work).glob("*/test.add*"))
