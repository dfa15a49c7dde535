"""`scanloop evaluation`: what models are worth on frozen test splits."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, load_definition, open_world, print_result, run_job

app = typer.Typer(
    no_args_is_help=True, help="What a model is worth: AP of boxes, Pd and Pfa of bags with exact bounds, pictures of the worst."
)

ModelArg = Annotated[str, typer.Option("--model", help="Id of the model, or the beginning of it.", show_default=False)]
SnapshotArg = Annotated[str, typer.Option("--snapshot", help="Id of the snapshot, or the beginning of it.", show_default=False)]


@app.command("run")
def run(
    product_line: ProductLineArg, model: ModelArg, snapshot: SnapshotArg, run_id: RunIdOption = None, attempt: AttemptOption = 1
) -> None:
    """Score a model on the test split of a frozen snapshot.

    Thresholds are chosen on the val split for the target Pfa of the product line. Detections and the outcome of every bag are kept beside the
    numbers, and a page with charts and pictures. A model is scored on a snapshot once; later calls return what is known.
    """
    from scanloop.evaluation.evaluate import evaluate_model

    run_job(
        "evaluation.run",
        lambda job: evaluate_model(job, model, snapshot),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="evaluation",
    )


@app.command("list")
def list_(
    product_line: Annotated[str | None, typer.Option("--product-line", help="Only this product line.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line an evaluation.")] = False,
) -> None:
    """List evaluations, newest first."""
    from rich.console import Console
    from rich.table import Table

    from scanloop.evaluation.lookup import list_evaluations

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        if product_line is not None:
            load_definition(world.catalog, product_line)
        rows = list_evaluations(connection, product_line)
    if as_json:
        for row in rows:
            print_result(row)
        return
    table = Table("product line", "model", "snapshot", "AP50", "Pd (at least)", "Pfa (at most)", "evaluation")
    for row in rows:
        found = row["summary"]
        rates = (f"{_percent(found['pd'])} ({_percent(found['pd_lower'])})", f"{_percent(found['pfa'])} ({_percent(found['pfa_upper'])})")
        ap50 = "—" if found["ap50"] is None else f"{found['ap50']:.3f}"
        table.add_row(row["product_line"], row["model_id"][:12], row["snapshot_id"][:12], ap50, *rates, row["evaluation_id"][:12])
    Console().print(table)


@app.command("page")
def page(
    evaluation: Annotated[str, typer.Argument(help="Id of the evaluation, or the beginning of it.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("evaluation.html"),
) -> None:
    """Write the page of an evaluation to a file: charts, tables, the worst misses and the worst false alarms."""
    from scanloop.evaluation.lookup import evaluation_named

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        row = evaluation_named(connection, evaluation)
    world.store.download(row["report_key"], to.absolute())
    print_result({"evaluation_id": row["evaluation_id"], "file": str(to)})


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f} %"
