"""`scanloop bag`: one inspected object and its views."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated

import typer

from scanloop.cli.options import open_world

app = typer.Typer(no_args_is_help=True, help="Look at one inspected object.")


@app.callback()
def group() -> None:
    """Look at one inspected object."""


@app.command("show")
def show(
    bag_id: Annotated[str, typer.Argument(help="Site, issuer and number, such as north/north/b000123.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the views of a bag, which scan holds which plane of them, and what does not fit together."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import bags, scans
    from scanloop.errors import WrongArguments
    from scanloop.scans.grouping import views_of_bag

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        site = connection.scalar(sa.select(bags.c.site_id).where(bags.c.bag_id == bag_id))
        held = scans.c.state.in_(("received", "validated"))
        rows = [dict(row._mapping) for row in connection.execute(sa.select(scans).where(scans.c.bag_id == bag_id, held))]
    if site is None:
        raise WrongArguments(f"No bag is called {bag_id!r}.")
    views = views_of_bag(rows)
    if as_json:
        shown = {"bag_id": bag_id, "site_id": site, "views": [view.as_dict() for view in views]}
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
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
