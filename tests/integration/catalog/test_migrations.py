"""Migrations: the schema of the code is the schema of the database, whatever happened on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from scanloop.catalog import Catalog
from scanloop.catalog.migrate import HEAD, MIGRATIONS, check_current, current, migrate
from scanloop.catalog.tables import APPEND_ONLY, metadata
from scanloop.errors import CatalogTooNew, CatalogUnavailable


@pytest.fixture
def empty(make_database: Callable[[], str]) -> Iterator[Catalog]:
    """A database without any table."""
    catalog = Catalog(make_database())
    with catalog.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    yield catalog
    catalog.close()


def test_the_head_that_jobs_compare_with_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_migrated_database_is_what_the_tables_say(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        checks = {
            row.conname
            for row in connection.execute(
                sa.text("SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace")
            )
        }
    assert checks == {str(check.name) for table in metadata.tables.values() for check in _checks(table)}


def _checks(table: sa.Table) -> Iterator[sa.CheckConstraint]:
    for constraint in table.constraints:
        if isinstance(constraint, sa.CheckConstraint):
            yield constraint


def test_the_states_that_the_database_allows_are_those_of_the_tables(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
            )
        )
        found = {name: set(_quoted(definition)) for name, definition in rows}
    for table in metadata.tables.values():
        for check in _checks(table):
            assert found[str(check.name)] == set(_quoted(str(check.sqltext))), check.name


def _quoted(text: str) -> list[str]:
    return text.split("'")[1::2]


def test_migrating_twice_changes_nothing(empty: Catalog) -> None:
    assert current(empty) is None
    assert migrate(empty) == HEAD
    assert migrate(empty) == HEAD
    check_current(empty)


def test_an_empty_or_older_database_is_not_worked_on(empty: Catalog) -> None:
    with pytest.raises(CatalogUnavailable, match=f"at revision none, expected {HEAD}. Run: scanloop catalog migrate"):
        check_current(empty)


def test_a_newer_database_is_refused_and_left_alone(catalog: Catalog) -> None:
    with catalog.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (check_current, migrate):
        with pytest.raises(CatalogTooNew, match="at revision 9999, newer than this Scanloop knows"):
            act(catalog)
    assert current(catalog) == "9999"


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from scanloop.catalog import Catalog
from scanloop.catalog.migrate import migrate
catalog, left = Catalog(sys.argv[1]), int(sys.argv[2])
@sa.event.listens_for(catalog.engine, "before_cursor_execute")
def count(connection, cursor, statement, *rest):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
migrate(catalog)
print("statements left:", left)
"""


