"""### Freeze a dataset

Makes an immutable snapshot of one product line: which scans, which accepted annotations, which split, which weight. The same definition on
the same catalog gives the same snapshot.

- **Starts** for a product line when `reviewed_annotations` or `due` is emitted for it.
- **Reads** validated scans, accepted annotations, the product line's definition. **Writes** manifest shards and a root to the store, one
  snapshot to the catalog.
- **Emits** `snapshots`, which starts `train_detector`. Skipped when nothing changed, or too little for a new snapshot.
- **When it fails** there is no snapshot: what was written to the store is found and reused by the next attempt.
- **Owner** the machine learning team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import MAX_KEYED_RUNS, MODEL_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="snapshot_datasets",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.reviewed_annotations, assets.due),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(MODEL_TEAM),
    tags=[Tag.KEYED, Tag.MODELS],
):
    ScanloopJobOperator(
        task_id="create_snapshot", job=jobs.SNAPSHOT_CREATE, inlets=[assets.reviewed_annotations], outlets=[assets.snapshots]
    )
