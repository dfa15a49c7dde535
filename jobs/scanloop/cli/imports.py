"""`scanloop import`: bring a research set in, as scans and annotations."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, open_world, print_result, run_job_in_chunks

if TYPE_CHECKING:
    from scanloop.imports.source import Source

log = logging.getLogger(__name__)
SHOWN = 20
"""Problems shown on the terminal one by one."""
LINE_EVERY = 2000

app = typer.Typer(no_args_is_help=True, help="Bring public research sets in, as scans and annotations: COCO JSON, Pascal VOC XML, text.")

WhatArg = Annotated[str, typer.Argument(metavar="PRESET", help="A known set, or a format: see `import presets`.", show_default=False)]
FolderArg = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Where the set was unpacked.", show_default=False)]
CategoriesOption = Annotated[
    Path | None,
    typer.Option("--categories", exists=True, dir_okay=False, help="YAML: `categories: {NAME: id or null}`.", show_default="the preset's"),
]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", help="A split of the set; may be repeated.", show_default="the usual ones")
]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="What the set is called here.", show_default="the preset's name")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print every problem as a JSON line, before the result.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", dir_okay=False, help="Write every problem as a JSON line into this file.", show_default="nothing")
]


@app.command("presets")
def presets(as_json: JsonOption = False) -> None:
    """List the known sets and formats: what is expected where, and what their categories become."""
    from scanloop.imports.presets import PRESETS

    if as_json:
        sys.stdout.writelines(json.dumps(_described(name)) + "\n" for name in PRESETS)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("preset", "format", "splits", "expects", "categories", show_lines=True)
    for name in PRESETS:
        about = _described(name)
        table.add_row(
            name, about["format"], ", ".join(about["splits"]), escape("\n".join(about["expects"])), escape(", ".join(about["categories"]))
        )
    Console().print(table)


def _described(name: str) -> dict[str, Any]:
    from scanloop.imports.presets import PRESETS

    preset = PRESETS[name]
    split = preset.splits[0]
    expects = [" or ".join(places) for places in (split.index, split.listing, split.labels, split.pictures) if places]
    categories = [f"{source} → {found or 'left out'}" for source, found in preset.categories.categories.items()]
    return {
        "preset": name,
        "title": preset.title,
        "format": preset.format,
        "splits": [split.name for split in preset.splits],
        "expects": expects,
        "categories": categories,
        "page": preset.page,
        "note": preset.note,
    }


@app.command("check")
def check(
    what: WhatArg,
    folder: FolderArg,
    categories: CategoriesOption = None,
    split: SplitOption = None,
    dataset: DatasetOption = None,
    taxonomy: Annotated[
        Path | None,
        typer.Option("--taxonomy", exists=True, dir_okay=False, help="Check categories against this taxonomy.", show_default="not checked"),
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Read every picture too, and place the boxes in it.")] = True,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Read a set as an import would, say what is odd about it one by one, and write nothing. Needs no deployment."""
    from scanloop.imports.check import check_import
    from scanloop.imports.problems import encode_problems

    source = _source(what, folder, categories, split, dataset)
    if taxonomy is not None:
        from scanloop.taxonomy.tree import read_taxonomy

        read = read_taxonomy(taxonomy)
        source.mapping.check_known([category.id for category in read.categories], read.taxonomy_version)
    with _progress() as progress:
        result, problems = check_import(source, progress, with_pictures=pictures)
    _tell(encode_problems(problems.kept), sum(problems.counts.values()), as_json=as_json, out=out)
    print_result(result)


@app.command("run")
def run(
    what: WhatArg,
    folder: FolderArg,
    product_line: ProductLineArg,
    categories: CategoriesOption = None,
    split: SplitOption = None,
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Import a set for a product line. The same import again changes nothing; a corrected index replaces the annotations it corrects."""
    from scanloop.imports.run import JOB, import_job

    source = _source(what, folder, categories, split, dataset)
    with _progress() as progress:
        body, total = import_job(source, progress)
        result = run_job_in_chunks(
            JOB,
            body,
            total,
            options=RunOptions(run_id, attempt),
            part=source.dataset,
            product_line=product_line,
            lease=f"import/{source.dataset}",
            tell=lambda found: _tell_stored(found, as_json=as_json, out=out),
        )
    if not source.mapping.ids:
        log.warning("No category of %s is mapped: its scans came without annotations.", source.dataset)
    log.info("%d of %d images are annotated.", result["annotations"] + result["replaced"] + result["unchanged"], result["images"])


def _source(what: str, folder: Path, categories: Path | None, split: list[str] | None, dataset: str | None) -> Source:
    from scanloop.imports.mapping import read_mapping
    from scanloop.imports.presets import preset_named
    from scanloop.imports.source import source_of

    mapping = read_mapping(categories) if categories is not None else None
    return source_of(preset_named(what), folder, dataset=dataset, mapping=mapping, splits=tuple(split or ()))


def _tell_stored(result: dict[str, Any], *, as_json: bool, out: Path | None) -> None:
    """Say what the store holds about an import's problems, whoever did the import."""
    content = b""
    if result["problems_key"]:
        world = open_world()
        with closing(world.catalog):
            content = world.store.get(result["problems_key"])
            log.info("Every problem is in %s.", world.store.uri(result["problems_key"]))
    _tell(content, sum(result["problems"].values()), as_json=as_json, out=out)


def _tell(content: bytes, count: int, *, as_json: bool, out: Path | None) -> None:
    """Show problems: the first of each kind on the terminal, all of them where they were asked for."""
    from scanloop.imports.problems import decode_problems

    if out is not None:
        out.write_bytes(content)
    if as_json:
        sys.stdout.write(content.decode())
        return
    shown = [problem.line for _, problem in zip(range(SHOWN), decode_problems(content), strict=False)]
    sys.stderr.writelines(line + "\n" for line in shown)
    if count > len(shown):
        sys.stderr.write(f"… and {count - len(shown)} more; --out FILE writes all of them.\n")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show what is being done on standard error: a bar on a terminal, else (or with SCANLOOP_PROGRESS=log) a line now and then."""
    if not sys.stderr.isatty() or os.environ.get("SCANLOOP_PROGRESS") == "log":

        def line(what: str, done: int, total: int) -> None:
            if done % LINE_EVERY == 0 or done == total:
                log.info("%s: %d of %s images.", what, done, total or "?")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)

        yield bar
