"""Models of known skill, evaluated on one snapshot: made once, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from judged_world import GOOD, POOR, Skill, add_judged_model, make_snapshot
from small_world import runner_of

from scanloop.catalog import Catalog
from scanloop.cli.options import World
from scanloop.settings import Settings
from scanloop.store import open_store


@dataclass(frozen=True)
class Judged:
    """What the copied deployment holds."""

    snapshot: str
    """The snapshot's id."""
    models: dict[str, str]
    """Model ids by name: `poor`, `good`, `alike` (as good as `good`) and `bad`."""

    def __getattr__(self, name: str) -> str:
        return self.models[name]


SKILLS = {"poor": POOR, "good": GOOD, "alike": GOOD, "bad": Skill(hit=-3.0, false_score=-2.0, jitter=0.3)}
TEMPLATE = "template_judged"


@pytest.fixture(scope="session")
def judged_template(database_template: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Judged]:
    """Home folder and contents of the deployment that tests get a copy of; its database is the template."""
    home = tmp_path_factory.mktemp("judged")
    with psycopg.connect(database_template.replace("/template_catalog", "/postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template_catalog")  # type: ignore[arg-type]
    settings = Settings(home=home, database_url=database_template.replace("/template_catalog", f"/{TEMPLATE}"))
    catalog = Catalog(settings.database_url)
    world = World(settings, open_store(settings.store_url), catalog)
    run_body = runner_of(world)
    snapshot = make_snapshot(run_body, world)
    models = {name: add_judged_model(run_body, world, snapshot, name, skill, 1 + 10 * n) for n, (name, skill) in enumerate(SKILLS.items())}
    catalog.close()
    return home, Judged(snapshot, models)


@pytest.fixture
def database_url(judged_template: tuple[Path, Judged], database_template: str, tmp_path: Path) -> Iterator[str]:
    """URL of a copy of the template's database; its files are copied to the test's own folder."""
    shutil.copytree(judged_template[0] / "store", tmp_path / "store")
    admin, name = database_template.replace("/template_catalog", "/postgres"), f"j_{abs(hash(str(tmp_path))):x}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")  # type: ignore[arg-type]
    yield database_template.replace("/template_catalog", f"/{name}")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def judged(judged_template: tuple[Path, Judged], database_url: str) -> Judged:
    """What the test's deployment holds."""
    return judged_template[1]
