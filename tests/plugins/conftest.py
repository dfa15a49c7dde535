"""A jobs environment whose `scanloop` does what a scenario says, and a catalog that Airflow's environment can reach."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import airflow_here
import pytest

FAKE = Path(__file__).with_name("fake_scanloop.py")
JOBS_PYTHON = airflow_here.ROOT / ".venv" / "jobs" / "bin" / "python"


class FakeJobs:
    """The fake command of one test: what it shall do, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executable = folder / "scanloop"
        self.executable.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
        self.executable.chmod(self.executable.stat().st_mode | stat.S_IXUSR)

    def scenario(self, **acts: list[dict[str, Any]]) -> None:
        """`model_train=[{"exit": 75}, {}]`: what the job does in its first and in every later attempt."""
        named = {name.replace("_", ".", 1): act for name, act in acts.items()}
        (self.folder / "scenario.json").write_text(json.dumps(named))

    def calls(self) -> list[dict[str, Any]]:
        """Every call so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def fake_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """The jobs environment of a test, named in this process's environment as it is in Airflow's."""
    monkeypatch.setenv("SCANLOOP_JOBS_BIN", str(tmp_path / "scanloop"))
    monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCANLOOP_SCENARIO", str(tmp_path / "scenario.json"))
    monkeypatch.setenv("SCANLOOP_CALLS", str(tmp_path / "calls.jsonl"))
    return FakeJobs(tmp_path)


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Whether a process lives, zombies apart."""
    import psutil

    def alive(pid: int) -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    return alive


def _in_jobs_environment(program: str, *arguments: str) -> str:
    done = subprocess.run([str(JOBS_PYTHON), "-W", "ignore", "-c", program, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


@pytest.fixture(scope="session")
def postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """PostgreSQL's data folder. The server is of the jobs environment: Airflow's has none."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="pg-")) / "data"
    program = "import sys; from pathlib import Path; from scanloop.catalog.embedded import {0}; print({0}(Path(sys.argv[1])))"
    _in_jobs_environment(program.format("serve_embedded"), str(folder))
    yield folder
    _in_jobs_environment(program.format("stop_embedded"), str(folder))
    shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def database_template(postgres_folder: Path) -> str:
    """URL of a migrated, empty catalog that databases of tests are copied from."""
    program = (
        "import sys; from pathlib import Path; from scanloop.catalog import Catalog; from scanloop.catalog.migrate import migrate\n"
        "from scanloop.catalog.embedded import serve_embedded\n"
        "url = serve_embedded(Path(sys.argv[1]), 'template_catalog'); catalog = Catalog(url); migrate(catalog); catalog.close(); print(url)"
    )
    return _in_jobs_environment(program, str(postgres_folder))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Iterator[Any]:
    """A Kubernetes cluster, named in this process's environment as it is in Airflow's."""
    from kubernetes_api.cluster import NAMESPACE, Cluster
    from kubernetes_api.server import kubeconfig, serve

    monkeypatch.setattr("scanloop_plugin.pods.api.PAUSES_S", (0.01, 0.01, 0.01))
    found = Cluster()
    with serve(found) as address:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(kubeconfig(address))}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("SCANLOOP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("SCANLOOP_RUNNER", "kubernetes")
        monkeypatch.setenv("SCANLOOP_KUBERNETES_NAMESPACE", NAMESPACE)
        monkeypatch.setenv("SCANLOOP_DATABASE_URL", database_url)
        for image in ("jobs", "train"):
            monkeypatch.setenv(f"SCANLOOP_IMAGE_{image.upper()}", f"registry.example/scanloop-{image}@sha256:{'0' * 64}")
        yield found


@pytest.fixture
def database_url(postgres_folder: Path, database_template: str) -> Iterator[str]:
    """URL of a migrated, empty catalog of the test's own."""
    import uuid

    import sqlalchemy as sa

    url = sa.make_url(database_template.replace("postgresql://", "postgresql+psycopg://"))
    name = f"t_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {url.database}"))
    yield url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
