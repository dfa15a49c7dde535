"""`scanloop definitions`: product lines and the taxonomy, from files in git to the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, run_job

app = typer.Typer(no_args_is_help=True, help="Check product line files and store each version in the catalog.")
FolderOption = Annotated[Path, typer.Option("--folder", help="Folder with taxonomy.yaml and one YAML file a product line.")]


@app.command("check")
def check(folder: FolderOption = Path("product_lines")) -> None:
    """Check every file; the first mistake is named with its file and field."""
    from scanloop.catalog.definitions import read_folder

    taxonomy, lines = read_folder(folder)
    names = ", ".join(line.product_line for line in lines)
    typer.echo(f"Taxonomy {taxonomy.taxonomy_version}: {len(taxonomy.categories)} categories. Product lines: {names}.")


@app.command("apply")
def apply(folder: FolderOption = Path("product_lines"), run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Store the taxonomy and every product line in the catalog, and make these versions the active ones."""
    from scanloop.catalog.definitions import apply_definitions, read_folder

    taxonomy, lines = read_folder(folder)
    run_job(
        "definitions.apply", lambda run: apply_definitions(run, taxonomy, lines), options=RunOptions(run_id, attempt), lease="definitions"
    )


@app.command("diff")
def diff(
    folder: FolderOption = Path("product_lines"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Say what applying a folder would change, field by field. Exit code 99: nothing."""
    import json
    from contextlib import closing

    from scanloop.catalog.definitions import check_follows, definition_changes, read_folder
    from scanloop.cli.options import open_world
    from scanloop.errors import DataWrong, NothingToDo

    taxonomy, lines = read_folder(folder)
    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        found = definition_changes(connection, taxonomy, lines)
        is_new = any(change.product_line == "taxonomy" and change.field == taxonomy.taxonomy_version for change in found)
        try:
            if is_new:
                check_follows(connection, taxonomy)
        except DataWrong as error:
            typer.echo(f"Applying this is refused: {error.message}", err=True)
    if as_json:
        for change in found:
            typer.echo(json.dumps(vars(change), sort_keys=True))
    elif found:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("product line", "field", "in the catalog", "in the folder")
        for change in found:
            table.add_row(change.product_line, change.field or "all of it", *(escape(_shown(one)) for one in (change.before, change.after)))
        Console().print(table)
    if any(change.product_line == "taxonomy" and change.before is not None for change in found):
        typer.echo(
            f"A version of a taxonomy never changes: applying this is refused until {taxonomy.taxonomy_version} gets another name.",
            err=True,
        )
    if not found:
        raise NothingToDo("the folder and the catalog say the same.")


def _shown(value: object) -> str:
    import json

    text = "" if value is None else json.dumps(value)
    return text if len(text) <= 200 else text[:199] + "…"
