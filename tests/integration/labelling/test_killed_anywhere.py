"""Choosing, labelling, reviewing and freezing, killed at every boundary and run again, end where an undisturbed history ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_world import add_bags, canonical_dump, define, die_at, rows_of, run_job_of, runner_of, traced

import scanloop
from scanloop.catalog import Catalog, audit
from scanloop.cli.options import World
from scanloop.settings import Settings
from scanloop.store import open_store

BAGS = [f"bag-{number}" for number in range(16)]
ROOMS = ("curation", "labelling", "review", "snapshots", "execution")
BOUNDARIES = {
    name
    for room in ROOMS
    for path in (Path(scanloop.__file__).parent / room).glob("*.py")
    for name in re.findall(r'\bstep\("([^"]+)"\)', path.read_text())
} - {"snapshot.before_past", "snapshot.gc_before_delete", "snapshot.gc_after_delete"}  # integration/snapshots/test_kills.py
HISTORY = [
    ("selection.create", "1-select"),
    ("labelling.push", "1-push"),
    ("labelling.pull", "1-pull"),
    ("review.run", "1-review"),
    ("labelling.push", "2-push"),
    ("labelling.pull", "2-pull"),
    ("review.run", "2-review"),
    ("snapshot.create", "2-snapshot"),
]


@pytest.fixture
def make_world(make_database, tmp_path):
    made = []

    def make(name):
        settings = Settings(home=tmp_path / name, database_url=make_database(), labelling_url="simulated:?miss=.15&swap=.1&seed=4")
        made.append(World(settings, open_store(settings.store_url), Catalog(settings.database_url)))
        define(runner_of(made[-1]))
        add_bags(runner_of(made[-1]), made[-1], BAGS)
        return made[-1]

    yield make
    for world in made:
        world.catalog.close()


def test_killed_at_every_boundary_it_converges(make_world, tmp_path):
    quiet, disturbed = make_world("quiet"), make_world("disturbed")
    died = set()
    for job, run_id in HISTORY:
        expected, passed = traced(lambda job=job, run_id=run_id: run_job_of(runner_of(quiet), job, run_id), tmp_path / run_id)
        for boundary in passed:
            if boundary in died and boundary.startswith("execution."):
                continue  # the same code for every job
            assert die_at(disturbed, boundary, lambda job=job, run_id=run_id: run_job_of(runner_of(disturbed), job, run_id)), boundary
            died.add(boundary)
        assert run_job_of(runner_of(disturbed), job, run_id) == expected
    assert died == BOUNDARIES, "a boundary was never reached"
    assert canonical_dump(disturbed) == canonical_dump(quiet)
    assert len(rows_of(disturbed, "labelling_tasks", round=2)) > 0, "nothing came back, so the second round was not tried"
    with disturbed.catalog.read() as connection:
        assert list(audit.violations(connection)) == []
    assert [entry.key for entry in disturbed.store.list("labelling-sim/")] == [entry.key for entry in quiet.store.list("labelling-sim/")]
