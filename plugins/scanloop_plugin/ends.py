"""Writes down in the catalog how attempts ended, and reads how often. The only thing that Airflow's own processes write there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scanloop_plugin.causes import Cause
from scanloop_plugin.outcome import JobUnavailable
from scanloop_plugin.runners import JobOutcome, JobRequest

if TYPE_CHECKING:
    from scanloop.catalog import Catalog

log = logging.getLogger(__name__)


def _open() -> Catalog | None:
    from scanloop.catalog import Catalog

    url = os.environ.get("SCANLOOP_DATABASE_URL", "")
    return Catalog(url) if url else None


def known_ends(request: JobRequest) -> dict[str, str]:
    """The cause of each recorded end of this work, by what was ended. Raises JobUnavailable: without them a second pod could be started."""
    from scanloop.errors import ScanloopError
    from scanloop.execution.ends import known_ends as read

    catalog = _open()
    if catalog is None:
        raise JobUnavailable("SCANLOOP_DATABASE_URL is not set for Airflow's workers; they count there how attempts ended.")
    try:
        return read(catalog, request.run_id, request.job.name, request.part)
    except ScanloopError as error:
        raise JobUnavailable(f"How earlier attempts ended cannot be read: {error.message}") from error
    finally:
        catalog.close()


def record(
    request: JobRequest, end_id: str, attempt: int, since_attempt: int, cause: Cause, outcome: JobOutcome, message: str
) -> Mapping[str, int] | None:
    """Note an end once. Returns how often each cause has ended this work since a person last cleared its task; None: nobody can say now."""
    from scanloop.errors import ScanloopError
    from scanloop.execution.ends import JobEnd, record_end

    catalog = _open()
    if catalog is None:
        return None
    end = JobEnd(request.run_id, request.job.name, request.part, end_id, attempt, cause.value, outcome.exit_code, outcome.detail or message)
    try:
        return record_end(catalog, end, since_attempt=since_attempt)
    except ScanloopError as error:
        log.warning("How this attempt ended is not counted: %s", error.message)
        return None
    finally:
        catalog.close()
