"""### Check new scans

Runs the Great Expectations suites of their scanners' models over the scans that came since the last time, on their catalog rows and on the
statistics of their pixels; compares each scanner with its own history; publishes the Data Docs; and quarantines what fails. A scanner that has
drifted has all its scans of the batch held, with the expectations that failed.

- **Starts** when `scans` is emitted. One run at a time; a run takes everything that waits.
- **Reads** received scans. **Writes** validation results, the state of each scan (`validated` or `quarantined`), Data Docs in the store.
- **Emits** `validated_scans` for every product line that one of the validated scans belongs to, which starts `curate_scans`.
- **When it fails** the scans stay `received` and the next run takes them. A suite that fails a scan is no failure of the run: see the
  quarantine, `scanloop quarantine list`, and `scanloop validation scanners`. After a calibration: `scanloop quarantine release --scanner ID`.
- **Owner** the data platform team.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import DATA_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="validate_scans",
    doc_md=__doc__,
    schedule=[assets.scans],
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(DATA_TEAM),
    tags=[Tag.INTAKE],
):
    ScanloopJobOperator(
        task_id="run_suites", job=jobs.VALIDATION_RUN, keys_from="product_lines", inlets=[assets.scans], outlets=[assets.validated_scans]
    )
