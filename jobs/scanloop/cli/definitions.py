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
