"""`scanloop report`: Threat Detection Reports that were received, and the scans that they wait for."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated, Any, Literal

import typer

from scanloop.cli.options import open_world

app = typer.Typer(no_args_is_help=True, help="Look at received Threat Detection Reports, and at the scans that they wait for.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(
    state: Annotated[Literal["waiting", "matched", "void", "all"], typer.Option("--state", help="Which reports.")] = "all",
    tdr_type: Annotated[
        Literal["ground_truth", "machine", "operator", "aggregate", "other", "all"], typer.Option("--type", help="Whose word they are.")
    ] = "all",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List reports: what each decided, which scans it names, and why it waits."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import threat_reports

    columns = [column for column in threat_reports.c if column.name != "threats"]
    query = sa.select(*columns, sa.func.jsonb_array_length(threat_reports.c.threats).label("threats"))
    for column, wanted in ((threat_reports.c.state, state), (threat_reports.c.tdr_type, tdr_type)):
        if wanted != "all":
            query = query.where(column == wanted)
    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        ordered = query.order_by(threat_reports.c.created_at.desc(), threat_reports.c.report_id).limit(limit)
        rows = [dict(row) for row in connection.execute(ordered).mappings()]
    if as_json:
        sys.stdout.writelines(json.dumps(row, default=str, sort_keys=True) + "\n" for row in rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("report", "type", "site", "bag", "decision", "threats", "scans", "state", title=f"{len(rows)} reports")
    for row in rows:
        found = f"{len(row['matches'])} of {len(row['wanted'])}" if row["wanted"] else f"{len(row['matches'])}, by study"
        state_shown = f"{row['state']}: {row['problem']}" if row["problem"] else row["state"]
        cells = (row["tdr_type"], escape(row["site_id"]), escape(row["bag_id"]), row["decision"], str(row["threats"]), found, state_shown)
        table.add_row(row["report_id"][:12], *cells)
    Console().print(table)


@app.command("show")
def show(
    report_id: Annotated[str, typer.Argument(help="SHA-256 of the report, or its first digits.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show one report: what it says, the scans that it was matched to, the annotations that came of it."""
    import sqlalchemy as sa

    from scanloop.catalog import tables as t
    from scanloop.intake.reports import PROBLEMS

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        row = _find(connection, report_id)
        notes, places = t.annotations.c, t.deliveries.c
        columns = (notes.annotation_id, notes.scan_id, notes.author, notes.looked_for, notes.boxes)
        found = connection.execute(sa.select(*columns).where(notes.report_id == row["report_id"]).order_by(notes.scan_id))
        keys = sa.select(places.landing_key).where(places.content_sha256 == row["report_id"]).order_by(places.landing_key)
        shown: dict[str, Any] = {
            **row,
            "problem_means": PROBLEMS.get(row["problem"], ""),
            "raw_uri": world.store.uri(row["raw_key"]),
            "annotations": [dict(note) for note in found.mappings()],
            "deliveries": list(connection.scalars(keys)),
        }
    if as_json:
        sys.stdout.write(json.dumps(shown, default=str, indent=1) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table("", Column(overflow="fold"), show_header=False)
    for name in ("report_id", "tdr_type", "decision", "decided_at", "site_id", "bag_id", "study_uid", "state", "problem", "problem_means"):
        table.add_row(name, escape(str(shown[name] if shown[name] is not None else "")))
    table.add_row("waits for", escape(", ".join(uid for uid in row["wanted"] if uid not in {match["uid"] for match in row["matches"]})))
    for note in shown["annotations"]:
        boxes = "; ".join(f"{box['category']} at {', '.join(f'{side:g}' for side in box['bbox_xywh'])}" for box in note["boxes"])
        said = boxes or ("nothing there" if note["looked_for"] else "nothing that could be placed")
        table.add_row(f"scan {note['scan_id'][:12]}", escape(said))
    Console().print(table)


def _find(connection: Any, report_id: str) -> dict[str, Any]:
    """The report that an id, or the start of one, names. Raises WrongArguments."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import threat_reports
    from scanloop.errors import WrongArguments

    if not report_id.isalnum():
        raise WrongArguments(f"Expected the start of a SHA-256, found {report_id[:40]!r}.")
    query = sa.select(threat_reports).where(threat_reports.c.report_id.startswith(report_id.lower())).limit(2)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if len(rows) != 1:
        raise WrongArguments(f"{'No report has' if not rows else 'More than one report has'} the id {report_id[:64]}.")
    return rows[0]
