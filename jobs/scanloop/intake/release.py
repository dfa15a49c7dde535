"""Let a content out of quarantine, to be read again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import quarantine
from scanloop.errors import DataWrong, NothingToDo, WrongArguments
from scanloop.execution import JobRun


def release(run: JobRun, quarantine_id: str) -> dict[str, Any]:
    """Mark one held content as released. The next ingest reads its kept bytes again, whatever had refused it, and validation follows.

    `quarantine_id` may be shortened as long as it names one content.

    Raises:
        WrongArguments: nothing, or more than one thing, has this id.
        NothingToDo: it was released before.
        DataWrong: the store no longer holds its bytes as they were received, so nothing could be read.
    """
    row = find(run.catalog, quarantine_id)
    if row.state == "released":
        raise NothingToDo(f"{row.quarantine_id[:12]} was released before; the next ingest reads it again.")
    if not run.store.verify(row.raw_key, row.quarantine_id):
        raise DataWrong(f"The bytes of {row.quarantine_id[:12]} are not in the store as they were received: {run.store.uri(row.raw_key)}.")
    run.publication.update(
        "quarantine",
        key={"quarantine_id": row.quarantine_id},
        expect={"state": "held"},
        set={"state": "released"},
        action="content.released",
    )
    return {"quarantine_id": row.quarantine_id, "stage": row.stage, "reason_code": row.reason_code}


def find(catalog: Catalog, quarantine_id: str) -> sa.Row[Any]:
    """The quarantine row that an id, or the start of one, names. Raises WrongArguments."""
    if not quarantine_id.isalnum():
        raise WrongArguments(f"Expected the start of a SHA-256, found {quarantine_id[:40]!r}.")
    with catalog.read() as connection:
        rows = connection.execute(sa.select(quarantine).where(quarantine.c.quarantine_id.startswith(quarantine_id.lower())).limit(2)).all()
    if len(rows) != 1:
        raise WrongArguments(f"{'Nothing' if not rows else 'More than one content'} in quarantine has the id {quarantine_id[:64]}.")
    return rows[0]
