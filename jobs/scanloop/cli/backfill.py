"""`scanloop backfill`: a new category over history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, run_job

app = typer.Typer(
    no_args_is_help=True,
    help="Choose scans of the past to look for a category that was added later; labelling then asks about that category only.",
)
DAY = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


@app.callback()
def _group() -> None:
    """Keep `plan` a command of its own, though it is the only one."""


@app.command("plan")
def plan(
    product_line: ProductLineArg,
    category: Annotated[
        str, typer.Option("--category", help="Category to look for; the product line's definition must list it.", show_default=False)
    ],
    budget: Annotated[int | None, typer.Option("--budget", min=1, help="Scans chosen at most.", show_default="the product line's")] = None,
    since: Annotated[datetime | None, typer.Option("--since", formats=DAY, help="Scans acquired at this time (UTC) or later.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=DAY, help="Scans acquired before this time (UTC).")] = None,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Choose scans from history in which nobody looked for the category yet. Exit code 99: there are none."""
    from scanloop.curation.select import plan_backfill

    run_job(
        "backfill.plan",
        lambda run: plan_backfill(run, category, budget, _utc(since), _utc(until)),
        product_line=product_line,
        part=product_line,
        options=RunOptions(run_id, attempt),
        lease="selection",
    )


def _utc(when: datetime | None) -> datetime | None:
    return when if when is None or when.tzinfo else when.replace(tzinfo=UTC)
