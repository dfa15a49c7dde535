"""`scanloop ingest`: receive what sites delivered."""

from __future__ import annotations

from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, run_job, run_job_in_chunks
from scanloop.intake.landing import DEFAULT_SHARDS

app = typer.Typer(no_args_is_help=True, help="Receive what sites delivered: plan shards, ingest each, match reports, acknowledge.")


@app.command("plan")
def plan(
    max_shards: Annotated[int, typer.Option("--max-shards", help="Jobs to share the work between, at most.")] = DEFAULT_SHARDS,
    max_deliveries: Annotated[
        int, typer.Option("--max-deliveries", help="Deliveries of this run, at most; scanners share them evenly.")
    ] = 50_000,
    min_a_shard: Annotated[int, typer.Option("--min-a-shard", help="Deliveries worth a job of their own.")] = 1,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", help="Receive nothing while more scans than this wait for validation.")
    ] = 500_000,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Find what waits, from events or by listing the landing zone, and name the shards that have work."""
    from scanloop.intake.plan import plan_ingest

    limits = {"max_deliveries": max_deliveries, "min_a_shard": min_a_shard, "max_waiting": max_waiting}
    run_job("ingest.plan", lambda run: plan_ingest(run, max_shards, **limits), options=RunOptions(run_id, attempt))


@app.command("shard")
def shard(
    shard: Annotated[str, typer.Option("--shard", help="INDEX/COUNT, as the plan names it.", show_default=False)],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Receive one shard: keep the bytes, read them, write down scans, duplicates and quarantine."""
    from scanloop.intake.landing import Shard
    from scanloop.intake.shard import ingest_shard, total_of

    chosen = Shard.parse(shard)
    run_job_in_chunks(
        "ingest.shard",
        lambda run, chunk: ingest_shard(run, chosen, chunk),
        lambda chunks: total_of(chosen, chunks),
        options=RunOptions(run_id, attempt),
        part=str(chosen),
    )


@app.command("reports")
def reports(run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Match waiting Threat Detection Reports to the scans that they speak about; what they say becomes annotations."""
    from scanloop.intake.match_reports import match_reports

    run_job("ingest.reports", match_reports, options=RunOptions(run_id, attempt), lease="reports")


@app.command("acknowledge")
def acknowledge(run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Delete from the landing zone what the catalog and the store hold for certain."""
    from scanloop.intake.acknowledge import acknowledge as body

    run_job("ingest.acknowledge", body, options=RunOptions(run_id, attempt))
