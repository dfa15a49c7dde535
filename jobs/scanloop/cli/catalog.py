"""`scanloop catalog`: the database itself."""

from __future__ import annotations

from contextlib import closing

import typer

from scanloop.cli.options import open_catalog, print_result
from scanloop.settings import read_settings

app = typer.Typer(no_args_is_help=True, help="The catalog's database.")


@app.command("migrate")
def migrate() -> None:
    """Bring the database to this version's schema. Safe to run twice and to kill."""
    from scanloop.catalog.migrate import migrate as apply

    with closing(open_catalog(read_settings(), any_revision=True)) as catalog:
        print_result({"revision": apply(catalog)})


@app.command("serve")
def serve() -> None:
    """Start the embedded PostgreSQL if it does not run, and print its URL. It goes on until `scanloop catalog stop`."""
    from scanloop.catalog.embedded import serve_embedded

    typer.echo(serve_embedded(read_settings().postgres_folder))


@app.command("stop")
def stop() -> None:
    """Stop the embedded PostgreSQL."""
    from scanloop.catalog.embedded import stop_embedded

    stop_embedded(read_settings().postgres_folder)


@app.command("dump")
def dump() -> None:
    """Print the whole catalog in canonical form: what two catalogs that hold the same must both print."""
    from scanloop.catalog.canonical import canonical_lines

    with closing(open_catalog(read_settings())) as catalog:
        for line in canonical_lines(catalog):
            typer.echo(line)
