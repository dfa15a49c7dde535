"""`scanloop labelling`: tasks to the labelling server, annotations back."""

from __future__ import annotations

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, run_job

app = typer.Typer(
    no_args_is_help=True,
    help="Exchange tasks and annotations with the labelling server (SCANLOOP_LABELLING_URL; simulated: has simulated people who err).",
)


@app.command("push")
def push(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Create a labelling task for every chosen scan that has none, and a next round for every scan that came back."""
    from scanloop.labelling.push import push_tasks

    run_job("labelling.push", push_tasks, product_line=product_line, options=RunOptions(run_id, attempt), lease="labelling")


@app.command("pull")
def pull(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Fetch annotations that were finished since the last pull. Exit code 99: there are none."""
    from scanloop.labelling.pull import JOB, pull_annotations

    run_job(JOB, pull_annotations, product_line=product_line, options=RunOptions(run_id, attempt), lease="labelling")
