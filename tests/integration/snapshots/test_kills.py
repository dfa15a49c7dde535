"""Making a snapshot and clearing up are killed at every boundary; run again, they come to the same, and no snapshot misses anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import killed
import psycopg
import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of, runner_of

from scanloop.catalog import Catalog
from scanloop.cli.options import World
from scanloop.errors import LeaseHeld, NothingToDo, Superseded
from scanloop.execution import leases
from scanloop.settings import Settings
from scanloop.snapshots.gc import collect_garbage, garbage_of
from scanloop.snapshots.manifest import load_snapshot
from scanloop.snapshots.verify import violations
from scanloop.store import open_store

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "snapshots").glob("*.py"))
BAGS = [f"bag-{number}" for number in range(24)]
covered: set[str] = set()
Place = tuple[Path, str]


def opened(home: Path, url: str) -> World:
    settings = Settings(home=home, database_url=url)
    return World(settings, open_store(settings.store_url), Catalog(url))


def do_create(home: Path, url: str, run_id: str) -> None:
    world = opened(home, url)
    with closing(world.catalog):
        run_job_of(runner_of(world), "snapshot.create", run_id)


def do_gc(home: Path, url: str, run_id: str) -> None:
    world = opened(home, url)
    with closing(world.catalog), suppress(NothingToDo):
        runner_of(world)("snapshot.gc", lambda run: collect_garbage(run, min_age_h=0), run_id=run_id, lease="snapshot-gc")


def let_leases_end(url: str) -> None:
    """What a minute does to the leases of those who were killed."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE leases SET expires_at = now()")


def check_whole(home: Path, url: str) -> list[str]:
    """Verify every snapshot in the catalog; returns their ids in order."""
    world = opened(home, url)
    ids = [row["snapshot_id"] for row in sorted(rows_of(world, "snapshots"), key=lambda row: row["sequence"])]
    for snapshot_id in ids:
        assert list(violations(load_snapshot(world.store, snapshot_id))) == []
    world.catalog.close()
    return ids


def unused(home: Path, url: str) -> list[str]:
    world = opened(home, url)
    found = garbage_of(world.catalog, world.store, min_age_h=0)
    world.catalog.close()
    return [entry.key for entry in found.unused]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, database_template: str) -> Iterator[Callable[[], Place]]:
    """Make copies of a deployment with one snapshot, where a scan was held since and others came."""
    folder = tmp_path_factory.mktemp("base")
    admin, made = database_template.replace("/template_catalog", "/postgres"), []

    def database(template: str) -> str:
        made.append(f"kills_{len(made)}")
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {made[-1]} TEMPLATE {template}")  # type: ignore[arg-type]
        return database_template.replace("/template_catalog", f"/{made[-1]}")

    home, url = folder / "home", database("template_catalog")
    world = opened(home, url)
    run = runner_of(world)
    define(run)
    add_bags(run, world, BAGS)
    label_everything(run, "one")
    made_first = run_job_of(run, "snapshot.create", "snap-1")
    gone = next(iter(load_snapshot(world.store, made_first["snapshot_id"]).records("train"))).scan_id

    def hold(run: Any) -> dict[str, Any]:
        held = {"expect": {"state": "validated"}, "set": {"state": "quarantined"}}
        run.publication.update("scans", key={"scan_id": gone}, **held, action="scan.held")
        return {}

    run("test.hold", hold, run_id="hold")
    add_bags(run, world, [f"new-{number}" for number in range(6)], run_id="ingest-2")
    label_everything(run, "two")
    world.catalog.close()

    def copy() -> Place:
        copied = folder / f"copy-{len(made)}"
        shutil.copytree(home, copied)
        return copied, database(made[0])

    yield copy
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected(base: Callable[[], Place]) -> list[str]:
    """Ids of the snapshots of a deployment that nobody killed."""
    place = base()
    do_create(*place, "snap-2")
    return check_whole(*place)


def test_a_killed_snapshot_goes_on(base: Callable[[], Place], expected: list[str], tmp_path: Path) -> None:
    assert killed.run(do_create, *base(), "snap-2", trace=tmp_path / "trace") == 0
    counts = killed.passed(tmp_path / "trace")
    own = sorted(name for name in counts if name.startswith("snapshot."))
    assert counts["snapshot.before_shard"] > 1
    covered.update(own)
    first = [("snapshot.before_shard", 1)]
    for boundary, passing in [*first, *((name, counts[name]) for name in (*own, "execution.after_receipt", "execution.before_commit"))]:
        place = base()
        assert killed.run(do_create, *place, "snap-2", kill=boundary, passing=passing) == killed.KILLED, boundary
        assert check_whole(*place) == expected[:1]
        assert killed.run(do_create, *place, "snap-2") == 0, boundary
        assert check_whole(*place) == expected, boundary
        assert unused(*place) == [], boundary


