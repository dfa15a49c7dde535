"""The catalog against its record: whoever changes a row past the jobs is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from scanloop.cli.options import World
from scanloop.execution import JobRun
from scanloop.execution.replay import row_violations

RunBody = Callable[..., dict[str, object]]


@pytest.fixture
def recorded(world: World, run_body: RunBody) -> World:
    """A deployment after a run that adds and one that changes."""

    def add(run: JobRun) -> dict[str, object]:
        rows = [{"site_id": name, "name": name} for name in "abc"]
        run.publication.insert("sites", rows, action="site.added", subject="site_id")
        return {}

    def rename(run: JobRun) -> dict[str, object]:
        run.publication.update("sites", key={"site_id": "b"}, expect={"name": "b"}, set={"name": "B"}, action="site.renamed")
        return {}

    run_body("test.add", add, run_id="run-1")
    run_body("test.rename", rename, run_id="run-2")
    return world


def test_what_jobs_did_is_as_recorded_and_nothing_is_left_behind(recorded: World) -> None:
    seen: list[tuple[int, int]] = []
    assert list(row_violations(recorded.catalog, recorded.store, lambda *told: seen.append(told))) == []
    assert list(row_violations(recorded.catalog, recorded.store)) == []
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE sites SET name = 'b' WHERE site_id = 'b'", ["sites b was changed behind the record's back."]),
        ("UPDATE sites SET run_id = 'run-2' WHERE site_id = 'a'", ["sites a was changed behind the record's back."]),
        ("DELETE FROM sites WHERE site_id = 'c'", ["sites c was put into the catalog and is gone."]),
        ("INSERT INTO sites (site_id, name, run_id) VALUES ('d', 'd', 'run-2')", ["sites d is in the catalog, and no run put it there."]),
    ],
)
def test_a_row_changed_past_the_jobs_is_named(recorded: World, statement: str, said: list[str]) -> None:
    with recorded.catalog.begin() as connection:
        connection.execute(sa.text(statement))
    assert list(row_violations(recorded.catalog, recorded.store)) == said


def test_a_forged_publication_is_named(recorded: World) -> None:
    keys = [stored.key for stored in recorded.store.list("publications/")]
    with recorded.catalog.read() as connection:
        assert len(keys) == connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one()
    content = recorded.store.get(keys[0])
    recorded.store.put(keys[0], recorded.store.get(keys[1]))
    assert any("is not the publication that the receipt" in said for said in row_violations(recorded.catalog, recorded.store))
    recorded.store.put(keys[0], content)
    assert list(row_violations(recorded.catalog, recorded.store)) == []
