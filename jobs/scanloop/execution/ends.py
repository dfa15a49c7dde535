"""How attempts of jobs ended: written by whoever runs jobs, never by a job. Operational, like leases: nothing that counts depends on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop.catalog import Catalog
from scanloop.catalog.tables import job_ends

MAX_MESSAGE_LENGTH = 2000


@dataclass(frozen=True)
class JobEnd:
    """The end of one attempt that did not succeed."""

    run_id: str
    """Run it belonged to."""
    job: str
    """Name of the job, `room.verb`."""
    part: str
    """Which part of a job that was split; empty for a whole one."""
    end_id: str
    """What was ended: the uid of a pod, or the number of a local attempt. Recorded once, however often it is told."""
    attempt: int
    """Which attempt of Airflow's it was, counted from 1."""
    cause: str
    """Why, in one word."""
    exit_code: int | None
    """Exit code of the process, if it had one."""
    message: str
    """What a person should know."""


def record_end(catalog: Catalog, end: JobEnd, *, since_attempt: int = 1) -> Counter[str]:
    """Note `end` once. Returns how often each cause has ended this job of this run, from `since_attempt` on, this end included.

    Raises:
        CatalogUnavailable: the catalog cannot be reached; nothing was noted.
    """
    row = {**asdict(end), "message": end.message[:MAX_MESSAGE_LENGTH]}
    with catalog.begin() as connection:
        connection.execute(pg_insert(job_ends).values(row).on_conflict_do_nothing())
        return _counted(connection, end.run_id, end.job, end.part, since_attempt)


def known_ends(catalog: Catalog, run_id: str, job: str, part: str) -> dict[str, str]:
    """The cause of each recorded end of this job of this run, by its end_id. Raises CatalogUnavailable."""
    ours = (job_ends.c.run_id == run_id, job_ends.c.job == job, job_ends.c.part == part)
    with catalog.read() as connection:
        return {row.end_id: row.cause for row in connection.execute(sa.select(job_ends.c.end_id, job_ends.c.cause).where(*ours))}


def _counted(connection: sa.Connection, run_id: str, job: str, part: str, since_attempt: int) -> Counter[str]:
    ours = (job_ends.c.run_id == run_id, job_ends.c.job == job, job_ends.c.part == part, job_ends.c.attempt >= since_attempt)
    causes = sa.select(job_ends.c.cause, sa.func.count().label("times")).where(*ours).group_by(job_ends.c.cause)
    return Counter({row.cause: row.times for row in connection.execute(causes)})
