"""Ceremony, signer and jobs are killed at every boundary; going on ends where no kill would have, and the channel is sound at every instant."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed
import pytest
from small_world import rows_of

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "release").glob("*.py"))
covered: set[str] = set()


def open_world(home: Path, database_url: str) -> Any:
    from scanloop.catalog import Catalog
    from scanloop.cli.options import World
    from scanloop.settings import Settings
    from scanloop.store import open_store

    settings = Settings(home=home, database_url=database_url)
    return World(settings, open_store(settings.store_url), Catalog(database_url))


def run_keyed(home: Path, database_url: str, job: str, run_id: str, body: Callable[[Any], dict[str, Any]]) -> None:
    from scanloop.cli.options import load_definition
    from scanloop.execution import RunIdentity, execute

    world = open_world(home, database_url)
    execute(
        body,
        RunIdentity(run_id, job, "", 1, "test", "cabin"),
        settings=world.settings,
        store=world.store,
        catalog=world.catalog,
        definition=load_definition(world.catalog, "cabin"),
        lease="cabin/release",
    )
    world.catalog.close()


def do_ceremony(home: Path, database_url: str) -> None:
    from scanloop.release.ceremony import hold_ceremony, signer_lock
    from scanloop.release.keys import open_keys
    from scanloop.release.signer import utc_now
    from scanloop.store import open_store

    keys = open_keys(home / "signer", None, make=True)
    with signer_lock(keys.home):
        hold_ceremony(keys, open_store((home / "channel").as_uri()), ["cabin"], utc_now())


def do_sign(home: Path, database_url: str) -> None:
    from scanloop.release.ceremony import signer_lock
    from scanloop.release.keys import open_keys
    from scanloop.release.signer import Signer
    from scanloop.store import open_store

    world = open_world(home, database_url)
    keys = open_keys(home / "signer", None)
    with signer_lock(keys.home):
        signer = Signer(keys, world.store, open_store(world.settings.channel_url), world.catalog)
        signer.refresh()
        signer.answer_all()
    world.catalog.close()


def do_export(home: Path, database_url: str) -> None:
    from scanloop.release.export import export_release

    run_keyed(home, database_url, "release.export", "killed-export", lambda run: export_release(run, "cabin"))


def do_publish(home: Path, database_url: str) -> None:
    from scanloop.release.publish import publish_release

    world = open_world(home, database_url)
    (row,) = rows_of(world, "releases")
    world.catalog.close()
    run_keyed(
        home, database_url, "release.publish", "killed-publish", lambda run: publish_release(run, "cabin", row["release_id"], wait_s=0)
    )


def outcome(home: Path, database_url: str) -> dict[str, Any]:
    """What is on the channel and in the catalog, without times."""
    from scanloop.release.repository import MetadataFolder

    state = MetadataFolder(home / "signer" / "metadata").load()
    world = open_world(home, database_url)
    found = {
        "releases": [{name: value for name, value in row.items() if name != "created_at"} for row in rows_of(world, "releases")],
        "answers": [world.store.get(stored.key) for stored in world.store.list("signing/answers/")],
        "versions": {role: metadata.signed.version for role, metadata in state.roles.items()} if state else {},
        "targets": sorted(path for path in state.line("cabin").targets) if state else [],
        "channel": sorted(
            str(path.relative_to(home / "channel"))
            for path in (home / "channel").rglob("*")
            if path.is_file() and ".scanloop-aside" not in path.parts
        ),
    }
    world.catalog.close()
    return found


def assert_sound(home: Path, expected_version: int | None, folder: Path) -> None:
    """A device that looks at the channel now sees one whole state: no release, or a release whose every file verifies."""
    from scanloop.edge.channel import Channel
    from scanloop.edge.device import DeviceHome, enrol
    from scanloop.release.signer import utc_now

    timestamp = home / "channel" / "metadata" / "timestamp.json"
    if not timestamp.exists():
        return
    device = DeviceHome(folder)
    url, root = (home / "channel").as_uri(), (home / "channel" / "metadata" / "1.root.json").read_bytes()
    enrolled = enrol(device, site="ams", product_line="cabin", channel="stable", channel_url=url, root=root)
    channel = Channel(device, enrolled, url, folder / "downloads")
    channel.refresh(utc_now())
    offer = channel.newest()
    if offer is None:
        return
    assert offer.manifest.version == expected_version
    for file in offer.manifest.files:
        channel.fetch(file, folder / file.name)


def at_every_boundary(
    make: Callable[[str], tuple[Path, str]], act: Callable[[Path, str], None], tmp_path: Path, version: int | None, most: int = 2
) -> None:
    """Kill `act` everywhere, go on, and compare with a run that nobody killed."""
    home, url = make("reference")
    trace = tmp_path / "trace"
    assert killed.run(act, home, url, trace=trace) == 0
    counts = killed.passed(trace)
    covered.update(counts)
    expected = outcome(home, url)
    own = {name: count for name, count in counts.items() if name.startswith("release.")}
    for boundary, number in killed.occurrences(type(counts)(own), most=most):
        name = f"{boundary}-{number}"
        home, url = make(name)
        assert killed.run(act, home, url, kill=boundary, passing=number) == killed.KILLED, name
        assert_sound(home, version, tmp_path / f"device-{name}")
        assert killed.run(act, home, url) == 0, name
        assert outcome(home, url) == expected, name
        shutil.rmtree(home)


@pytest.fixture
def copies(deployment, tmp_path, make_database):
    """Make copies of the deployment in its present state: `copies(prepare)` gives a maker of (home, database URL)."""
    import psycopg

    source = deployment.world.settings
    made: list[str] = []
    template = str(source.database_url)
    base, _, name = template.partition("?")[0].rpartition("/")
    query = template.partition("?")[2]
    suffix = f"?{query}" if query else ""

    def make(label: str) -> tuple[Path, str]:
        deployment.world.catalog.close()
        home = tmp_path / "copies" / label
        for folder in ("store", "channel", "signer"):
            if (source.home / folder).exists():
                shutil.copytree(source.home / folder, home / folder, copy_function=os.link)
        home.mkdir(parents=True, exist_ok=True)
        database = f"k_{abs(hash((label, str(tmp_path)))):x}"
        with psycopg.connect(f"{base}/postgres{suffix}", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {name}")
        made.append(database)
        return home, f"{base}/{database}{suffix}"

    yield make
    with psycopg.connect(f"{base}/postgres{suffix}", autocommit=True) as connection:
        for database in made:
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def test_a_killed_ceremony_goes_on(tmp_path, database_url):
    def make(label: str) -> tuple[Path, str]:
        home = tmp_path / "homes" / label
        home.mkdir(parents=True)
        return home, database_url

    at_every_boundary(make, do_ceremony, tmp_path, None)


def test_a_killed_signer_goes_on(deployment, copies, tmp_path):
    deployment.ask()
    at_every_boundary(copies, do_sign, tmp_path, 1)


def test_a_killed_publication_goes_on(deployment, copies, tmp_path):
    deployment.ask()
    deployment.signer.answer_all()
    deployment.world.store.delete(f"signing/requests/{deployment.release_id}.json")
    at_every_boundary(copies, do_publish, tmp_path, 1)


def test_a_killed_export_goes_on(deployment, copies, tmp_path):
    deployment.sql("DELETE FROM releases")
    at_every_boundary(copies, do_export, tmp_path, None, most=1)


def test_every_boundary_of_releases_was_covered():
    assert {name for name in covered if name.startswith("release.")} == killed.boundaries(*SOURCES)
