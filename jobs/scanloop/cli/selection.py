"""`scanloop selection`: which scans are worth labelling, and why."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, open_world, print_result, run_job

app = typer.Typer(no_args_is_help=True, help="Choose scans for labelling under a budget, and explain every choice.")
SelectionArg = Annotated[str, typer.Argument(help="Id of the selection, or the beginning of it.", show_default=False)]


@app.command("create")
def create(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Choose among the validated scans that were never chosen. Exit code 99: there is nothing worth labelling."""
    from scanloop.curation.select import create_selection

    run_job("selection.create", create_selection, product_line=product_line, options=RunOptions(run_id, attempt), lease="selection")


@app.command("explain")
def explain(
    selection_id: SelectionArg,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Scans shown at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON line.")] = False,
) -> None:
    """Show what a selection chose and left out, each with its reason."""
    from scanloop.curation.explain import explain as explain_selection

    world = open_world()
    with closing(world.catalog):
        found = explain_selection(world.catalog, selection_id)
    if as_json:
        row = {name: found.selection[name] for name in ("selection_id", "product_line", "seed", "budget", "parameters", "counts", "run_id")}
        print_result(row | {"items": found.items})
        return
    from rich.console import Console
    from rich.table import Table

    counts = found.selection["counts"]
    table = Table(title=f"Selection {found.selection['selection_id']} of {found.selection['product_line']}")
    table.caption = f"{counts['chosen']} of {counts['candidates']} scans chosen, {counts['near_duplicates']} near copies left out"
    for heading in ("rank", "scan", "view", "chosen", "score"):
        table.add_column(heading, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for item in found.items[:limit]:
        is_chosen = "yes" if item["is_chosen"] else "no"
        table.add_row(str(item["rank"]), item["scan_id"][:12], item["view_name"], is_chosen, f"{item['score']:.3f}", item["reason"])
    Console().print(table)


@app.command("replay")
def replay(selection_id: SelectionArg) -> None:
    """Choose again from the recorded inputs and compare. Exit code 65: the choice differs."""
    from scanloop.curation.explain import replay as replay_selection
    from scanloop.errors import DataWrong

    world = open_world()
    with closing(world.catalog):
        found = replay_selection(world.catalog, world.store, selection_id)
    if not found.has_same_inputs:
        raise DataWrong(f"Selection {selection_id} cannot be replayed: the catalog no longer has the inputs that it was made from.")
    if found.differences:
        raise DataWrong(f"Selection {selection_id} chose otherwise for {len(found.differences)} scans, first {found.differences[0]}.")
    print_result({"selection_id": selection_id, "is_same": True})
