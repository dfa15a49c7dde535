"""Bring a database to the schema that this version of Scanloop knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from scanloop.catalog.connection import Catalog
from scanloop.errors import CatalogTooNew, CatalogUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0007"
"""The newest revision, named here so that a job can compare without loading the migrations; a test keeps it true."""
_LOCK = 0x5CA17000
"""Advisory lock that one migration at a time holds."""


def _config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def current(catalog: Catalog) -> str | None:
    """The revision that the database is at; None for an empty one."""
    with catalog.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(catalog: Catalog) -> str:
    """Apply every missing migration, one process at a time; safe to kill and run again. Returns the revision.

    Raises:
        CatalogTooNew: the database was migrated by a newer Scanloop.
        CatalogUnavailable: it cannot be reached.
    """
    from alembic import command

    check_not_newer(catalog)
    with catalog.engine.connect() as guard:
        guard.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        try:
            with catalog.begin() as connection:
                command.upgrade(_config(connection), "head")
        finally:
            guard.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
    return HEAD


def check_not_newer(catalog: Catalog) -> None:
    """Raises CatalogTooNew if the database is at a revision that this version does not know."""
    from alembic.script import ScriptDirectory

    found = current(catalog)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise CatalogTooNew(f"The catalog is at revision {found}, newer than this Scanloop knows ({HEAD}). Use the newer Scanloop.")


def check_current(catalog: Catalog) -> None:
    """Refuse to work on any other schema than the one this version knows.

    Raises:
        CatalogTooNew: the database was migrated by a newer Scanloop.
        CatalogUnavailable: the database is empty or older; `scanloop catalog migrate` brings it up.
    """
    found = current(catalog)
    if found == HEAD:
        return
    check_not_newer(catalog)
    raise CatalogUnavailable(f"The catalog is at revision {found or 'none'}, expected {HEAD}. Run: scanloop catalog migrate")
