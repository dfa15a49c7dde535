"""What every DAG has in common, each with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scanloop_plugin.causes import RETRIES
from scanloop_plugin.retry import CauseRetryPolicy

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

    Retries: each cause of failure has its own budget and delay (scanloop_plugin.causes); Airflow is told their sum and which delay is due. A
    held lease or an unavailable server is tried again after 10 s, 20 s, 40 s, up to 10 min, a mistake in the code twice; wrong data and wrong
    arguments never.
    """
    return {
        "owner": owner,
        "retries": RETRIES,
        "retry_policy": CauseRetryPolicy(),
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": None,  # each task sets its own, from its job
        **others,
    }
