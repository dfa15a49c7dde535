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
HEAD = "0009"
"""The newest revision, named here so that a job can compare without loading the migrations; a test keeps it true."""
READER = "scanloop_reader"
"""The role that queries run under. It reads, and only what can be asked about."""
READABLE = ("scans", "scanners", "annotations", "marks")
"""Tables that can be asked about."""
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
                let_readers_read(connection)
        finally:
            guard.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
    return HEAD


def let_readers_read(connection: sa.Connection) -> None:
    """Make the role that queries run under, if this user may, and let it read what can be asked about, and nothing else.

    Where an administrator has to make the role, searching says so; everything else works without it.
    """
    readable = ", ".join(READABLE)
    connection.execute(
        sa.text(f"""
        DO $$ BEGIN
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN CREATE ROLE {READER} NOLOGIN; END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
            END;
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN
                BEGIN
                    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {READER}', current_schema());
                    GRANT SELECT ON {readable} TO {READER};
                    IF NOT (CASE WHEN current_setting('server_version_num')::int >= 160000 THEN pg_has_role(current_user, '{READER}', 'SET')
                        ELSE pg_has_role(current_user, '{READER}', 'MEMBER') END) THEN EXECUTE format('GRANT {READER} TO %I', current_user); END IF;
                EXCEPTION WHEN insufficient_privilege OR undefined_table THEN NULL;
                END;
            END IF;
        END $$
        """)  # noqa: S608  names of ours only
    )


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
