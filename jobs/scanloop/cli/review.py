"""`scanloop review`: whether annotations are believed."""

from __future__ import annotations

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, run_job

app = typer.Typer(no_args_is_help=True, help="Compare what annotators marked; accept it, or send it back naming what they dispute.")


@app.command("run")
def run_reviews(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Review every task that all its annotators handed in."""
    from scanloop.review.run import review_tasks

    run_job("review.run", review_tasks, product_line=product_line, options=RunOptions(run_id, attempt), lease="review")
