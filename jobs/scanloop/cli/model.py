"""`scanloop model`: train candidates and look at what was trained."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Annotated, Any

import typer

from scanloop.cli.options import (
    AttemptOption,
    ProductLineArg,
    RunIdOption,
    RunOptions,
    World,
    load_definition,
    open_world,
    print_result,
    run_job,
)
from scanloop.execution import JobRun
from scanloop.settings import read_settings
from scanloop.store import open_store

app = typer.Typer(no_args_is_help=True, help="Train detectors on snapshots; list and show the models that came out.")
log = logging.getLogger(__name__)
LINE_EVERY = 10
"""Iterations between two log lines, where there is no terminal to draw on."""
OnStep = Callable[[int, int, Mapping[str, float]], None]


@app.command("train")
def train(
    product_line: ProductLineArg,
    snapshot: Annotated[str | None, typer.Option(help="Id of the snapshot, or the beginning of it.", show_default="the newest")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of the recipe.", show_default="the product line's")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key=value for one option of the recipe, as in --set iterations=50. May be repeated.")
    ] = None,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Train a candidate on a frozen snapshot. A killed training goes on where it was when the same run is started again.

    Starts from the champion's weights where there is one of the same recipe; --set warm_start=false starts from scratch. Evaluation and promotion
    are commands of their own. Several GPUs: SCANLOOP_PROCESSES_PER_NODE and, for several machines, SCANLOOP_NODES and SCANLOOP_RENDEZVOUS.
    """
    from scanloop.training.fitting import help_fit
    from scanloop.training.launch import launch, must_launch
    from scanloop.training.team import joined
    from scanloop.training.train import train_detector

    if must_launch():
        raise typer.Exit(launch(sys.argv[1:]))
    with joined() as team:
        if not team.is_first:
            help_fit(open_store(read_settings().store_url), team)
            return
        is_begun = False
        with _progress(f"{product_line}: training") as on_step:

            def body(run: JobRun) -> dict[str, Any]:
                nonlocal is_begun
                is_begun = True
                return train_detector(run, snapshot_id=snapshot, recipe_name=recipe, overrides=override or (), on_step=on_step, team=team)

            run_job("model.train", body, product_line=product_line, options=RunOptions(run_id, attempt), lease="train")
        if not is_begun:
            team.share(None)  # the receipt was there already: nobody has anything to do


@app.command("reproduce")
def reproduce(
    model_id: Annotated[str, typer.Argument(help="Id of the model, or the beginning of it.", show_default=False)],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Train a model again from its record, in a run of its own, and compare. Publishes nothing.

    Equal machines must give equal weights; others losses and val metrics within stated tolerances. Exit code 0: reproduced, 65: not. What differs
    in the environment is said.
    """
    from scanloop.errors import DataWrong
    from scanloop.training.reproduce import reproduce_model

    world = open_world()
    with closing(world.catalog):
        row = _find(world, model_id)
    with _progress(f"{row['model_id'][:12]}: training again") as on_step:
        result = run_job(
            "model.reproduce",
            lambda run: reproduce_model(run, row, on_step),
            product_line=row["product_line"],
            options=RunOptions(run_id, attempt),
        )
    _show_verdict(result)
    if not result["is_reproduced"]:
        raise DataWrong(f"Model {row['model_id'][:12]} was not reproduced.")


def _show_verdict(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    verdict = "reproduced" if result["is_reproduced"] else "not reproduced"
    table = Table(title=f"Model {result['model_id'][:12]}: {verdict}")
    for heading in ("compared", "recorded", "now", "limit", "holds"):
        table.add_column(heading)
    for check in result["checks"]:
        table.add_row(
            *(check[name] for name in ("what", "recorded", "found", "limit")), {True: "yes", False: "no", None: ""}[check["holds"]]
        )
    for name, (recorded, found) in result["differing"].items():
        table.add_row(f"environment: {name}", recorded, found, "", "")
    Console(stderr=True).print(table)


@app.command("list")
def list_models(
    product_line: Annotated[
        str | None, typer.Option("--product-line", help="Only models of this product line.", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line a model.")] = False,
) -> None:
    """List models, newest first."""
    import sqlalchemy as sa

    from scanloop.catalog.tables import models

    wanted = sa.select(models).order_by(models.c.created_at.desc(), models.c.model_id)
    if product_line is not None:
        wanted = wanted.where(models.c.product_line == product_line)
    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        if product_line is not None:
            load_definition(world.catalog, product_line)
        rows = [dict(row) for row in connection.execute(wanted).mappings()]
    if as_json:
        for row in rows:
            print_result(_facts(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Models" if rows else "No models yet")
    for heading in ("model", "product line", "state", "recipe", "snapshot", "parent", "val AP50", "trained"):
        table.add_column(heading)
    for row in rows:
        ap50 = row["metrics"].get("val_ap50")
        table.add_row(
            row["model_id"][:12],
            row["product_line"],
            row["state"],
            row["recipe"],
            row["snapshot_id"][:12],
            (row["parent_model_id"] or "none")[:12],
            "n/a" if ap50 is None else f"{ap50:.3f}",
            f"{row['created_at']:%Y-%m-%d %H:%M}",
        )
    Console().print(table)


@app.command("show")
def show(
    model_id: Annotated[str, typer.Argument(help="Id of the model, or the beginning of it.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as one JSON line.")] = False,
) -> None:
    """Show one model: where it came from, how it was made, its first numbers."""
    world = open_world()
    with closing(world.catalog):
        facts = _facts(_find(world, model_id))
    if as_json:
        print_result(facts)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Model {facts['model_id'][:12]}", show_header=False)
    for name, value in facts.items():
        shown = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name, shown)
    Console().print(table)


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if name != "created_at" else value.isoformat() for name, value in row.items()}


def _find(world: World, model_id: str) -> dict[str, Any]:
    import sqlalchemy as sa

    from scanloop.catalog.tables import models
    from scanloop.errors import WrongArguments

    with world.catalog.read() as connection:
        matching = models.c.model_id.startswith(model_id, autoescape=True)
        rows = [dict(row) for row in connection.execute(sa.select(models).where(matching).limit(2)).mappings()]
    if len(rows) != 1:
        raise WrongArguments(f"{'More than one model begins' if rows else 'No model begins'} with {model_id!r}.")
    return rows[0]


@contextmanager
def _progress(title: str) -> Iterator[OnStep]:
    """Show steps on standard error: a bar on a terminal, else (or with SCANLOOP_PROGRESS=log) a line now and then."""
    if sys.stderr.isatty() and os.environ.get("SCANLOOP_PROGRESS") != "log":
        yield from _bar(title)
    else:
        yield _lines(title)


def _bar(title: str) -> Iterator[OnStep]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        shown = progress.add_task(title, total=None, loss=0.0)
        yield lambda done, total, values: progress.update(shown, completed=done, total=total, loss=values.get("loss", 0.0))


def _lines(title: str) -> OnStep:
    began: list[tuple[int, float]] = []

    def say(done: int, total: int, values: Mapping[str, float]) -> None:
        if not began:
            began.append((done, time.monotonic()))
        if done % LINE_EVERY == 0 or done == total:
            first, then = began[0]
            pace = (time.monotonic() - then) / max(1, done - first)
            log.info(
                "%s: %d of %d, loss %.3f, %.2f s a step, %.0f s left",
                title,
                done,
                total,
                values.get("loss", 0.0),
                pace,
                pace * (total - done),
            )

    return say
