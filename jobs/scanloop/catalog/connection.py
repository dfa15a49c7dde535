"""Connections to the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import make_url

from scanloop.errors import CatalogUnavailable, WrongArguments

LOCK_TIMEOUT_S = 30
_OURS = (sa.exc.IntegrityError, sa.exc.DataError)
"""Refusals of the data itself; callers that expect them handle them."""
_NOT_A_DEFECT = ("42501", "42P01", "3F000")
"""SQLSTATEs of a ProgrammingError that a deployment, not the code, has wrong: insufficient_privilege, undefined_table, invalid_schema_name."""


def _checked(url: str) -> sa.URL:
    """The URL with our driver. Raises WrongArguments, without the password in it, if no connection could ever be made from it."""
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")
        make_conninfo(parsed.set(drivername="postgresql", password=None).render_as_string())
    except (ValueError, sa.exc.ArgumentError, psycopg.ProgrammingError) as error:
        raise WrongArguments(f"SCANLOOP_DATABASE_URL is no PostgreSQL URL: {str(error).strip().splitlines()[0]}.") from None
    return parsed


class Catalog:
    """A PostgreSQL database with the catalog's tables. Connections open late and are pooled."""

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.engine = sa.create_engine(
            self.url,
            pool_size=3,
            max_overflow=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={LOCK_TIMEOUT_S}s -c timezone=UTC"},
        )

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only connection in one repeatable-read transaction: everything read in it belongs together.

        Raises:
            CatalogUnavailable: the database cannot be reached or went away.
        """
        try:
            with self.engine.connect() as connection:
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                yield connection.execution_options(**options)
        except sa.exc.DBAPIError as error:
            raise self._explained(error) from error
        except sa.exc.TimeoutError:
            raise CatalogUnavailable("Every connection to the catalog is in use. Try again in a moment.") from None

    @contextmanager
    def scratch(self) -> Iterator[sa.Connection]:
        """A connection for temporary tables, in one repeatable-read transaction that is rolled back at the end.

        Raises:
            CatalogUnavailable: the database cannot be reached or went away.
        """
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(isolation_level="REPEATABLE READ")
        except sa.exc.DBAPIError as error:
            raise self._explained(error) from error
        except sa.exc.TimeoutError:
            raise CatalogUnavailable("Every connection to the catalog is in use. Try again in a moment.") from None

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end. For scanloop.execution and scanloop.catalog only.

        Raises:
            CatalogUnavailable: the database cannot be reached, went away, or cannot take the write now (lock, deadlock, disk, read-only).
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise self._explained(error) from error
        except sa.exc.TimeoutError:
            raise CatalogUnavailable("Every connection to the catalog is in use. Try again in a moment.") from None

    def _explained(self, error: sa.exc.DBAPIError) -> Exception:
        """What a caller should see: the world's failure in one sentence, or the error itself where it is about the data or a defect."""
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(error, _OURS) or (isinstance(error, sa.exc.ProgrammingError) and state not in _NOT_A_DEFECT):
            return error
        lines = str(error.orig or error).strip().splitlines() or [type(error).__name__]
        shown = self.url.render_as_string(hide_password=True)
        return CatalogUnavailable(f"The catalog {shown} is not available: {lines[0].rstrip('.')}.")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
