"""A deployment with a champion and an exported release, made once a session and copied for each test; and channels without a deployment."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from release_world import Channel, seed_champion, shared_bundle

if TYPE_CHECKING:
    from scanloop.cli.options import World
    from scanloop.release.signer import Signer


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one bundle; nobody changes them."""
    return shared_bundle(tmp_path_factory)


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """A signer with its channel, and no release yet."""
    return Channel(tmp_path / "made")


def world_in(home: Path, database_url: str) -> World:
    from scanloop.catalog import Catalog
    from scanloop.cli.options import World
    from scanloop.settings import Settings
    from scanloop.store import open_store

    settings = Settings(home=home, database_url=database_url)
    return World(settings, open_store(settings.store_url), Catalog(database_url))


def runner(world: World) -> Callable[..., dict[str, Any]]:
    """As the fixture `run_body`, for any world."""
    from scanloop.cli.options import load_definition
    from scanloop.execution import RunIdentity, execute

    def run(job: str, body: Any, *, run_id: str = "run-1", product_line: str | None = None, lease: str | None = None) -> dict[str, Any]:
        identity = RunIdentity(run_id, job, "", 1, "test", product_line)
        definition = load_definition(world.catalog, product_line) if product_line else None
        return execute(
            body, identity, settings=world.settings, store=world.store, catalog=world.catalog, definition=definition, lease=lease
        )

    return run


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, database_template: str) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """A deployment's folder, its database's URL, and the result of its export."""
    import psycopg
    from small_world import add_bags, define, label_everything, run_job_of

    from scanloop.release.export import export_release

    home = tmp_path_factory.mktemp("exported")
    name = f"template_release_{uuid.uuid4().hex[:8]}"
    admin = database_template.replace("/template_catalog", "/postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_catalog")  # type: ignore[arg-type]
    url = database_template.replace("/template_catalog", f"/{name}")
    world = world_in(home, url)
    with closing(world.catalog):
        run = runner(world)
        define(run, training={"size_px": 64})
        add_bags(run, world, [f"bag-{number}" for number in range(60)], views=("top",))
        label_everything(run, "one")
        run_job_of(run, "snapshot.create", "snap-1")
        seed_champion(run, world)
        result = run(
            "release.export", lambda job: export_release(job, "cabin"), run_id="one-export", product_line="cabin", lease="cabin/release"
        )
    yield home, url, result
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]


@dataclass
class Deployment:
    """One test's own copy of the deployment, with a signer."""

    world: World
    run: Callable[..., dict[str, Any]]
    exported: dict[str, Any]
    signer: Signer

    @property
    def release_id(self) -> str:
        return str(self.exported["release_id"])

    def ask(self, release_id: str | None = None, **changes: Any) -> None:
        """Put the request for a release into the store, as the publishing job does, or changed."""
        from dataclasses import replace

        from small_world import rows_of

        from scanloop.release.requests import SigningRequest, request_key

        row = rows_of(self.world, "releases", release_id=release_id or self.release_id)[0]
        names = ("release_id", "product_line", "channel", "version", "model_id", "bundle_key", "bundle_sha256")
        request = replace(SigningRequest(**{name: row[name] for name in names}, export_run_id=row["run_id"]), **changes)
        self.world.store.put(request_key(row["release_id"]), request.to_bytes())

    def publish(self, *, run_id: str = "publish", wait_s: float = 0.0, release_id: str | None = None) -> dict[str, Any]:
        from scanloop.release.publish import publish_release

        wanted = release_id or self.release_id
        return self.run(
            "release.publish",
            lambda job: publish_release(job, "cabin", wanted, wait_s=wait_s),
            run_id=run_id,
            product_line="cabin",
            lease="cabin/release",
        )

    def export(self, run_id: str) -> dict[str, Any]:
        from scanloop.release.export import export_release

        return self.run(
            "release.export", lambda job: export_release(job, "cabin"), run_id=run_id, product_line="cabin", lease="cabin/release"
        )

    def sql(self, statement: str, **values: Any) -> None:
        """What somebody who can write the database does to it, around every guard."""
        import sqlalchemy as sa

        with self.world.catalog.begin() as connection:
            connection.execute(sa.text("SET session_replication_role = replica"))
            connection.execute(sa.text(statement), values)


@pytest.fixture
def deployment(exported: tuple[Path, str, dict[str, Any]], tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with a champion, a requested release, and a signer that has held its ceremony."""
    import psycopg

    from scanloop.release.ceremony import hold_ceremony
    from scanloop.release.keys import open_keys
    from scanloop.release.signer import Signer, utc_now
    from scanloop.store import open_store

    home, template_url, result = exported
    shutil.copytree(home / "store", tmp_path / "store", copy_function=os.link)  # a store replaces files, it never writes into them
    base, _, template = template_url.partition("?")[0].rpartition("/")
    name, query = f"r_{uuid.uuid4().hex[:12]}", template_url.partition("?")[2]
    admin = f"{base}/postgres" + (f"?{query}" if query else "")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
    world = world_in(tmp_path, f"{base}/{name}" + (f"?{query}" if query else ""))
    keys = open_keys(tmp_path / "signer", None, make=True)
    published = open_store(world.settings.channel_url)
    hold_ceremony(keys, published, ["cabin"], utc_now())
    with closing(world.catalog):
        yield Deployment(world, runner(world), result, Signer(keys, world.store, published, world.catalog))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
