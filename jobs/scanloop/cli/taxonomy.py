"""`scanloop taxonomy`: versions of the tree of categories, and what older annotations say under a newer one."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, load_definition, open_world, run_job

app = typer.Typer(no_args_is_help=True, help="Versions of the taxonomy, and annotations carried over from older ones.")
FromOption = Annotated[
    list[str] | None, typer.Option("--from", help="An older version; may be given several times.", show_default="every older one")
]


@app.command("list")
def list_() -> None:
    """List the versions, which one each follows, and which product lines use it."""
    import sqlalchemy as sa
    from rich.console import Console
    from rich.table import Table

    from scanloop.catalog import tables
    from scanloop.catalog.definitions import active_definitions

    world = open_world()
    table = Table("version", "follows", "categories", "since", "used by")
    with closing(world.catalog), world.catalog.read() as connection:
        lines = active_definitions(connection)
        for row in connection.execute(sa.select(tables.taxonomies).order_by(tables.taxonomies.c.created_at)).mappings():
            version = row["taxonomy_version"]
            users = ", ".join(line.product_line for line in lines if line.taxonomy == version)
            since = row["created_at"].strftime("%Y-%m-%d %H:%M")
            table.add_row(version, row["follows"] or "", str(len(row["categories"])), since, users)
    Console().print(table)


@app.command("show")
def show(version: Annotated[str, typer.Argument(help="Which version.", show_default=False)]) -> None:
    """Show the tree of a version, and what became of the categories of the version before."""
    import sqlalchemy as sa
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    from scanloop.catalog import tables
    from scanloop.errors import WrongArguments
    from scanloop.taxonomy.tree import from_row

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        rows = {row["taxonomy_version"]: dict(row) for row in connection.execute(sa.select(tables.taxonomies)).mappings()}
    if version not in rows:
        raise WrongArguments(f"There is no taxonomy {version!r}. Known: {', '.join(sorted(rows)) or 'none'}.")
    taxonomy = from_row(rows[version])
    tree = Tree(escape(version))
    branches = {None: tree}
    for category in taxonomy.categories:
        branches[category.id] = branches[category.parent].add(escape(f"{category.id}  {category.name}"))  # type: ignore[index]
    Console().print(tree)
    for change in taxonomy.changes:
        typer.echo(f"Since {taxonomy.follows}: {change}.")


@app.command("map")
def map_(
    product_line: ProductLineArg,
    versions: FromOption = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only say what it comes to.")] = False,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Let annotations under older versions of the taxonomy count under the one that the product line uses. Exit code 99: they do, or there is none.

    Nothing is written over: each annotation keeps the version and the categories under which it was made.
    """
    from scanloop.taxonomy.map_forward import map_forward

    _show_forecasts(product_line, tuple(versions or ()))
    if not is_dry:
        run_job(
            "taxonomy.map",
            lambda run: map_forward(run, tuple(versions or ())),
            product_line=product_line,
            options=RunOptions(run_id, attempt),
            lease="taxonomy",
        )


@app.command("unmap")
def unmap(
    product_line: ProductLineArg,
    version: Annotated[str, typer.Option("--from", help="The older version.", show_default=False)],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Take a mapping back: annotations under the older version no longer count. Exit code 99: they do not."""
    from scanloop.taxonomy.map_forward import unmap as job

    run_job(
        "taxonomy.unmap",
        lambda run: job(run, version),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="taxonomy",
    )


def _show_forecasts(product_line: str, versions: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from scanloop.errors import NothingToDo
    from scanloop.taxonomy.map_forward import forecasts

    world = open_world()
    with closing(world.catalog):
        definition = load_definition(world.catalog, product_line)
        with world.catalog.read() as connection:
            found = forecasts(connection, definition, versions)
    if not found:
        raise NothingToDo(f"annotations of {product_line} under versions older than {definition.taxonomy}: they are none.")
    for one in found:
        table = Table("category", "annotations that speak about it", title=f"{one.from_version} under {definition.taxonomy}")
        for category, count in one.known.items():
            table.add_row(category, str(count))
        table.caption = f"{one.annotations} annotations; {one.boxes_carried} of {one.boxes} boxes count"
        Console(stderr=True).print(table)
        for category, count in one.open.items():
            typer.echo(
                f"{count} annotations have a box of {category}, which was split: their scans are to be asked about again. To find them: "
                f"scanloop annotation search 'taxonomy = {one.from_version} and category = {category}'",
                err=True,
            )
