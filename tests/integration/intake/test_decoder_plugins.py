"""A format that only a plug-in reads, through the real intake job and the commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tifffile
from example_decoder import EXAMPLE, install, orbis
from scan_files import PEOPLE, dicos, picture
from typer.testing import CliRunner

from scanloop.catalog.tables import quarantine, scans
from scanloop.cli.main import build_app
from scanloop.cli.options import World
from scanloop.execution import RunIdentity, execute
from scanloop.intake.landing import Shard
from scanloop.intake.release import release
from scanloop.intake.shard import ingest_shard
from scanloop.scans.planes import read_planes
from scanloop.settings import Settings
from scanloop.store import open_store

KEY = "west-terminal/O-17/2026-03-01/W0042_top.raw"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented example, installed by pip."""
    return install(EXAMPLE, tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("scratch"))


def with_plugins(world: World, folder: Path, wanted: str) -> World:
    settings = Settings(home=world.settings.home, database_url=world.settings.database_url, decoders=wanted, decoders_folder=folder)
    return World(settings, world.store, world.catalog)


def job(world: World, name: str, body: Any, run_id: str, part: str = "") -> dict[str, Any]:
    return execute(body, RunIdentity(run_id, name, part, 1, "test"), settings=world.settings, store=world.store, catalog=world.catalog)


def ingest(world: World, run_id: str) -> dict[str, Any]:
    return job(world, "ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id, "00/01")


def rows(world: World, table: sa.Table) -> list[dict[str, Any]]:
    with world.catalog.read() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def test_a_file_of_a_plugin_is_received_and_says_who_read_it(world: World, folder: Path) -> None:
    content = orbis()
    landing = open_store(world.settings.landing_url)
    landing.put(KEY, content)
    landing.put("south-terminal/0042/2026-03-01/B1_side.dcs", dicos(picture(1)))
    here = with_plugins(world, folder, "orbis")
    assert ingest(here, "first")["scans"] == 2
    row = next(row for row in rows(here, scans) if row["scan_id"] == hashlib.sha256(content).hexdigest())
    assert (row["source_format"], row["scanner_id"], row["view_name"]) == ("orbis", "orbis-raw-o-17", "top")
    assert (row["attributes"]["decoder"], row["attributes"]["decoder_version"]) == ("scanloop-orbis-decoder", "1.0.0")
    planes = read_planes(here.store.get(row["planes_key"]))
    assert all((planes[name] == pixels).all() for name, pixels in picture().items())
    assert PEOPLE not in json.dumps(row, default=str)


def test_what_was_nobodys_is_read_once_its_plugin_is_chosen(world: World, folder: Path) -> None:
    content = orbis()
    open_store(world.settings.landing_url).put(KEY, content)
    assert ingest(with_plugins(world, folder, ""), "first")["quarantined"] == 1
    (held,) = rows(world, quarantine)
    assert held["reason_code"] == "not_a_scan"
    job(world, "quarantine.release", lambda run: release(run, held["quarantine_id"]), "ask")
    here = with_plugins(world, folder, "orbis")
    assert ingest(here, "second")["reread"] == 1
    assert [row["source_format"] for row in rows(here, scans)] == ["orbis"]


def test_a_plugin_that_is_not_there_is_named_in_quarantine(world: World, folder: Path) -> None:
    open_store(world.settings.landing_url).put(KEY, orbis())
    assert ingest(with_plugins(world, folder, "orbit"), "first")["quarantined"] == 1
    (held,) = rows(world, quarantine)
    assert held["reason_code"] == "decoder_failed"
    assert "orbit: no installed distribution offers it" in held["reason"]


def test_the_commands_list_plugins_and_read_with_them(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANLOOP_DECODERS", "orbis,missing")
    monkeypatch.setenv("SCANLOOP_DECODERS_FOLDER", str(folder))
    runner, app = CliRunner(), build_app()
    listed = runner.invoke(app, ["scan", "formats", "--json"])
    assert listed.exit_code == 0, listed.output
    states = {row["format"]: (row["distribution"], row["version"], row["state"], row["problem"]) for row in json.loads(listed.stdout)}
    assert states["orbis"] == ("scanloop-orbis-decoder", "1.0.0", "ready", "")
    assert states["missing"] == ("", "", "unusable", "no installed distribution offers it")
    assert states["dicos"][2] == "built in"
    assert "scanloop-orbis-decoder" in runner.invoke(app, ["scan", "formats"], env={"COLUMNS": "200"}).stdout

    file = tmp_path / "view.bin"
    file.write_bytes(orbis())
    inspected = runner.invoke(app, ["scan", "inspect", str(file), "--json", "--out", str(tmp_path / "out")])
    assert inspected.exit_code == 0, inspected.output
    facts = json.loads(inspected.stdout)
    assert (facts["source_format"], facts["attributes"]["decoder"]) == ("orbis", "scanloop-orbis-decoder")
    for name, pixels in picture().items():
        assert (tifffile.imread(tmp_path / "out" / f"view.{name}.tiff") == pixels).all()
