"""`scanloop simulate`: scanners that do not exist deliver scans that could."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanloop.errors import WrongArguments

if TYPE_CHECKING:
    from scanloop.simulator.delivery import DeliveryOrder

log = logging.getLogger(__name__)
LINE_EVERY = 20
"""Bags between two lines where there is no terminal."""

app = typer.Typer(no_args_is_help=True, help="Simulated sites: dual-energy two-view scanners deliver bags, with known ground truth.")


BagsOption = Annotated[int, typer.Option("--bags", min=1, help="Bags to scan; each gives a top and a side view.")]
SitesOption = Annotated[int, typer.Option("--sites", min=1, help="Sites that they arrive at in turn. Two sites have every scanner model.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")]
RoundOption = Annotated[int, typer.Option("--round", min=0, help="Which delivery: every round has other bags, a week later.")]
ThreatsOption = Annotated[str, typer.Option("--threats", help="Categories to draw threats from, separated by commas.", show_default="all")]
CleanOption = Annotated[float, typer.Option("--clean-fraction", min=0.0, max=1.0, help="Share of bags without a threat.")]


@app.command("deliver")
def deliver(
    bags: BagsOption = 20,
    sites: SitesOption = 2,
    seed: SeedOption = 0,
    round_number: RoundOption = 1,
    threats: ThreatsOption = "",
    clean_fraction: CleanOption = 0.4,
    reports: Annotated[
        float, typer.Option("--reports", min=0.0, max=1.0, help="Share of DICOS bags that come with a ground-truth report.")
    ] = 0.0,
) -> None:
    """Deliver simulated scans to the landing zone (SCANLOOP_LANDING_URL) and their ground truth to SCANLOOP_TRUTH_URL.

    Each round also holds what real sites send: one file twice, one cut off, and one that is no scan. Prints the counts as one JSON line.

    Example: scanloop simulate deliver --sites 2 --bags 50 --seed 7 --threats handgun,knife
    """
    from scanloop.settings import read_settings
    from scanloop.simulator.delivery import deliver as deliver_order
    from scanloop.store import open_store

    order = replace(_order(sites, bags, seed, round_number, threats, clean_fraction), reports=reports)
    settings = read_settings()
    landing, truth = open_store(settings.landing_url), open_store(settings.truth_url)
    with _progress(f"Round {round_number}", bags) as on_bag:
        counts = deliver_order(landing, truth, order, on_bag)
    sys.stdout.write(json.dumps(counts, sort_keys=True) + "\n")


@app.command("picture")
def picture(
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.", show_default=False)],
    bags: BagsOption = 6,
    sites: SitesOption = 2,
    seed: SeedOption = 0,
    round_number: RoundOption = 1,
    threats: ThreatsOption = "",
    clean_fraction: CleanOption = 0.4,
    boxes: Annotated[bool, typer.Option("--boxes/--no-boxes", help="Draw the true boxes.")] = True,
) -> None:
    """Draw the bags that `deliver` would deliver with the same options, in colour, on one contact sheet.

    Example: scanloop simulate picture --bags 6 --seed 7 --out bags.png
    """
    from scanloop.scans.views import encode_png
    from scanloop.simulator.sheet import contact_sheet

    order = _order(sites, bags, seed, round_number, threats, clean_fraction)
    content = encode_png(contact_sheet(order, with_boxes=boxes))
    try:
        out.write_bytes(content)
    except OSError as error:
        raise WrongArguments(f"The picture cannot be written to {out}: {error.strerror}.") from None
    sys.stdout.write(json.dumps({"bags": bags, "picture": str(out), "size_bytes": len(content)}, sort_keys=True) + "\n")


def _order(sites: int, bags: int, seed: int, round_number: int, threats: str, clean_fraction: float) -> DeliveryOrder:
    """What the options ask for. Raises WrongArguments."""
    from scanloop.simulator.delivery import DeliveryOrder
    from scanloop.simulator.items.threats import THREATS

    chosen = tuple(dict.fromkeys(name.strip() for name in threats.split(",") if name.strip())) or tuple(THREATS)
    return DeliveryOrder(sites, bags, seed, round_number, chosen, clean_fraction)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show bags done on standard error: a bar on a terminal, else (or with SCANLOOP_PROGRESS=log) a line now and then."""
    if not sys.stderr.isatty() or os.environ.get("SCANLOOP_PROGRESS") == "log":
        yield lambda done: log.info("%s: %d of %d bags delivered", title, done, total) if done % LINE_EVERY == 0 or done == total else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("bags"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        shown = progress.add_task(title, total=total)
        yield lambda done: progress.update(shown, completed=done)
