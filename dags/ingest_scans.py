"""### Receive what scanners delivered

Every 5 minutes: finds what waits (from the events of the landing bucket, or by listing), shares it out between shards, reads each shard
(catalogue or quarantine every file, nothing in between), then matches reports about
threats to the scans that they speak about, and deletes from the landing zone what the catalog has. Of more than a run takes, every
scanner gets its turn.

- **Reads** the landing zone. **Writes** raw bytes and curated planes to the store; sites, scanners, bags, scans, deliveries, reports, the
  annotations that follow from reports, and quarantine to the catalog.
- **Emits** `scans` when at least one scan came, which starts `validate_scans`. Skipped when nothing waits, and while validation is far behind.
- **When it fails** nothing is lost: a file stays in the landing zone until the catalog has it. A shard that keeps failing does not hold up
  the others; its run ends as failed. A run that takes more than 20 minutes raises a deadline alert.
- **Owner** the data platform team.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, DeadlineAlert, DeadlineReference, SyncCallback, TriggerRule, task
from airflow.sdk.exceptions import AirflowSkipException

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import DATA_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.lateness import report_lateness
from scanloop_plugin.operator import ScanloopJobOperator

MAX_SHARDS = 64
MIN_A_SHARD = 25
"""Fewer deliveries are received sooner than another job starts."""
LATE_AFTER = timedelta(minutes=20)

with DAG(
    dag_id="ingest_scans",
    doc_md=__doc__,
    schedule="*/5 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(DATA_TEAM),
    tags=[Tag.CLOCK, Tag.INTAKE],
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=LATE_AFTER,
        callback=SyncCallback(report_lateness, kwargs={"limit_s": LATE_AFTER.total_seconds()}),
    ),
):
    plan = ScanloopJobOperator(
        task_id="plan", job=jobs.INGEST_PLAN, options={"max-shards": MAX_SHARDS, "min-a-shard": MIN_A_SHARD}, returns="shards"
    )
    shards = ScanloopJobOperator.partial(
        task_id="ingest_shard",
        job=jobs.INGEST_SHARD,
        execution_timeout=timedelta(seconds=jobs.INGEST_SHARD.timeout_s),
        map_index_template="{{ task.options['shard'] }}",
    ).expand(options=plan.output.map(lambda shard: {"shard": shard}))
    match_reports = ScanloopJobOperator(task_id="match_reports", job=jobs.INGEST_REPORTS, trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    acknowledge = ScanloopJobOperator(task_id="acknowledge", job=jobs.INGEST_ACKNOWLEDGE, trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)

    @task(
        outlets=[assets.scans],
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        execution_timeout=timedelta(minutes=5),
        doc_md="Emit `scans` when at least one scan came.",
    )
    def announce(results: list[dict[str, int]]) -> int:
        """Count the scans that came."""
        count = sum(shard["scans"] for shard in results if shard)
        if not count:
            raise AirflowSkipException("No new scan came.")
        return count

    every_shard = EmptyOperator(task_id="every_shard", execution_timeout=timedelta(minutes=1), doc_md="Fails the run when a shard failed.")

    shards >> [match_reports, acknowledge, every_shard]
    acknowledge >> announce(shards.output)
