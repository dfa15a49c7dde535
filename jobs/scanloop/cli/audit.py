"""`scanloop audit`: was anything changed behind Scanloop's back?"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Annotated

import typer

from scanloop.cli.options import open_world, print_result
from scanloop.errors import DataWrong

log = logging.getLogger(__name__)
SAID_EVERY = 1000
app = typer.Typer(no_args_is_help=True, help="The audit log: append-only, chained by hashes, anchored in every receipt.")


@app.command("verify")
def verify(
    rows: Annotated[
        bool, typer.Option("--rows/--no-rows", help="Also play every run's changes again and compare each row of the catalog with them.")
    ] = True,
) -> None:
    """Check the log, entry by entry and against what the receipts in the store remember; then the catalog, row by row, against the record.

    The rows take time and temporary disk in proportion to the catalog. Exit 65 if anything is wrong.
    """
    from scanloop.execution.anchors import audit_violations
    from scanloop.execution.replay import row_violations

    world = open_world()
    with closing(world.catalog):
        found = list(audit_violations(world.catalog, world.store))
        if rows:
            found += row_violations(world.catalog, world.store, _say_progress)
        with world.catalog.read() as connection:
            from scanloop.catalog.audit import head

            seq, digest = head(connection)
    for violation in found:
        typer.echo(violation, err=True)
    if found:
        raise DataWrong(f"{len(found)} violation(s); the first: {found[0]}")
    print_result({"entries": seq, "head": digest, "rows": rows, "violations": 0})


def _say_progress(done: int, total: int) -> None:
    if done % SAID_EVERY == 0:
        log.info("Played %d of %d runs again.", done, total)


@app.command("show")
def show(
    subject: Annotated[str, typer.Argument(help="An id, or the start of one: a scan, a run, a model, …")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="Newest entries to show.")] = 50,
) -> None:
    """Show the newest entries, or those of one subject."""
    import sqlalchemy as sa
    from rich.console import Console
    from rich.table import Table

    from scanloop.catalog.tables import audit_log

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        query = sa.select(audit_log).order_by(audit_log.c.seq.desc()).limit(limit)
        if subject:
            query = query.where(audit_log.c.subject_id.startswith(subject, autoescape=True) | (audit_log.c.run_id == subject))
        table = Table("seq", "at", "actor", "action", "subject", "run")
        for row in connection.execute(query):
            table.add_row(str(row.seq), f"{row.at:%Y-%m-%d %H:%M:%S}", row.actor, row.action, row.subject_id[:24], row.run_id[:40])
    Console().print(table)
