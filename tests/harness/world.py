"""A deployment in a folder that can be saved, broken and brought back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from harness.ledger import Ledger
from harness.zygote import Done
from scanloop.catalog import Catalog
from scanloop.cli.options import World as Opened
from scanloop.settings import Settings, read_settings
from scanloop.store import open_store

OF_THE_ATTEMPT = {"model.train": "seconds", "ingest.acknowledge": "acknowledged"}
"""Job → what its result says of the attempt itself: how long it took, how much was left to do. No two attempts need to agree on it."""
Run = Callable[[list[str], dict[str, str], Path], Done]
STORES = ("store", "landing", "truth", "channel")
"""Folders whose files are only ever replaced, never written into: a copy may share them."""


@dataclass
class World:
    """Settings, database, folders, the results of what ran so far, and the ledger of what was delivered."""

    folder: Path
    """Where it lies. The deployment's home is `home` in it."""
    template_url: str
    """URL of a migrated, empty database on the server it uses."""
    run_command: Run
    """Runs one `scanloop` command in a process."""
    name: str = field(default_factory=lambda: f"world_{uuid4().hex[:10]}")
    ledger: Ledger = field(default_factory=Ledger)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _saved: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _source: str = ""
    """Name of the world whose saved states these are; empty: its own."""

    @property
    def home(self) -> Path:
        """SCANLOOP_HOME."""
        return self.folder / "home"

    @property
    def database_url(self) -> str:
        """SCANLOOP_DATABASE_URL."""
        return self.template_url.replace("/template_catalog", f"/{self.name}")

    def create(self) -> World:
        """Make the empty deployment."""
        self.home.mkdir(parents=True)
        self._copy_database("template_catalog", self.name)
        return self

    def settings(self) -> Settings:
        """As the deployment's processes read them."""
        return read_settings(home=self.home, database_url=self.database_url)

    def environment(self, **changes: str) -> dict[str, str]:
        """Environment of the deployment's processes."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCANLOOP_", "CLEARML_", "AIRFLOW_"))}
        ours = {"SCANLOOP_HOME": str(self.home), "SCANLOOP_DATABASE_URL": self.database_url, "SCANLOOP_ACTOR": "assurance"}
        return kept | ours | {"TMPDIR": str(self.folder / "tmp"), "NO_COLOR": "1", "SCANLOOP_PROGRESS": "log"} | changes

    def run(self, arguments: list[str], *, kill: str = "", trace: Path | None = None) -> Done:
        """Run one command; `kill` names a boundary and its passing as `name:n`."""
        changes = {"SCANLOOP_STEP_KILL": kill} if kill else {}
        if trace is not None:
            changes["SCANLOOP_STEP_TRACE"] = str(trace)
        return self.run_command(arguments, self.environment(**changes), self.folder / "output")

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """Settings, store and catalog, to look at."""
        settings = self.settings()
        catalog = Catalog(self.database_url)
        try:
            yield Opened(settings, open_store(settings.store_url), catalog)
        finally:
            catalog.close()

    def dump(self) -> list[str]:
        """The catalog in canonical form."""
        from scanloop.catalog.canonical import canonical_lines

        with self.open() as opened:
            return [_without_effort(line) for line in canonical_lines(opened.catalog)]

    def save(self, name: str) -> None:
        """Keep the deployment as it is now under `name`."""
        self._copy_database(self.name, f"{self.name}_{name}")
        _copy_home(self.home, self.folder / "saved" / name)
        self._saved[name] = dict(self.results)

    def restore(self, name: str) -> None:
        """Make the deployment what it was when it was saved."""
        self._admin(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self._copy_database(f"{self._source or self.name}_{name}", self.name)
        for folder in (self.home, self.folder / "tmp"):
            shutil.rmtree(folder, ignore_errors=True)
        _copy_home(self.folder / "saved" / name, self.home)
        self.results = dict(self._saved[name])

    def twin(self, folder: Path, run_command: Run) -> World:
        """Another world that can be restored to whatever this one saved, on the same server, in another folder."""
        folder.mkdir(parents=True)
        shutil.copytree(self.folder / "product_lines", folder / "product_lines")
        (folder / "saved").symlink_to(self.folder / "saved")
        twin = World(folder, self.template_url, run_command, ledger=self.ledger)
        twin._saved = self._saved
        twin._source = self._source or self.name
        return twin

    def forget(self, name: str) -> None:
        """Drop what was saved under `name`."""
        self._admin(f"DROP DATABASE IF EXISTS {self.name}_{name} WITH (FORCE)")
        shutil.rmtree(self.folder / "saved" / name)
        del self._saved[name]

    def destroy(self) -> None:
        """Remove everything that is its own."""
        for name in [] if self._source else list(self._saved):
            self.forget(name)
        self._admin(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        shutil.rmtree(self.folder)

    def tamper(self, *statements: str) -> None:
        """Change the database as its owner could, with every trigger and foreign key off."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def _copy_database(self, source: str, target: str) -> None:
        self._admin(f"CREATE DATABASE {target} TEMPLATE {source} STRATEGY = FILE_COPY")

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self.template_url.replace("/template_catalog", "/postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def _without_effort(line: str) -> str:
    row = json.loads(line)
    if row["table"] == "runs":
        row["result"].pop(OF_THE_ATTEMPT.get(row["job"], ""), None)
    return json.dumps(row, sort_keys=True)


def _copy_home(source: Path, target: Path) -> None:
    """Copy a home folder; the files of its stores are shared (so that their etags stay), all others are copied."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        how = "-al" if entry.name in STORES else "-a"
        subprocess.run(["cp", how, str(entry), str(target / entry.name)], check=True)
