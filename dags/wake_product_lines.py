"""### Wake the product lines that are due

Every 15 minutes: asks the catalog which product lines have something due (enough new labels, work waiting, a champion of old age) and emits
`due` for each.

- **Reads** the catalog. **Writes** nothing but its receipt.
- **Emits** `due`, keyed by product line, which starts `sync_annotations`, `review_annotations` and `snapshot_datasets`. Skipped when nothing is due.
- **When it fails** nothing is lost: the next run asks again. See the message of task `find_due`; exit code 75 means that the catalog or the
  store could not be reached.
- **Owner** the data platform team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import DATA_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="wake_product_lines",
    doc_md=__doc__,
    schedule="*/15 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(DATA_TEAM),
    tags=[Tag.CLOCK, Tag.LABELS, Tag.MODELS],
):
    ScanloopJobOperator(task_id="find_due", job=jobs.PRODUCT_LINE_DUE, keys_from="product_lines", outlets=[assets.due])