def test_killed_clearing_up_goes_on(base: Callable[[], Place], expected: list[str], tmp_path: Path) -> None:
    place = base()
    assert killed.run(do_create, *place, "snap-2", kill="snapshot.after_root") == killed.KILLED
    left = unused(*place)
    assert len(left) > 3
    let_leases_end(place[1])
    assert killed.run(do_gc, *place, "gc-1", trace=tmp_path / "trace") == 0
    counts = killed.passed(tmp_path / "trace")
    assert counts["snapshot.gc_before_delete"] == len(left)
    own = sorted(name for name in counts if name.startswith("snapshot."))
    covered.update(own)
    assert unused(*place) == []
    for boundary, passing in [
        ("snapshot.gc_before_delete", 1),
        ("snapshot.gc_before_delete", len(left)),
        ("snapshot.gc_after_delete", 1),
        ("execution.after_receipt", 1),
    ]:
        place = base()
        assert killed.run(do_create, *place, "snap-2", kill="snapshot.after_root") == killed.KILLED
        let_leases_end(place[1])
        assert killed.run(do_gc, *place, "gc-1", kill=boundary, passing=passing) == killed.KILLED, boundary
        assert check_whole(*place) == expected[:1]
        assert killed.run(do_gc, *place, "gc-1") == 0
        assert unused(*place) == [], boundary
        let_leases_end(place[1])
        # What was thrown away is made again, the same.
        do_create(*place, "snap-2")
        assert check_whole(*place) == expected, boundary


def test_what_a_receipt_names_stays_though_the_catalog_does_not_know_it_yet(base: Callable[[], Place], expected: list[str]) -> None:
    place = base()
    assert killed.run(do_create, *place, "snap-2", kill="execution.after_receipt") == killed.KILLED
    assert check_whole(*place) == expected[:1]
    assert unused(*place) == []
    let_leases_end(place[1])
    do_gc(*place, "gc-1")
    do_create(*place, "snap-2")
    assert check_whole(*place) == expected


def test_a_worker_that_slept_before_its_receipt_never_counts_after_others_cleared_up(
    base: Callable[[], Place], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = base()
    world = opened(*place)
    write = type(world.store).put_if_absent

    def slow(store: Any, key: str, data: bytes, *, owner: str) -> Any:
        if key == "receipts/snap-2/snapshot.create.json":
            monkeypatch.undo()
            let_leases_end(place[1])
            do_gc(*place, "gc-1")
        return write(store, key, data, owner=owner)

    monkeypatch.setattr(type(world.store), "put_if_absent", slow)
    with pytest.raises(LeaseHeld):
        do_create(*place, "snap-2")
    let_leases_end(place[1])
    with pytest.raises(Superseded, match=r"is gone\. Start another run"):
        do_create(*place, "snap-2")
    assert check_whole(*place) == expected[:1]
    do_create(*place, "snap-3")
    assert check_whole(*place) == expected
    world.catalog.close()


def test_nothing_is_deleted_while_a_snapshot_is_made_or_a_product_line_defined(base: Callable[[], Place]) -> None:
    place = base()
    assert killed.run(do_create, *place, "snap-2", kill="snapshot.after_root") == killed.KILLED
    left = unused(*place)
    world = opened(*place)
    for resource in ("cabin/snapshot", "definitions"):
        let_leases_end(place[1])
        held = leases.acquire(world.catalog, resource, "snap-2/snapshot.create")
        with pytest.raises(LeaseHeld):
            do_gc(*place, f"gc-{resource.replace('/', '-')}")
        assert unused(*place) == left
        held.release()
    let_leases_end(place[1])
    do_gc(*place, "gc-3")
    assert unused(*place) == []
    world.catalog.close()


def test_young_objects_and_what_others_keep_there_stay(base: Callable[[], Place]) -> None:
    place = base()
    world = opened(*place)
    world.store.put("snapshots/shards/aa/stray.parquet", b"x")
    found = garbage_of(world.catalog, world.store, min_age_h=1)
    assert (found.unused, found.young) == ((), 1)
    with pytest.raises(NothingToDo, match="1 others are younger than 1 hours"):
        runner_of(world)("snapshot.gc", lambda run: collect_garbage(run, min_age_h=1), run_id="gc-1", lease="snapshot-gc")
    assert unused(*place) == ["snapshots/shards/aa/stray.parquet"]
    before = {entry.key for entry in world.store.list("scans/")}
    do_gc(*place, "gc-2")
    assert {entry.key for entry in world.store.list("scans/")} == before
    world.catalog.close()


def test_every_boundary_of_snapshots_was_covered() -> None:
    assert covered == killed.boundaries(*SOURCES)
