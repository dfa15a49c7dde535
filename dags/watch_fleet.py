"""### Watch the fleet

Clears away what is left in the cluster: pods and Jobs whose Airflow task has ended, was removed or cleared, and which nobody will settle.

- **Starts** by the clock, every ten minutes.
- **Reads** pods and Jobs of the jobs' namespace, and the states of the task instances that started them. **Writes** nothing else: a pod that
  is deleted here has no receipt, so nothing it did counts.
- **Emits** nothing. On one machine there is no cluster, and the task ends as skipped.
- **When it fails** nothing is lost: what is left stays until the next run.
- **Owner** the data platform team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags.defaults import DATA_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
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
