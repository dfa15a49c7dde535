"""### Exchange work with the labelling server

Gives the chosen scans of one product line to the labelling server, with pre-labels, and fetches what annotators have finished. A scan is
pushed once per round and an annotation is fetched once, however often this runs.

- **Starts** for a product line when `selections` or `due` is emitted for it.
- **Reads** selections, the labelling server. **Writes** labelling tasks, annotations (append-only).
- **Emits** `annotations` when at least one came, which starts `review_annotations`. Skipped when nobody has finished anything.
- **When it fails** run it again: what the server already has is recognised there. Exit code 75 means that the server could not be reached.
- **Owner** the labelling team.
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import LABEL_TEAM, MAX_KEYED_RUNS, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="sync_annotations",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.selections, assets.due),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(LABEL_TEAM),
    tags=[Tag.KEYED, Tag.LABELS],
):
    push = ScanloopJobOperator(task_id="push_tasks", job=jobs.LABELLING_PUSH, inlets=[assets.selections])
    pull = ScanloopJobOperator(
        task_id="pull_annotations",
        job=jobs.LABELLING_PULL,
        trigger_rule=TriggerRule.NONE_FAILED,  # with nothing to push there may still be something to pull
        outlets=[assets.annotations],
    )
    push >> pull
