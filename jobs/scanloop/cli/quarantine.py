"""`scanloop quarantine`: what could not be read or did not pass, and the way back."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated, Literal

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, open_world, run_job

app = typer.Typer(no_args_is_help=True, help="Look at what could not be read or did not pass validation, and let it out after a fix.")

IdArgument = Annotated[str, typer.Argument(help="SHA-256 of the content, or its first digits.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


@app.command("list")
def list_(
    state: Annotated[Literal["held", "released", "all"], typer.Option("--state", help="Which contents.")] = "held",
    reason_code: Annotated[str | None, typer.Option("--reason-code", help="Only these.", show_default="any")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List contents in quarantine with the reason."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import quarantine

    query = sa.select(quarantine).order_by(quarantine.c.created_at.desc(), quarantine.c.quarantine_id).limit(limit)
    if state != "all":
        query = query.where(quarantine.c.state == state)
    if reason_code:
        query = query.where(quarantine.c.reason_code == reason_code)
    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    if as_json:
        sys.stdout.writelines(json.dumps(row, default=str, sort_keys=True) + "\n" for row in rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("content", "stage", "reason", "delivered as", "state", title=f"{len(rows)} in quarantine")
    for row in rows:
        reason = f"{row['reason_code']}: {row['reason']}"
        table.add_row(row["quarantine_id"][:12], row["stage"], escape(reason), escape(_shown(row["landing_key"])), row["state"])
    Console().print(table)


@app.command("show")
def show(quarantine_id: IdArgument) -> None:
    """Show one content: reason, where its bytes are, how often it was delivered."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import deliveries
    from scanloop.intake.release import find
    from scanloop.scans.errors import REASONS

    world = open_world()
    with closing(world.catalog):
        row = find(world.catalog, quarantine_id)
        query = (
            sa.select(deliveries.c.landing_key).where(deliveries.c.content_sha256 == row.quarantine_id).order_by(deliveries.c.landing_key)
        )
        with world.catalog.read() as connection:
            keys = list(connection.scalars(query))
        details = dict(row._mapping) | {
            "reason_means": REASONS.get(row.reason_code, "expectations of a suite were not met"),
            "raw_uri": world.store.uri(row.raw_key),
            "raw_is_intact": world.store.verify(row.raw_key, row.quarantine_id),
            "deliveries": keys,
        }
    sys.stdout.write(json.dumps(details, default=str, indent=1) + "\n")


@app.command("release")
def release(
    quarantine_id: Annotated[str | None, typer.Argument(help="SHA-256 of the content, or its first digits.", show_default=False)] = None,
    scanner: Annotated[
        str | None, typer.Option("--scanner", help="All scans that are held because this scanner had drifted.", show_default=False)
    ] = None,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Let one content out of quarantine, or all that a drifted scanner delivered: the next ingest reads the bytes again."""
    from scanloop.intake.release import release as body
    from scanloop.validation.watch import release_machine

    if (quarantine_id is None) == (scanner is None):
        raise typer.BadParameter("expected the id of a content, or --scanner")
    if scanner is not None:
        run_job("quarantine.release", lambda run: release_machine(run, scanner), options=RunOptions(run_id, attempt))
    else:
        run_job("quarantine.release", lambda run: body(run, str(quarantine_id)), options=RunOptions(run_id, attempt))


def _shown(key: str) -> str:
    """A name from outside as a terminal can show it."""
    return "".join(character if character.isprintable() else "?" for character in key)
