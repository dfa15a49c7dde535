"""The whole loop through real Airflow, small: deliveries in, a signed release on a device, invariants checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
import yaml

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.catalog.embedded import serve_embedded
from scanloop.snapshots.manifest import load_snapshot
from scanloop.stack.airflow import AirflowApi, passwords
from scanloop.store import Store, open_store

ROOT = Path(__file__).parents[2]
SCANLOOP = Path(sys.executable).parent / "scanloop"


def small_definitions(folder: Path) -> Path:
    """The product lines of the checkout, with a training of seconds and a gate that lets its result through."""
    folder.mkdir()
    (folder / "taxonomy.yaml").write_text((ROOT / "product_lines" / "taxonomy.yaml").read_text())
    for source in (ROOT / "product_lines").glob("*_baggage.yaml"):
        content = yaml.safe_load(source.read_text())
        content["selection"]["budget_scans"] = 60
        content["snapshot"] |= {"splits": {"train": 0.4, "val": 0.3, "test": 0.3}, "min_scans": 20, "min_new_scans": 40}
        content["training"] |= {"size_px": 128, "iterations": 2, "batch_size": 4}
        content["gate"] |= {"min_ap50": 0.0, "target_pfa": 0.9, "min_threat_bags": 1, "min_clean_bags": 1}
        (folder / source.name).write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def deployment():  # type: ignore[no-untyped-def]
    """Home and environment of a deployment. Not under pytest's own folder: as root the database runs as another user, and each pytest that
    starts closes that folder to other users."""
    folder = Path(tempfile.mkdtemp(prefix="scanloop-test-stack-"))
    home = folder / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCANLOOP_", "AIRFLOW", "CLEARML_"))}
    environment = {**kept, "SCANLOOP_HOME": str(home), "COLUMNS": "200"}
    yield home, environment
    subprocess.run([SCANLOOP, "stack", "down"], env=environment, cwd=ROOT, capture_output=True, check=False)
    left = [process for process in psutil.process_iter() if _belongs(process, str(home))]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=20)
    shutil.rmtree(folder)
    assert not left, f"the stack left {[process.name() for process in left]} running"


def _belongs(process: psutil.Process, home: str) -> bool:
    try:
        return home in process.environ().get("SCANLOOP_STACK_PROCESS", "")
    except psutil.Error:
        return False


def _cut_power(command: list[str | Path], home: Path, environment: dict[str, str], log: Path) -> None:
    """Start, and kill every process of the deployment at once when scans were chosen."""
    with log.open("w") as stream:
        running = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=stream, stderr=stream)
        deadline = time.monotonic() + 600
        while not re.search(r"[1-9][0-9]* chosen", log.read_text()):
            assert running.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < deadline, log.read_text()[-6000:]
            time.sleep(0.2)
        running.kill()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(home) in (process.environ().get("SCANLOOP_HOME") or process.cwd()):
                    process.kill()
        running.wait()


@pytest.mark.timeout(1500)
def test_scans_become_a_release_on_a_device_through_a_power_cut(deployment: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    home, environment = deployment
    lines = small_definitions(tmp_path / "lines")
    command: list[str | Path] = [SCANLOOP, "stack", "demo", "--rounds", "1", "--bags", "40", "--keep", "--definitions", str(lines)]
    _cut_power(command, home, environment, tmp_path / "first.log")
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    page = (home / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64,") >= 6
    assert page.count("holds</span>") == 4
    assert "Traceback" not in done.stderr
    for product_line in ("cabin_baggage", "hold_baggage"):
        device = home / "devices" / product_line
        reports = sorted((device / "answers").glob("*.tdr.dcs"))
        assert reports, "the device answered no scan"
    _check_fence(home)
    _check_record(environment)
    _backfill(home, environment, lines)
    _check_record(environment)


def _check_fence(home: Path) -> None:
    """What the demo said of the signer: its keys are there, and nothing that ran in Airflow could have opened them."""
    keys = [path for folder in ("offline", "online") for path in sorted((home / "signer" / folder).iterdir())]
    assert len(keys) >= 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in [home / "signer", *keys])
    command = [sys.executable, "-m", "scanloop.release.protect", "--deny", str(home / "signer"), "--", "cat", str(keys[0])]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


def _backfill(home: Path, environment: dict[str, str], lines: Path) -> None:
    """A product line gets a new category; the form brings it to scans of the past, and from there the loop goes round by itself."""
    definition = lines / "cabin_baggage.yaml"
    content = yaml.safe_load(definition.read_text())
    content["categories"] = [*content["categories"], "pipe_bomb"]
    definition.write_text(yaml.safe_dump(content))
    with _kept(home, environment) as (catalog, api, store):
        applied = subprocess.run(
            [SCANLOOP, "definitions", "apply", "--folder", lines], env=environment, cwd=ROOT, capture_output=True, check=False
        )
        assert applied.returncode == 0, applied.stderr
        api.trigger("backfill_category", "new-class", conf={"category": "pipe_bomb", "product_lines": ["cabin_baggage"], "budget": 40})
        deadline = time.monotonic() + 400
        while True:
            with catalog.read() as connection:
                rounds = connection.execute(
                    sa.select(t.snapshots.c.snapshot_id)
                    .join(t.decisions, t.decisions.c.snapshot_id == t.snapshots.c.snapshot_id)
                    .where(t.snapshots.c.product_line == "cabin_baggage")
                    .order_by(t.snapshots.c.sequence)
                ).all()
                asked = connection.execute(
                    sa.select(sa.func.count()).where(
                        t.labelling_tasks.c.product_line == "cabin_baggage", t.labelling_tasks.c.schema_version == "1+pipe_bomb@threats-1"
                    )
                ).scalar_one()
            if len(rounds) > 1:
                break
            assert time.monotonic() < deadline, (rounds, asked, api.runs("failed"))
            time.sleep(2)
        assert 0 < asked <= 40 * 3
        root = load_snapshot(store, rounds[-1].snapshot_id).root
        assert root.categories == ("handgun", "knife", "pipe_bomb")
        assert not api.runs("failed")


@contextmanager
def _kept(home: Path, environment: dict[str, str]) -> Iterator[tuple[Catalog, AirflowApi, Store]]:
    """The stack that the demonstration left running."""
    port = json.loads((home / "stack" / "ports.kept").read_text())["ui"]
    api = AirflowApi(f"http://127.0.0.1:{port}", "admin", passwords(home / "airflow")["admin"])
    api.log_in()
    with closing(Catalog(serve_embedded(home / "postgres" / "data"))) as catalog:
        yield catalog, api, open_store((home / "store").as_uri())


def _check_record(environment: dict[str, str]) -> None:
    listed = subprocess.run([SCANLOOP, "audit", "verify"], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout)["violations"] == 0
