"""What the commands share: options, the deployment they work on, and how a job is run from a command."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import sqlalchemy as sa
import typer

from scanloop.catalog import Catalog
from scanloop.errors import WrongArguments
from scanloop.execution import JobRun, RunIdentity, execute, execute_in_chunks
from scanloop.product_lines import ProductLine, check
from scanloop.settings import Settings, read_settings
from scanloop.store import Store, open_store

ProductLineArg = Annotated[str, typer.Option("--product-line", help="Key of the product line.", show_default=False)]
RunIdOption = Annotated[
    str | None,
    typer.Option(
        "--run-id", envvar="SCANLOOP_RUN_ID", help="The run this belongs to. The same run does its work once.", show_default="a new one"
    ),
]
AttemptOption = Annotated[int, typer.Option("--attempt", envvar="SCANLOOP_ATTEMPT", min=1, help="Which attempt of the run this is.")]


@dataclass(frozen=True)
class RunOptions:
    """Identity of a run as a command line gives it."""

    run_id: str | None
    """None: a person's own run, named here."""
    attempt: int
    """Counts from 1."""


@dataclass(frozen=True)
class World:
    """The deployment a command works on."""

    settings: Settings
    store: Store
    catalog: Catalog


def open_catalog(settings: Settings, *, any_revision: bool = False) -> Catalog:
    """The deployment's catalog; embedded PostgreSQL is started if none is named.

    Raises:
        CatalogUnavailable: it cannot be reached, or its schema is older.
        CatalogTooNew: its schema is newer.
    """
    from scanloop.catalog import migrate

    url = settings.database_url
    if not url:
        from scanloop.catalog.embedded import serve_embedded

        url = serve_embedded(settings.postgres_folder)
    catalog = Catalog(url)
    if not settings.database_url and migrate.current(catalog) is None:
        migrate.migrate(catalog)
    if not any_revision:
        migrate.check_current(catalog)
    return catalog


def open_world() -> World:
    """Read the environment and open the store and the catalog. Raises as they do."""
    settings = read_settings()
    return World(settings, open_store(settings.store_url), open_catalog(settings))


def load_definition(catalog: Catalog, product_line: str) -> ProductLine:
    """The active definition of a product line. Raises WrongArguments if there is none."""
    from scanloop.catalog.tables import product_lines

    with catalog.read() as connection:
        row = connection.execute(
            sa.select(product_lines.c.definition).where(product_lines.c.product_line == product_line, product_lines.c.is_active)
        ).scalar_one_or_none()
        known = (
            connection.execute(sa.select(product_lines.c.product_line).where(product_lines.c.is_active).order_by(sa.text("1")))
            .scalars()
            .all()
        )
    if row is None:
        raise WrongArguments(
            f"Unknown product line {product_line!r}. Known: {', '.join(known) or 'none; run: scanloop definitions apply'}."
        )
    return check(ProductLine, row, f"The stored definition of {product_line}")


def run_job(
    job: str,
    body: Callable[[JobRun], dict[str, Any]],
    *,
    options: RunOptions,
    product_line: str | None = None,
    lease: str | None = None,
    part: str = "",
) -> dict[str, Any]:
    """Run one job on this deployment and print its result as one JSON line on standard output.

    `lease` names what is worked on; the lease itself is `<product_line>/<lease>`, or `<lease>` for a job without a key.
    """
    world = open_world()
    with closing(world.catalog):
        definition = load_definition(world.catalog, product_line) if product_line is not None else None
        identity = _identity(world, job, options, part=part, product_line=product_line)
        result = execute(
            body,
            identity,
            settings=world.settings,
            store=world.store,
            catalog=world.catalog,
            definition=definition,
            lease=(f"{product_line}/{lease}" if product_line else lease) if lease else None,
        )
    print_result(result)
    return result


def run_job_in_chunks(
    job: str,
    body: Callable[[JobRun, int], dict[str, Any]],
    total: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
    *,
    options: RunOptions,
    part: str,
    product_line: str | None = None,
    lease: str | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """The same for a job that does its work in chunks, each with a receipt of its own. `tell` says more about the result before it is printed."""
    world = open_world()
    with closing(world.catalog):
        definition = load_definition(world.catalog, product_line) if product_line is not None else None
        result = execute_in_chunks(
            body,
            total,
            _identity(world, job, options, part=part, product_line=product_line),
            settings=world.settings,
            store=world.store,
            catalog=world.catalog,
            definition=definition,
            lease=(f"{product_line}/{lease}" if product_line else lease) if lease else None,
        )
    tell(result)
    print_result(result)
    return result


def _identity(world: World, job: str, options: RunOptions, *, part: str, product_line: str | None = None) -> RunIdentity:
    return RunIdentity(
        run_id=options.run_id or f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}",
        job=job,
        part=part,
        attempt=options.attempt,
        actor=world.settings.actor or f"person:{getpass.getuser()}",
        product_line=product_line,
        arguments=_arguments(),
        consumed=_consumed_runs(),
    )


def print_result(result: dict[str, Any]) -> None:
    """One JSON line on standard output; everything else a command says goes to standard error."""
    sys.stdout.write(json.dumps(result, sort_keys=True) + "\n")
    sys.stdout.flush()


def _consumed_runs() -> tuple[str, ...]:
    """Ids of the runs whose results started this one, as Airflow passes them."""
    given = os.environ.get("SCANLOOP_CONSUMED_RUNS") or "[]"
    try:
        consumed = json.loads(given)
    except ValueError:
        consumed = None
    if not isinstance(consumed, list) or not all(isinstance(run_id, str) for run_id in consumed):
        raise WrongArguments(f"SCANLOOP_CONSUMED_RUNS is not usable: expected a JSON list of run ids, found {given[:80]!r}.")
    return tuple(consumed)


def _arguments() -> dict[str, Any]:
    """The command line for the record, without what identifies the run."""
    words, following = [], iter(sys.argv[1:])
    for word in following:
        if word in ("--run-id", "--attempt"):
            next(following, None)
        elif not word.startswith(("--run-id=", "--attempt=")):
            words.append(word)
    return {"command": words}
