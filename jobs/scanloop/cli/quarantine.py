"""`scanloop quarantine`: what could not be read or did not pass, and the way back."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, open_world, run_job

if TYPE_CHECKING:
    import sqlalchemy as sa

app = typer.Typer(no_args_is_help=True, help="Look at what could not be read or did not pass validation, and let it out after a fix.")

IdArgument = Annotated[str, typer.Argument(help="SHA-256 of the content, or its first digits.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


_MOST_SHOWN = 100
"""Places of delivery that are listed; a content may have been delivered any number of times."""
_OF_VALIDATION = {
    "failed_validation": "expectations of a suite were not met",
    "scanner_drifted": "nothing is wrong with it by itself: the scanner that made it had drifted",
}
"""Reason codes of validation, and what they mean."""
_NEXT = {
    "held": "After a fix, or when it should be tried again: scanloop quarantine release {}",
    "released": "The next ingest reads it again, unless it has: then it is a scan.",
}


@app.command("list")
def list_(
    state: Annotated[Literal["held", "released", "all"], typer.Option("--state", help="Which contents.")] = "held",
    reason_code: Annotated[str | None, typer.Option("--reason-code", help="Only these.", show_default="any")] = None,
    stage: Annotated[Literal["intake", "validation"] | None, typer.Option("--stage", help="What refused them.", show_default="any")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Id of the site that delivered them.", show_default="any")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List contents in quarantine with the reason."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import quarantine

    wanted = {"state": None if state == "all" else state, "reason_code": reason_code, "stage": stage, "site_id": site}
    conditions = [quarantine.c[name] == value for name, value in wanted.items() if value is not None]
    query = sa.select(quarantine).where(*conditions).order_by(quarantine.c.created_at.desc(), quarantine.c.quarantine_id).limit(limit)
    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        if reason_code is not None:
            _check_reason_code(connection, reason_code)
        rows = [dict(row._mapping) for row in connection.execute(query)]
        total = connection.scalar(sa.select(sa.func.count()).select_from(quarantine).where(*conditions))
    if as_json:
        sys.stdout.writelines(json.dumps(row, default=str, sort_keys=True) + "\n" for row in rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    title = f"{total} in quarantine" + (f", the newest {len(rows)}" if total != len(rows) else "")
    table = Table("content", "stage", "reason", Column("delivered as", overflow="fold"), "state", title=title)
    for row in rows:
        reason = _shown(f"{row['reason_code']}: {row['reason']}")
        table.add_row(row["quarantine_id"][:12], row["stage"], escape(reason), escape(_shown(row["landing_key"])), row["state"])
    Console().print(table)


def _check_reason_code(connection: sa.Connection, reason_code: str) -> None:
    """Refuse a reason that nothing can have: a slip of the pen would look like an empty quarantine."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import quarantine
    from scanloop.errors import WrongArguments
    from scanloop.scans.errors import REASONS

    known = {*REASONS, *_OF_VALIDATION, *connection.scalars(sa.select(quarantine.c.reason_code).distinct())}
    if reason_code not in known:
        raise WrongArguments(f"No content is refused as {_shown(reason_code)[:40]!r}. Known: {', '.join(sorted(known))}.")


@app.command("show")
def show(quarantine_id: IdArgument) -> None:
    """Show one content: reason, whether its bytes are intact, where it was delivered, what happened to it, how to let it out."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import audit_log, deliveries
    from scanloop.intake.release import find
    from scanloop.scans.errors import REASONS

    world = open_world()
    with closing(world.catalog):
        row = find(world.catalog, quarantine_id)
        digest = row.quarantine_id
        of_content = deliveries.c.content_sha256 == digest
        keys = sa.select(deliveries.c.landing_key).where(of_content).order_by(deliveries.c.landing_key).limit(_MOST_SHOWN)
        events = sa.select(audit_log.c.at, audit_log.c.action, audit_log.c.actor, audit_log.c.run_id).where(
            audit_log.c.subject_id == digest
        )
        with world.catalog.read() as connection:
            delivered_as = list(connection.scalars(keys))
            times = connection.scalar(sa.select(sa.func.count()).select_from(deliveries).where(of_content))
            history = [dict(event._mapping) for event in connection.execute(events.order_by(audit_log.c.seq))]
        kept = world.store.head(row.raw_key)
        details = dict(row._mapping) | {
            "reason_means": (REASONS | _OF_VALIDATION).get(row.reason_code, row.reason_code),
            "raw_uri": world.store.uri(row.raw_key),
            "raw_bytes": kept.size_bytes if kept else None,
            "raw_is_intact": kept is not None and world.store.verify(row.raw_key, digest),
            "times_delivered": times,
            "deliveries": delivered_as,
            "history": history,
            "next": _NEXT[row.state].format(digest[:12]),
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
