"""### Train, compare, promote

Trains a candidate for one product line, scores it on the snapshot's frozen test split, compares it with the champion on the same split,
asks the approvers that the product line's policy names (or nobody, if it names none), and makes the candidate the champion.

- **Starts** for a product line when `snapshots` is emitted for it; or by a person, with a product line as partition key and a form:
  which snapshot, which recipe, which values changed, how many GPUs and nodes.
- **Reads** a snapshot, the champion. **Writes** weights, an experiment, evaluations, a decision with its evidence, the champion.
- **Emits** `champions`, which starts `publish_release`; only after a promotion. A candidate that is not better ends here, as skipped.
- **When it fails** the champion is unchanged. A training that was killed goes on from its last saved state. An approval that nobody answers
  for a week is a no.
- **Owner** the machine learning team.
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule

from scanloop_dags import assets, jobs
from scanloop_dags.defaults import MAX_KEYED_RUNS, MODEL_TEAM, START, task_defaults
from scanloop_dags.params import CHANGES, GPUS, NODES, RECIPE, SNAPSHOT
from scanloop_dags.tags import Tag
from scanloop_plugin.approval import PromotionApprovalOperator
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.references import form, result, result_if_any

with DAG(
    dag_id="train_detector",
    doc_md=__doc__,
    schedule=assets.each_product_line(assets.snapshots),
    start_date=START,
    catchup=False,
    max_active_runs=MAX_KEYED_RUNS,
    default_args=task_defaults(MODEL_TEAM),
    tags=[Tag.KEYED, Tag.FORM, Tag.MODELS],
    params={"snapshot": SNAPSHOT, "recipe": RECIPE, "changes": CHANGES, "gpus": GPUS, "nodes": NODES},
):
    train = ScanloopJobOperator(
        task_id="train",
        job=jobs.MODEL_TRAIN,
        options={"snapshot": form("snapshot"), "recipe": form("recipe"), "set": form("changes")},
        resources_wanted={"gpus": form("gpus"), "nodes": form("nodes")},
        inlets=[assets.snapshots],
    )
    subject = {"model": result(train, "model_id"), "snapshot": result(train, "snapshot_id")}
    evaluate = ScanloopJobOperator(task_id="evaluate", job=jobs.EVALUATION_RUN, options=subject)
    compare = ScanloopJobOperator(task_id="compare", job=jobs.PROMOTION_COMPARE, options=subject)
    approve = PromotionApprovalOperator(task_id="approve", decision=result(compare))
    promote = ScanloopJobOperator(
        task_id="promote",
        job=jobs.PROMOTION_PROMOTE,
        options={"decision": result(compare, "decision_id"), "approver": result_if_any(approve, "responded_by_user", "id")},
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,  # no approval needed is as good as one given
        outlets=[assets.champions],
    )
    evaluate >> compare >> approve >> promote
