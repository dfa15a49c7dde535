"""`scanloop product-line`: what each product line is at, and which are due."""

from __future__ import annotations

from contextlib import closing

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, open_world, run_job

app = typer.Typer(no_args_is_help=True, help="Product lines and what is due for them.")


@app.command("due")
def due(run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Find product lines with something due: work to label or pull, labels to review, scans to snapshot, a champion grown old."""
    from scanloop.catalog.due import find_due

    run_job("product-line.due", find_due, options=RunOptions(run_id, attempt))


@app.command("list")
def list_() -> None:
    """List product lines with their stage counts."""
    from rich.console import Console
    from rich.table import Table

    from scanloop.catalog.loop import loop_status

    world = open_world()
    table = Table("product line", "scans", "chosen", "open tasks", "accepted", "snapshots", "models", "champion", "release")
    with closing(world.catalog), world.catalog.read() as connection:
        for status in loop_status(connection):
            numbers = (
                status.validated_scans,
                status.chosen_scans,
                status.open_tasks,
                status.accepted_scans,
                status.snapshots,
                status.models,
            )
            table.add_row(status.product_line, *map(str, numbers), (status.champion_id or "—")[:12], str(status.release_version or "—"))
    Console().print(table)
