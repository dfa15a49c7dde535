"""`scanloop bag`: one inspected object and its views."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanloop.cli.options import open_world

if TYPE_CHECKING:
    import sqlalchemy as sa

app = typer.Typer(no_args_is_help=True, help="Look at one inspected object.")


@app.callback()
def group() -> None:
    """Look at one inspected object."""


@app.command("show")
def show(
    bag_id: Annotated[str, typer.Argument(help="Site, issuer and number, such as north/north/b000123.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the views of a bag, which scan holds which plane of them, what does not fit together, and what reports say about it."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import bags, scans, threat_reports
    from scanloop.errors import WrongArguments
    from scanloop.scans.grouping import views_of_bag

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        site = connection.scalar(sa.select(bags.c.site_id).where(bags.c.bag_id == bag_id))
        held = scans.c.state.in_(("received", "validated"))
        rows = [dict(row._mapping) for row in connection.execute(sa.select(scans).where(scans.c.bag_id == bag_id, held))]
        reports = [dict(row) for row in connection.execute(_reports_of(threat_reports, bag_id)).mappings()]
    if site is None:
        raise WrongArguments(f"No bag is called {bag_id!r}.")
    views = views_of_bag(rows)
    if as_json:
        shown = {"bag_id": bag_id, "site_id": site, "views": [view.as_dict() for view in views], "reports": reports}
        sys.stdout.write(json.dumps(shown, indent=1, default=str) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("view", "kind", "size", "planes", "contradictions", title=f"{bag_id}: {len(views)} views of {len(rows)} scans")
    for view in views:
        planes = ", ".join(f"{plane.name} ({plane.scan_id[:12]})" for plane in view.planes)
        size = " x ".join(map(str, view.shape))
        table.add_row(escape(view.view_name), view.modality, size, planes, escape("; ".join(view.contradictions)))
    Console().print(table)
    if reports:
        said = Table("report", "type", "decision", "threats", "when", "state", title=f"{len(reports)} reports")
        for row in reports:
            state = f"{row['state']}: {row['problem']}" if row["problem"] else row["state"]
            when = row["decided_at"].isoformat() if row["decided_at"] else ""
            said.add_row(row["report_id"][:12], row["tdr_type"], row["decision"], str(row["threats"]), when, state)
        Console().print(said)


def _reports_of(reports: sa.Table, bag_id: str) -> sa.Select[Any]:
    """What reports say about a bag, in the order that they were decided."""
    import sqlalchemy as sa

    from scanloop.catalog import tables

    names = ("report_id", "tdr_type", "decision", "is_aborted", "decided_at", "state", "problem", "wanted", "matches")
    columns = [reports.c[name] for name in names]
    notes, scans = tables.annotations.c, tables.scans.c
    matched = sa.select(notes.report_id).join(tables.scans, scans.scan_id == notes.scan_id).where(scans.bag_id == bag_id)
    query = sa.select(*columns, sa.func.jsonb_array_length(reports.c.threats).label("threats"))
    query = query.where(sa.or_(reports.c.bag_id == bag_id, reports.c.report_id.in_(matched)))
    return query.order_by(reports.c.decided_at, reports.c.report_id)
