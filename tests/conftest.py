"""Real parts for every test: PostgreSQL from a wheel, an S3-speaking server over HTTP, stores, and a whole deployment in a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scanloop.catalog import Catalog
    from scanloop.cli.options import World
    from scanloop.execution import JobRun
    from scanloop.settings import Settings
    from scanloop.store import Store

try:
    import hypothesis
except ModuleNotFoundError:  # Airflow's environment has none, and its tests use none
    pass
else:
    # A loaded machine is slow, not wrong; and CI tries the same examples every time.
    hypothesis.settings.register_profile("scanloop", deadline=None, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("scanloop")

FOLDER_MARKERS = {"unit", "integration", "assurance", "e2e", "dags", "plugins", "helm", "fuzz"}
ROOT = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's marker is the folder it lies in."""
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0] if item.path.is_relative_to(ROOT) else ""
        if folder in FOLDER_MARKERS:
            item.add_marker(folder)


@pytest.fixture(autouse=True)
def _no_deployment_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own SCANLOOP_* variables never reach a test."""
    for name in list(os.environ):
        if name.startswith(("SCANLOOP_", "CLEARML_")) and name != "SCANLOOP_TEST_DATABASE_SERVER":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server_folders() -> Iterator[Callable[[], Path]]:
    """Make the path of a data folder for an embedded PostgreSQL; every server is stopped and its folder removed when the tests end.

    Not under pytest's own folder: as root the server runs as another user, and each pytest that starts closes that folder to other users.
    """
    from harness.servers import stop_at_once

    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="scanloop-test-pg-")) / "data")
        return made[-1]

    yield make
    for folder in made:
        stop_at_once(folder)
        shutil.rmtree(folder.parent)


@pytest.fixture(scope="session")
def postgres_folder(server_folders: Callable[[], Path]) -> Path:
    """A running PostgreSQL server's data folder; stopped when the tests end."""
    import psycopg

    from scanloop.catalog.embedded import serve_embedded

    folder = server_folders()
    with psycopg.connect(serve_embedded(folder, "postgres"), autocommit=True) as connection:
        # What a power cut would lose is not tested on this server, and a process that is killed loses nothing without it.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[arg-type]
        connection.execute("SELECT pg_reload_conf()")
    return folder


@pytest.fixture(scope="session")
def database_template(postgres_folder: Path) -> str:
    """URL of a migrated, empty catalog that databases of tests are copied from."""
    from scanloop.catalog import Catalog
    from scanloop.catalog.embedded import serve_embedded
    from scanloop.catalog.migrate import migrate

    url = serve_embedded(postgres_folder, "template_catalog")
    catalog = Catalog(url)
    migrate(catalog)
    catalog.close()
    return url


@pytest.fixture
def make_database(database_template: str) -> Iterator[Callable[[], str]]:
    """Make a new migrated catalog database and return its URL; all are dropped after the test."""
    import psycopg

    admin = database_template.replace("/template_catalog", "/postgres")
    made: list[str] = []

    def make() -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template_catalog")  # type: ignore[arg-type]
        made.append(name)
        return database_template.replace("/template_catalog", f"/{name}")

    yield make
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """URL of an empty, migrated catalog."""
    return make_database()


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    """An empty, migrated catalog."""
    from scanloop.catalog import Catalog

    catalog = Catalog(database_url)
    yield catalog
    catalog.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    from scanloop.store import open_store

    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A deployment in a folder of its own."""
    from scanloop.settings import Settings

    return Settings(home=tmp_path, database_url=database_url)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a `scanloop` process work on the test's deployment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCANLOOP_", "CLEARML_", "AIRFLOW_"))}
    return kept | {"SCANLOOP_HOME": str(settings.home), "SCANLOOP_DATABASE_URL": settings.database_url, "SCANLOOP_ACTOR": "test"}


@pytest.fixture
def world(settings: Settings, catalog: Catalog) -> World:
    """Settings, store and catalog of the test's deployment."""
    from scanloop.cli.options import World
    from scanloop.store import open_store

    return World(settings, open_store(settings.store_url), catalog)


@pytest.fixture
def run_body(world: World) -> Callable[..., dict[str, object]]:
    """Run a job's body as the command would: `run_body("room.verb", body, run_id=…, product_line=…, lease=…, part=…)`."""
    from scanloop.cli.options import load_definition
    from scanloop.execution import RunIdentity, execute

    def run(
        job: str,
        body: Callable[[JobRun], dict[str, object]],
        *,
        run_id: str = "run-1",
        product_line: str | None = None,
        lease: str | None = None,
        part: str = "",
        attempt: int = 1,
    ) -> dict[str, object]:
        identity = RunIdentity(run_id, job, part, attempt, "test", product_line)
        definition = load_definition(world.catalog, product_line) if product_line else None
        return execute(
            body, identity, settings=world.settings, store=world.store, catalog=world.catalog, definition=definition, lease=lease
        )

    return run


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3-speaking server on this machine, over HTTP."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
            pass

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty S3 store, with credentials in the environment."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"b{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/scanloop?endpoint_url={s3_endpoint}"
