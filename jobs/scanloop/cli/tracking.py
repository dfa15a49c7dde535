"""`scanloop tracking`: what a ClearML server was told, and what waits."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, load_definition, open_world, print_result, run_job
from scanloop.errors import DataWrong, WrongArguments

app = typer.Typer(
    no_args_is_help=True,
    help="Experiments, models, snapshots and reports on a ClearML server. No job waits for it: trainings write spools, everything else follows from "
    "the catalog, and `scanloop tracking sync` tells the server what it has not heard, each thing once. Name a server with CLEARML_API_HOST, "
    "CLEARML_WEB_HOST, CLEARML_FILES_HOST, CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY; without one, everything waits.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]
LineArgument = Annotated[str, typer.Argument(metavar="PRODUCT_LINE", help="Key of the product line.", show_default=False)]


@app.command("list")
def list_(
    product_line: Annotated[str | None, typer.Option("--product-line", help="Only of this one.", show_default="every one")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what waits to be told, in the order in which the next sync tells it, and why if it was refused."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from scanloop.tracking import outbox
    from scanloop.tracking.server import is_configured

    world = open_world()
    with closing(world.catalog):
        rows = [_waiting(item) for item in outbox.waiting(world.catalog)]
        rows += [_open(found) for found in outbox.open_experiments(world.catalog, world.store) if not found.has_receipt]
    rows = [row for row in rows if product_line in (None, row["product_line"])]
    if as_json:
        sys.stdout.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        return
    server = "a ClearML server is named" if is_configured() else "no ClearML server is named"
    table = Table("what", "id", "product line", "state", title=f"{len(rows)} waiting; {server}")
    for row in rows:
        table.add_row(row["kind"], row["subject_id"][:12], row["product_line"], escape(row["state"]))
    Console().print(table)


def _waiting(item: Any) -> dict[str, Any]:
    state = "waits"
    if item.attempts:
        times = f"{item.attempts} time{'s' if item.attempts > 1 else ''}"
        state = f"{'given up, ' if item.is_given_up else ''}refused {times}: {item.message}"
    return {"kind": item.kind, "subject_id": item.subject_id, "product_line": item.product_line, "state": state}


def _open(found: Any) -> dict[str, Any]:
    state = "running" if found.is_running else "died, or between two attempts"
    begin = found.begin
    return {"kind": "experiment", "subject_id": begin["tracking_id"], "product_line": begin["product_line"], "state": state}


@app.command("show")
def show(
    subject: Annotated[
        str, typer.Argument(help="Tracking id, snapshot, model, evaluation or decision, or the beginning of it.", show_default=False)
    ],
) -> None:
    """Show where something is on the server: its id there, its page, and the offline session it came from."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import tracked

    world = open_world()
    query = (
        sa.select(tracked).where(tracked.c.subject_id.startswith(subject, autoescape=True)).order_by(tracked.c.kind, tracked.c.subject_id)
    )
    with closing(world.catalog), world.catalog.read() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    if not rows:
        raise WrongArguments(f"The server was told of nothing that begins with {subject!r}. See: scanloop tracking list")
    for row in rows:
        print_result({**row, "changed_at": row["changed_at"].isoformat()})


@app.command("sync")
def sync(
    settle_s: Annotated[
        int, typer.Option("--settle-s", min=0, help="Experiments of runs that died are closed as aborted so long after their last start.")
    ] = 600,
    retry_refused: Annotated[bool, typer.Option("--retry-refused", help="Try what was refused now, also what was given up.")] = False,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Tell the server what it has not heard: spools of experiments, snapshots, models, evaluations, decisions, reports.

    Safe to kill and to run again: whatever it makes carries a tag by which it is found before it would be made again. What the server refuses is
    noted with the reason, holds up nothing else, and is tried eight times within a day. Exit code 99: nothing waits, or no server is named; 75: the
    server cannot be reached.
    """
    from scanloop.tracking.sync import sync_tracking

    run_job(
        "tracking.sync",
        lambda run: sync_tracking(run, settle_s, retry_refused=retry_refused),
        options=RunOptions(run_id, attempt),
        lease="tracking",
    )


@app.command("champion")
def champion(product_line: LineArgument) -> None:
    """Ask the server which model is the champion, and compare with the catalog. The catalog is the truth; exit code 65 if they differ."""
    from scanloop.tracking.facts import champion_id
    from scanloop.tracking.registry import find_champions

    world = open_world()
    with closing(world.catalog):
        load_definition(world.catalog, product_line)
        truth = champion_id(world.catalog, product_line)
    said = find_champions(_server(), product_line)
    print_result({"product_line": product_line, "catalog": truth, "server": said, "agrees": said == ([truth] if truth else [])})
    if said != ([truth] if truth else []):
        raise DataWrong(
            f"The champion of {product_line} is {truth or 'nobody'}; the server says {', '.join(said) or 'nobody'}. "
            "The catalog is right. Run: scanloop tracking sync"
        )


@app.command("report")
def report(
    product_line: LineArgument,
    send: Annotated[bool, typer.Option("--send", help="Write it to the server now, instead of printing it.")] = False,
) -> None:
    """Print the report that compares the versions of a product line, as the server shows it."""
    from scanloop.tracking.facts import versions_of
    from scanloop.tracking.reports import report_text, write_report
    from scanloop.tracking.server import is_configured

    world = open_world()
    with closing(world.catalog):
        load_definition(world.catalog, product_line)
        versions = versions_of(world.catalog, product_line)
    if not send:
        sys.stdout.write(report_text(product_line, versions, ""))
        return
    if not is_configured():
        raise WrongArguments("No ClearML server is named. Set CLEARML_API_HOST, or leave --send out.")
    server = _server()
    report_id, url = write_report(server, product_line, report_text(product_line, versions, server.web_host))
    print_result({"report_id": report_id, "url": url})


def _server() -> Any:
    from scanloop.tracking.server import Server, configure, is_configured

    if not is_configured():
        raise WrongArguments("No ClearML server is named. Set CLEARML_API_HOST and the other CLEARML_* variables.")
    with TemporaryDirectory() as folder:
        configure(Path(folder))
        return Server()
