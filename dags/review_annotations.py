"""### Check the labels

Compares what annotators said of each scan of one product line: agreement becomes an accepted consensus, disagreement sends the scan back for
another round, and what stays disputed goes to a person.

- **Starts** for a product line when `annotations` or `due` is emitted for it.
- **Reads** submitted labelling tasks and their annotations. **Writes** reviews, consensus annotations, the state of each labelling task.
- **Emits** `reviewed_annotations`, which starts `snapshot_datasets`. What goes back is pushed again by the next `sync_annotations`.
- **When it fails** no review of this run counts; run it again.
- **Owner** the labelling team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import LABEL_TEAM, MAX_KEYED_RUNS, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="review_annotations",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.annotations, assets.due),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(LABEL_TEAM),
    tags=[Tag.KEYED, Tag.LABELS],
):
    ScanloopJobOperator(task_id="review", job=jobs.REVIEW_RUN, inlets=[assets.annotations], outlets=[assets.reviewed_annotations])
