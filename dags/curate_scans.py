"""### Choose what is worth labelling

Takes the validated scans of one product line that were never chosen, drops near-duplicates, scores the rest, and chooses under the product
line's budget. Why each scan was or was not picked is kept.

- **Starts** for a product line when `validated_scans` is emitted for it.
- **Reads** validated scans, earlier selections, the champion where there is one. **Writes** one selection with its items.
- **Emits** `selections`, which starts `sync_annotations`. Skipped when there is nothing to choose from.
- **When it fails** nothing was chosen; run it again. Exit code 75 usually means that another run works on this product line.
- **Owner** the labelling team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import LABEL_TEAM, MAX_KEYED_RUNS, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="curate_scans",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.validated_scans),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(LABEL_TEAM),
    tags=[Tag.KEYED, Tag.LABELS],
):
    ScanloopJobOperator(task_id="create_selection", job=jobs.SELECTION_CREATE, inlets=[assets.validated_scans], outlets=[assets.selections])
