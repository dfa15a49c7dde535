"""Many rows into a table at once, with COPY.

Source: PostgreSQL documentation, COPY; psycopg 3, "Using COPY TO and COPY FROM".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

_ENCODE = msgspec.json.Encoder().encode


def copy_rows(connection: sa.Connection, statement: str, table: sa.Table, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Send rows through `statement`, a COPY ... FROM STDIN of the columns `names` of `table`, in the caller's transaction.

    Values are in the order of `names`, and as JSON has them: times may be text.

    Raises:
        sa.exc.DBAPIError: as other statements of the connection do.
    """
    as_json = [index for index, name in enumerate(names) if isinstance(table.c[name].type, JSONB)]
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                values = list(row)
                for index in as_json:
                    if values[index] is not None:
                        values[index] = _ENCODE(values[index]).decode()
                copy.write_row(values)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(statement, None, error, psycopg.Error, dialect=connection.dialect) from error
