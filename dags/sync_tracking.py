"""### Tell the ClearML server what it has not heard

Every 10 minutes: tells a ClearML server the experiments, models, snapshots, evaluations, decisions and reports that it does not have yet, and
closes the experiments of trainings that died. What was tracked offline, or while the server was down, comes in here, once.

- **Reads** the catalog and the spools under `tracking/` in the store. **Writes** to the ClearML server, and what was told into `tracked`.
- **Emits** nothing: no other DAG waits for tracking.
- **When it fails** nothing else is late. Exit code 75 means that the server could not be reached; the next run goes on where this one was. Skipped
  when no server is named or nothing waits. `scanloop tracking list` shows what waits, and why the server refused it.
- **Owner** the machine learning team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import jobs
from scanloop_dags.defaults import MODEL_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="sync_tracking",
    doc_md=__doc__,
    schedule="*/10 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(MODEL_TEAM),
    tags=[Tag.CLOCK, Tag.MODELS],
):
    ScanloopJobOperator(task_id="sync", job=jobs.TRACKING_SYNC)
