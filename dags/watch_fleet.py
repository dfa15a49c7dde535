"""### Watch the fleet

Clears away what is left in the cluster: pods and Jobs whose Airflow task has ended, was removed or cleared, and which nobody will settle. And
compares what each scanner delivers with what it usually does, because a scanner that is silent starts nothing.

- **Starts** by the clock, every ten minutes.
- **Reads** pods and Jobs of the jobs' namespace, and the states of the task instances that started them; times of scans. **Writes** a validation
  result and Data Docs where a scanner falls silent, floods, delivers few or is as usual again; a pod that is deleted here has no receipt, so
  nothing it did counts.
- **Emits** nothing. On one machine there is no cluster, and the first task ends as skipped; so does the second while every scanner is as it was.
- **When it fails** nothing is lost: what is left stays until the next run. A silent scanner is no failure: see `scanloop validation scanners`.
- **Owner** the data platform team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import jobs
from scanloop_dags.defaults import DATA_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.reaper import ReapPodsOperator

with DAG(
    dag_id="watch_fleet",
    doc_md=__doc__,
    schedule="*/10 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(DATA_TEAM),
    tags=[Tag.CLOCK, Tag.FLEET],
):
    ReapPodsOperator(task_id="reap_pods")
    ScanloopJobOperator(task_id="check_arrivals", job=jobs.VALIDATION_ARRIVALS)
