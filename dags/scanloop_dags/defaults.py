"""What every DAG has in common, each with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

DATA_TEAM = "data-platform"
LABEL_TEAM = "labelling"
MODEL_TEAM = "machine-learning"
RELEASE_TEAM = "release-management"
OWNERS = (DATA_TEAM, LABEL_TEAM, MODEL_TEAM, RELEASE_TEAM)
"""Teams that answer for a DAG."""

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Before anything there was to do. No DAG catches up, so it only has to lie in the past."""

MAX_KEYED_RUNS = 32
"""Runs of one keyed DAG at a time. A product line never has two of them at work: every keyed job takes its lease."""


def task_defaults(owner: str, **others: Any) -> dict[str, Any]:
    """`default_args` of a DAG whose tasks `owner` answers for.

    Retries: a job that meets a held lease or an unavailable server says so with exit code 75 and is tried again after 10 s, 20 s, 40 s, up to
    10 min; seven retries bridge about 20 min. Wrong data and wrong arguments are never retried.
    """
    return {
        "owner": owner,
        "retries": 7,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": None,  # each task sets its own, from its job
        **others,
    }
