"""`scanloop annotation`: what is known about scans."""

from __future__ import annotations

import typer

from scanloop.cli.searching import add_searching

app = typer.Typer(no_args_is_help=True, help="Search annotations by query, and give them tags and attributes.")
add_searching(app, "annotation")
