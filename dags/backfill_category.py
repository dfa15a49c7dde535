"""### Start a new category

For a new class of threat: searches the history of each named product line for scans that may show it, and chooses what to label under a
budget. From there the keyed events carry each product line through labelling, snapshot, training and comparison; the comparison also judges
the old categories, so that learning a new one cannot forget them unseen.

- **Starts** by a person, with a form: category, product lines, dates, budget.
- **Reads** validated scans of the past. **Writes** one selection per product line.
- **Emits** `selections` for each product line something was chosen for, which starts `sync_annotations`.
- **When it fails** for one product line the others go on; run it again for that one. The category must already stand in the product line's
  definition: change its YAML and run `scanloop definitions apply` first.
- **Owner** the machine learning team.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import MODEL_TEAM, START, task_defaults
from scanloop_dags.params import BUDGET, CATEGORY, PRODUCT_LINES, SINCE, UNTIL
from scanloop_dags.tags import Tag
from scanloop_plugin.operator import ScanloopJobOperator

with DAG(
    dag_id="backfill_category",
    doc_md=__doc__,
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=4,
    default_args=task_defaults(MODEL_TEAM),
    tags=[Tag.FORM, Tag.LABELS],
    params={"category": CATEGORY, "product_lines": PRODUCT_LINES, "since": SINCE, "until": UNTIL, "budget": BUDGET},
):

    @task(execution_timeout=timedelta(minutes=5), doc_md="One set of options for each product line in the form.")
    def requests(params: dict) -> list[dict]:
        """Read the form."""
        others = {name: params[name] for name in ("category", "since", "until", "budget")}
        return [{"product-line": product_line, **others} for product_line in dict.fromkeys(params["product_lines"])]

    ScanloopJobOperator.partial(
        task_id="mine_history",
        job=jobs.BACKFILL_PLAN,
        execution_timeout=timedelta(seconds=jobs.BACKFILL_PLAN.timeout_s),
        map_index_template="{{ task.options['product-line'] }}",
        outlets=[assets.selections],
    ).expand(options=requests())
