"""The sync is killed at every boundary; run again, the server ends as if nobody had killed it: nothing is there twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed
import pytest
import sqlalchemy as sa
from small_world import runner_of
from tracked_world import begin_of, mark, tracked_line

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "tracking").glob("*.py"))
DATASETS = {name for name in killed.boundaries(*SOURCES) if "dataset" in name}
covered: set[str] = set()


def do_sync(home: Path, database_url: str, server: dict[str, str], run_id: str) -> None:
    from scanloop.catalog import Catalog
    from scanloop.cli.options import World
    from scanloop.settings import Settings
    from scanloop.store import open_store
    from scanloop.tracking.sync import sync_tracking

    os.environ.update(server)
    settings = Settings(home=home, database_url=database_url)
    world = World(settings, open_store(settings.store_url), Catalog(database_url))
    runner_of(world)("tracking.sync", lambda run: sync_tracking(run, 0), run_id=run_id, lease="tracking")
    world.catalog.close()


@pytest.fixture
def again(clearml, world, run_body, told_datasets) -> Callable[..., None]:
    """Empty the server and what is noted of it; one experiment's run is dead."""
    tracked_line(run_body, world)
    begins = [world.store.get(stored.key) for stored in world.store.list("tracking/open/")]

    def prepare(*, with_datasets: bool) -> None:
        clearml.reset()
        with world.catalog.begin() as connection:
            connection.execute(sa.text("DELETE FROM tracked"))
        for content in begins:
            mark(world, json.loads(content))
        mark(world, begin_of("dead"))
        if not with_datasets:
            told_datasets()

    return prepare


def kill_everywhere(again: Any, clearml: Any, world: Any, tmp_path: Path, only: Callable[[str], bool], *, with_datasets: bool) -> None:
    where = (world.settings.home, world.settings.database_url, clearml.environment())
    again(with_datasets=with_datasets)
    assert killed.run(do_sync, *where, "reference", trace=tmp_path / "trace") == 0
    expected = clearml.state.outline()
    own = sorted(name for name in killed.passed(tmp_path / "trace") if name.startswith("tracking.") and only(name))
    covered.update(own)
    for number, boundary in enumerate(own):
        again(with_datasets=with_datasets)
        assert killed.run(do_sync, *where, f"killed-{number}", kill=boundary) == killed.KILLED, boundary
        if with_datasets:  # the SDK's threads must not be in this process when it forks
            assert killed.run(do_sync, *where, f"killed-{number}") == 0, boundary
        else:
            do_sync(*where, f"killed-{number}")
        assert clearml.state.outline() == expected, boundary
        assert list(world.store.list("tracking/open/")) == [], boundary


def test_a_killed_sync_goes_on(again, clearml, world, tmp_path):
    kill_everywhere(again, clearml, world, tmp_path, lambda name: name not in DATASETS, with_datasets=False)


def test_a_killed_sync_makes_no_dataset_twice(again, clearml, world, tmp_path):
    kill_everywhere(again, clearml, world, tmp_path, DATASETS.__contains__, with_datasets=True)


def test_every_boundary_of_tracking_was_covered():
    assert covered == killed.boundaries(*SOURCES)