def _migrate_until(url: str, statement: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", KILLED, url, str(statement)], capture_output=True, text=True, check=False)


def test_a_migration_killed_at_a_statement_is_finished_by_the_next(empty: Catalog) -> None:
    whole = 10_000
    url = empty.url.render_as_string(hide_password=False)
    killed = [1, 2, 5, 11, 29, 61]
    for statement in killed:
        assert _migrate_until(url, statement).returncode == -signal.SIGKILL
        assert current(empty) is None
    finished = _migrate_until(url, whole)
    assert finished.returncode == 0, finished.stderr
    assert whole - int(finished.stdout.split()[-1]) > max(killed)
    assert current(empty) == HEAD
    with empty.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(sa.text("SELECT count(*) FROM audit_head")).scalar_one() == 1


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["UPDATE {} SET run_id = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_what_is_append_only_cannot_be_changed(catalog: Catalog, table: str, change: str) -> None:
    with psycopg.connect(catalog.url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # rows without the rows they point at
        columns = {
            name: _any(column) for name, column in metadata.tables[table].c.items() if not column.nullable and not column.server_default
        }
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(columns.values()))  # type: ignore[arg-type]
        connection.execute("SET session_replication_role = origin")
        with pytest.raises(psycopg.errors.IntegrityError, match=f"{table} is append-only|is append-only"):
            connection.execute(change.format(table))  # type: ignore[arg-type]
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)  # type: ignore[arg-type]


def _any(column: sa.Column[object]) -> object:
    """A value that the column takes."""
    allowed = [_quoted(str(check.sqltext)) for check in _checks(column.table) if str(check.name).endswith(f"_{column.name}")]
    if allowed:
        return allowed[0][0]
    by_type = {sa.Text: "x", sa.Boolean: True, sa.Float: 0.5, sa.DateTime: "2026-01-01T00:00:00Z"}
    return next((value for kind, value in by_type.items() if isinstance(column.type, kind)), 1)


def test_a_killed_first_start_of_the_embedded_server_is_repaired(server_folders: Callable[[], Path]) -> None:
    from scanloop.catalog.embedded import serve_embedded

    folder = server_folders()
    folder.mkdir()
    # What initdb leaves when it is killed: a data folder that names its version and can never start.
    (folder / "PG_VERSION").write_text("18\n")
    (folder / "global").mkdir()
    url = serve_embedded(folder)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (folder.parent / "data.unfinished" / "PG_VERSION").exists()
    assert serve_embedded(folder) == url


def test_a_server_that_held_something_is_never_started_anew(tmp_path: Path) -> None:
    from scanloop.catalog.embedded import READY, serve_embedded

    folder = tmp_path / "postgres"
    folder.mkdir()
    for name in ("PG_VERSION", READY, "what it held"):
        (folder / name).write_text("18\n")
    with pytest.raises(CatalogUnavailable, match="does not start"):
        serve_embedded(folder)
    assert (folder / "what it held").exists()
    assert not (tmp_path / "postgres.unfinished").exists()


def test_many_first_starts_at_once_make_one_server(server_folders: Callable[[], Path]) -> None:
    from scanloop.catalog.embedded import stop_embedded

    script = "import sys; from pathlib import Path; from scanloop.catalog.embedded import serve_embedded; print(serve_embedded(Path(sys.argv[1])))"
    folder = server_folders()
    command = [sys.executable, "-c", script, str(folder)]
    starting = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    urls = {process.communicate(timeout=120)[0].strip() for process in starting}
    assert len(urls) == 1
    assert urls.pop().startswith("postgresql://")
    stop_embedded(folder)
    assert not (folder / "postmaster.pid").exists()


def test_a_killed_server_is_started_again_whatever_has_its_number_now(server_folders: Callable[[], Path]) -> None:
    from scanloop.catalog.embedded import serve_embedded, stop_embedded

    folder = server_folders()
    url = serve_embedded(folder)
    psutil.Process(int((folder / "postmaster.pid").read_text().split()[0])).kill()
    assert serve_embedded(folder) == url, "the killed one may be a zombie for a while"
    lines = (folder / "postmaster.pid").read_text().splitlines()
    assert stop_embedded(folder)
    assert not stop_embedded(folder)
    (folder / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not stop_embedded(folder), "this process only has the number"
    assert serve_embedded(folder) == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    stop_embedded(folder)


def test_a_server_is_not_taken_for_dead_from_behind_a_fence(server_folders: Callable[[], Path], tmp_path: Path) -> None:
    """A fenced process may not see where processes outside work."""
    from scanloop.catalog.embedded import serve_embedded, stop_embedded

    folder = server_folders()
    url = serve_embedded(folder)
    pid = (folder / "postmaster.pid").read_text().split()[0]
    script = "import sys; from pathlib import Path; from scanloop.catalog.embedded import serve_embedded; print(serve_embedded(Path(sys.argv[1])))"
    fence = [sys.executable, "-m", "scanloop.release.protect", "--deny", str(tmp_path), "--"]
    for _ in range(2):
        done = subprocess.run([*fence, sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == url, done.stderr
        assert (folder / "postmaster.pid").read_text().split()[0] == pid
    assert stop_embedded(folder)
