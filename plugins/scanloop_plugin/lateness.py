"""What happens when a DAG run misses its deadline."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def report_lateness(limit_s: float, context: dict[str, Any] | None = None, **_: Any) -> str:
    """Write the alert that log-based alerting picks up. Runs where tasks run."""
    run = (context or {}).get("dag_run") or {}
    name = run.get("dag_run_id") or run.get("run_id", "?")
    sentence = f"LATE: {run.get('dag_id', 'a DAG')} run {name} is not done {limit_s:.0f} s after it was queued."
    log.error(sentence)
    return sentence
