"""An import is killed at every boundary of its own and at those it shares; run again, the catalog is that of an import that nobody killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import killed
import pytest
import research_sets as sets
from small_world import define, rows_of

from scanloop.cli.options import World
from scanloop.settings import Settings
from scanloop.store import open_store

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "imports").glob("*.py"))
SHARED = ("intake.after_planes", "execution.after_receipt")
covered: set[str] = set()


def do_import(home: Path, database_url: str, folder: Path, run_id: str) -> None:
    from scanloop.catalog import Catalog
    from scanloop.cli.options import load_definition
    from scanloop.execution import RunIdentity, execute_in_chunks
    from scanloop.imports import run as run_module
    from scanloop.imports.mapping import CategoryMapping
    from scanloop.imports.presets import preset_named
    from scanloop.imports.source import source_of

    run_module.CHUNK = 2
    settings = Settings(home=home, database_url=database_url)
    catalog = Catalog(database_url)
    mapping = CategoryMapping({"Hammer": None, "Scissors": None})
    source = source_of(preset_named("pidray"), folder, dataset=None, mapping=mapping, splits=())
    body, total = run_module.import_job(source)
    identity = RunIdentity(run_id, run_module.JOB, source.dataset, 1, "test", "cabin")
    store, definition = open_store(settings.store_url), load_definition(catalog, "cabin")
    execute_in_chunks(
        body, total, identity, settings=settings, store=store, catalog=catalog, definition=definition, lease="cabin/import/pidray"
    )
    catalog.close()


def dump(database_url: str, settings: Settings) -> dict[str, Any]:
    from scanloop.catalog import Catalog

    world = World(settings, open_store(settings.store_url), Catalog(database_url))
    names = ("sites", "scanners", "bags", "scans", "deliveries", "quarantine", "annotations", "runs")
    found = {
        name: [
            {column: value for column, value in row.items() if column not in ("created_at", "finished_at", "receipt_sha256")}
            for row in rows_of(world, name)
            if name != "runs" or row["job"] == "import.run"
        ]
        for name in names
    }
    world.catalog.close()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set with something odd in it, so that there are problems to write down; three images make two chunks."""
    root = sets.pidray(tmp_path / "set", splits=("train",))
    (root / "train" / "xray_00001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture
def places(tmp_path: Path, make_database: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a deployment of its own with a product line; `places(name)` returns its home and its database."""

    def make(name: str) -> tuple[Path, str]:
        from small_world import runner_of

        from scanloop.catalog import Catalog

        home, url = tmp_path / name, make_database()
        settings = Settings(home=home, database_url=url)
        world = World(settings, open_store(settings.store_url), Catalog(url))
        define(runner_of(world))
        world.catalog.close()
        return home, url

    return make


def test_a_killed_import_goes_on(places: Any, folder: Path, tmp_path: Path) -> None:
    home, url = places("reference")
    assert killed.run(do_import, home, url, folder, "import-1", trace=tmp_path / "trace") == 0
    expected = dump(url, Settings(home=home, database_url=url))
    counts = killed.passed(tmp_path / "trace")
    own = sorted(name for name in counts if name.startswith("imports."))
    covered.update(own)
    first = [(name, 1) for name in ("imports.after_raw", "execution.before_commit")]
    for number, (boundary, passing) in enumerate([*first, *((name, counts[name]) for name in (*own, *SHARED))]):
        home, url = places(f"killed-{number}")
        assert killed.run(do_import, home, url, folder, "import-1", kill=boundary, passing=passing) == killed.KILLED, boundary
        assert killed.run(do_import, home, url, folder, "import-1") == 0, boundary
        assert dump(url, Settings(home=home, database_url=url)) == expected, (boundary, passing)


def test_every_boundary_of_imports_was_covered() -> None:
    assert covered == killed.boundaries(*SOURCES)
