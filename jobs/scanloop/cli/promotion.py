"""`scanloop promotion`: whether a candidate takes the champion's place, and the switch."""

from __future__ import annotations

import getpass
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from scanloop.cli.options import (
    AttemptOption,
    ProductLineArg,
    RunIdOption,
    RunOptions,
    load_definition,
    open_world,
    print_result,
    run_job,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Compare a candidate with the champion on the same frozen test split, and make it the champion where the policy allows. "
    "A decision keeps its evidence; a promotion follows exactly one decision.",
)

DecisionOption = Annotated[str, typer.Option("--decision", help="Id of the decision, or the beginning of it.", show_default=False)]


@app.command("compare")
def compare(
    product_line: ProductLineArg,
    model: Annotated[str, typer.Option("--model", help="Id of the candidate, or the beginning of it.", show_default=False)],
    snapshot: Annotated[
        str, typer.Option("--snapshot", help="Id of the snapshot to judge on, or the beginning of it.", show_default=False)
    ],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Compare a candidate with the champion and write the decision down, with its evidence.

    Both are judged on the same bags, each at thresholds chosen for the same target Pfa; the champion is evaluated on the snapshot first if it
    was not yet. The verdict is promote, reject, or insufficient_evidence with how many more bags would settle it.
    """
    from scanloop.promotion.compare import compare_models

    run_job(
        "promotion.compare",
        lambda run: compare_models(run, model, snapshot),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="promotion",
    )


@app.command("promote")
def promote(
    product_line: ProductLineArg,
    decision: DecisionOption,
    approver: Annotated[str | None, typer.Option("--approver", help="Who agreed, where the policy asks for a named person.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would happen; change nothing.")] = False,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Make the candidate of a decision the champion.

    Refused unless the verdict is to promote, the champion is still the one that was compared, the evidence and every receipt behind it are
    what they were, and, where the policy asks for it, a named approver agreed who did not start any of it.
    """
    from scanloop.promotion.promote import plan_switch, promote_candidate

    if dry_run:
        world = open_world()
        with closing(world.catalog), world.catalog.read() as connection:
            definition = load_definition(world.catalog, product_line)
            actor = world.settings.actor or f"person:{getpass.getuser()}"
            switch = plan_switch(world.store, connection, definition, decision, approver or None, actor)
        print_result({**switch.as_json(), "dry_run": True})
        return
    run_job(
        "promotion.promote",
        lambda run: promote_candidate(run, decision, approver or None),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="promotion",
    )


@app.command("history")
def history(
    product_line: ProductLineArg, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line a champion.")] = False
) -> None:
    """Show every champion of a product line, newest first, with the decision that made it one."""
    from rich.console import Console
    from rich.table import Table

    from scanloop.promotion.records import champion_line

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        load_definition(world.catalog, product_line)
        rows = champion_line(connection, product_line)
    if as_json:
        for row in rows:
            print_result(row)
        return
    table = Table("", "champion", "since", "decision", "snapshot", "approver")
    for row in rows:
        ids = (row["decision_id"][:12], row["snapshot_id"][:12])
        table.add_row(str(row["sequence"]), row["model_id"][:12], row["created_at"][:19], *ids, row["approver"] or "—")
    Console().print(table)


@app.command("list")
def list_(
    product_line: ProductLineArg, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line a decision.")] = False
) -> None:
    """List the decisions of a product line, newest first, with what decided each."""
    from rich.console import Console
    from rich.table import Table

    from scanloop.promotion.records import list_decisions

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        load_definition(world.catalog, product_line)
        rows = list_decisions(connection, product_line)
    if as_json:
        for row in rows:
            print_result(row)
        return
    table = Table("decision", "candidate", "champion", "verdict", "because")
    for row in rows:
        champion = (row["champion_id"] or "—")[:12]
        table.add_row(row["decision_id"][:12], row["candidate_id"][:12], champion, row["verdict"], row["reasons"][0])
    Console().print(table)


@app.command("show")
def show(
    decision: Annotated[str, typer.Argument(help="Id of the decision, or the beginning of it.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole evidence as one JSON line.")] = False,
    page: Annotated[Path | None, typer.Option("--page", help="Write the decision's page, with charts and pictures, to this file.")] = None,
) -> None:
    """Show a decision: the verdict, the reasons, and where its evidence lies."""
    import json

    from rich.console import Console

    from scanloop.evaluation.evaluate import verified
    from scanloop.promotion.records import decision_named

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        row = decision_named(connection, decision)
    evidence = json.loads(verified(world.store, row["evidence_key"], row["evidence_sha256"]))
    if page is not None:
        page.write_bytes(verified(world.store, evidence["page"]["key"], evidence["page"]["sha256"]))
    if as_json:
        print_result(evidence)
        return
    console, champion = Console(), row["champion_id"]
    against = f"against champion {champion[:12]}" if champion else "as the first champion"
    console.print(f"[bold]{row['product_line']}[/]: candidate {row['candidate_id'][:12]} {against}, on snapshot {row['snapshot_id'][:12]}")
    console.print(f"verdict [bold]{row['verdict']}[/]" + (", needs approval" if row["needs_approval"] else ""))
    for finding in evidence["findings"]:
        console.print(f"  {finding['outcome']:>9}  {finding['reason']}", highlight=False)
    console.print(f"evidence {world.store.uri(row['evidence_key'])}", soft_wrap=True)
