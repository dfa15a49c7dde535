"""The table of jobs: what the DAGs run. The jobs themselves are the `scanloop` command; DAGs know them by their command line only."""

from __future__ import annotations

from scanloop_plugin.job_spec import JobSpec

JOBS_IMAGE = "jobs"
TRAIN_IMAGE = "train"
GIB = 1 << 30
MINUTE_S = 60
HOUR_S = 3600

PRODUCT_LINE_DUE = JobSpec(("product-line", "due"), JOBS_IMAGE, cpu=0.5, memory_bytes=GIB, timeout_s=5 * MINUTE_S)
"""Find product lines with something due."""

INGEST_PLAN = JobSpec(("ingest", "plan"), JOBS_IMAGE, cpu=0.5, memory_bytes=GIB, timeout_s=10 * MINUTE_S)
"""List the landing zone and cut it into shards."""

INGEST_SHARD = JobSpec(("ingest", "shard"), JOBS_IMAGE, cpu=1, memory_bytes=4 * GIB, timeout_s=HOUR_S, part_option="shard")
"""Read the deliveries of one shard: catalogue or quarantine each."""

INGEST_REPORTS = JobSpec(("ingest", "reports"), JOBS_IMAGE, cpu=0.5, memory_bytes=2 * GIB, timeout_s=30 * MINUTE_S)
"""Match waiting Threat Detection Reports to the scans that they speak about."""

INGEST_ACKNOWLEDGE = JobSpec(("ingest", "acknowledge"), JOBS_IMAGE, cpu=0.5, memory_bytes=GIB, timeout_s=30 * MINUTE_S)
"""Delete from the landing zone what the catalog has."""

VALIDATION_RUN = JobSpec(("validation", "run"), JOBS_IMAGE, cpu=1, memory_bytes=4 * GIB, timeout_s=HOUR_S)
"""Check new scans against the suites."""

VALIDATION_ARRIVALS = JobSpec(("validation", "arrivals"), JOBS_IMAGE, cpu=0.5, memory_bytes=2 * GIB, timeout_s=10 * MINUTE_S)
"""Compare what each scanner delivers with what it usually does."""

SELECTION_CREATE = JobSpec(("selection", "create"), JOBS_IMAGE, cpu=2, memory_bytes=4 * GIB, timeout_s=2 * HOUR_S, is_keyed=True)
"""Choose scans worth labelling, under the budget."""

LABELLING_PUSH = JobSpec(
    ("labelling", "push"),
    JOBS_IMAGE,
    cpu=1,
    memory_bytes=4 * GIB,
    timeout_s=HOUR_S,
    secrets=("catalog", "store", "labelling"),
    is_keyed=True,
)
"""Give chosen scans to the labelling server."""

LABELLING_PULL = JobSpec(
    ("labelling", "pull"),
    JOBS_IMAGE,
    cpu=1,
    memory_bytes=2 * GIB,
    timeout_s=HOUR_S,
    secrets=("catalog", "store", "labelling"),
    is_keyed=True,
)
"""Fetch finished annotations from the labelling server."""

REVIEW_RUN = JobSpec(("review", "run"), JOBS_IMAGE, cpu=1, memory_bytes=4 * GIB, timeout_s=HOUR_S, is_keyed=True)
"""Compare annotators; accept, send back or escalate."""

SNAPSHOT_CREATE = JobSpec(("snapshot", "create"), JOBS_IMAGE, cpu=2, memory_bytes=8 * GIB, timeout_s=2 * HOUR_S, is_keyed=True)
"""Freeze a dataset."""

MODEL_TRAIN = JobSpec(
    ("model", "train"),
    TRAIN_IMAGE,
    cpu=2,
    memory_bytes=8 * GIB,
    timeout_s=48 * HOUR_S,
    gpu=1,
    ephemeral_storage_bytes=32 * GIB,
    secrets=("catalog", "store", "tracking"),
    is_keyed=True,
)
"""Train a candidate on a snapshot."""

EVALUATION_RUN = JobSpec(("evaluation", "run"), TRAIN_IMAGE, cpu=2, memory_bytes=8 * GIB, timeout_s=4 * HOUR_S, gpu=1, is_keyed=True)
"""Score a model on the frozen test split."""

PROMOTION_COMPARE = JobSpec(("promotion", "compare"), TRAIN_IMAGE, cpu=2, memory_bytes=8 * GIB, timeout_s=4 * HOUR_S, gpu=1, is_keyed=True)
"""Compare candidate and champion on one snapshot and decide."""

PROMOTION_PROMOTE = JobSpec(("promotion", "promote"), JOBS_IMAGE, cpu=0.5, memory_bytes=GIB, timeout_s=10 * MINUTE_S, is_keyed=True)
"""Make the candidate the champion."""

TRACKING_SYNC = JobSpec(
    ("tracking", "sync"), JOBS_IMAGE, cpu=0.5, memory_bytes=2 * GIB, timeout_s=HOUR_S, secrets=("catalog", "store", "tracking")
)
"""Tell the ClearML server what it has not heard."""

RELEASE_EXPORT = JobSpec(("release", "export"), TRAIN_IMAGE, cpu=2, memory_bytes=8 * GIB, timeout_s=HOUR_S, is_keyed=True)
"""Export the champion to ONNX, check parity, bundle it."""

RELEASE_PUBLISH = JobSpec(("release", "publish"), JOBS_IMAGE, cpu=0.5, memory_bytes=GIB, timeout_s=HOUR_S, is_keyed=True)
"""Ask the signer for a release and wait for its answer."""

BACKFILL_PLAN = JobSpec(
    ("backfill", "plan"), JOBS_IMAGE, cpu=2, memory_bytes=4 * GIB, timeout_s=4 * HOUR_S, is_keyed=True, part_option="product-line"
)
"""Search one product line's history for scans worth labelling for a new category."""
