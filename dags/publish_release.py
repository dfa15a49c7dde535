"""### Release a champion

Exports the champion of one product line to ONNX, checks that it answers as the trained model does, bundles it with its evidence, and asks
the release signer to sign it and put it on the product line's channel. Airflow holds no signing key: it requests, the signer decides.

- **Starts** for a product line when `champions` is emitted for it.
- **Reads** the champion, its decision and evidence. **Writes** a bundle and a release request; the signer writes the release.
- **Emits** `releases`. Skipped when the champion is released already.
- **When it fails** devices keep what they have. A refusal of the signer is final and says why (exit code 65); a signer that does not answer
  is waited for (exit code 75).
- **Owner** release management.
"""

from __future__ import annotations

from airflow.sdk import DAG

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import MAX_KEYED_RUNS, RELEASE_TEAM, START, task_defaults
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.references import result

with DAG(
    dag_id="publish_release",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.champions),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(RELEASE_TEAM),
    tags=[Tag.KEYED, Tag.RELEASES],
):
    export = ScanloopJobOperator(task_id="export", job=jobs.RELEASE_EXPORT, inlets=[assets.champions])
    ScanloopJobOperator(
        task_id="publish", job=jobs.RELEASE_PUBLISH, options={"release": result(export, "release_id")}, outlets=[assets.releases]
    )
