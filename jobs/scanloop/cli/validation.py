"""`scanloop validation`: check new scans before anything is made of them, and see how their scanners are."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, open_world, run_job

if TYPE_CHECKING:
    from rich.table import Table

    from scanloop.validation.health import MachineState

app = typer.Typer(no_args_is_help=True, help="Check new scans against the suites; what fails goes to quarantine. See how each scanner is.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


def _moment(text: str) -> datetime:
    """A day or moment as UTC. Raises typer.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a day or moment such as 2026-03-01 or 2026-03-01T08:00:00+00:00, found {text!r}") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


@app.command("run")
def run(run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Run the suites of Great Expectations over every scan that waits, compare its scanner with its own history, and publish Data Docs."""
    from scanloop.validation.run import validate_scans

    run_job("validation.run", validate_scans, options=RunOptions(run_id, attempt), lease="validation")


@app.command("arrivals")
def arrivals(
    at: Annotated[
        str | None, typer.Option("--at", help="Judge this moment instead: a day, or a moment with its offset.", show_default="now")
    ] = None,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Compare what each scanner delivers with what it usually does: silent, few, flooding. Holds nothing back. Exit code 99: all are as they were."""
    from scanloop.validation.watch import check_arrivals

    moment = None if at is None else _moment(at)
    run_job("validation.arrivals", lambda job: check_arrivals(job, moment), options=RunOptions(run_id, attempt), lease="arrivals")


@app.command("serviced")
def serviced(
    scanner: Annotated[str, typer.Option("--scanner", help="Id of the scanner.", show_default=False)],
    since: Annotated[str, typer.Option("--since", help="First day or moment after the service, UTC.", show_default=False)],
    because: Annotated[str, typer.Option("--because", help="What was done.", show_default=False)],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Say that a scanner was serviced, where its scans do not name the day of calibration: it is then compared with its scans since."""
    from scanloop.validation.watch import note_service

    moment = _moment(since)
    if not because.strip():
        raise typer.BadParameter("expected what was done, found nothing", param_hint="--because")
    run_job("validation.serviced", lambda job: note_service(job, scanner, moment, because), options=RunOptions(run_id, attempt))


@app.command("show")
def show(
    wanted: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or latest.")] = "latest",
    as_json: JsonOption = False,
) -> None:
    """Show the results of a run: each suite, how many it checked, what failed, and where its Data Docs are."""
    from scanloop.validation.health import results_of

    world = open_world()
    with closing(world.catalog):
        rows = [
            {**row, "docs_uri": world.store.uri(row["docs_key"]) if row["docs_key"] else ""} for row in results_of(world.catalog, wanted)
        ]
    if as_json:
        _print_lines(rows)
        return
    table = _table("suite", "about", "checked", "failed", "failed checks", "warnings", title=f"Validation, run {rows[0]['run_id']}")
    for row in rows:
        counts = row["counts"]
        checked, failed = str(counts.get("scans", "")), str(counts.get("failed_scans", ""))
        table.add_row(row["suite"], row["scope"], checked, failed, "\n".join(row["failed"]), "\n".join(counts.get("warned", ())))
    _print_table(table)


@app.command("scanners")
def scanners(
    only: Annotated[
        Literal["steady", "drifted", "new", "regular", "silent", "few", "flooding", "gone"] | None,
        typer.Option("--state", help="Only those in this state, or delivering so.", show_default="any"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how each scanner is: against its own history, and in what it delivers."""
    from scanloop.validation.health import latest_states

    world = open_world()
    with closing(world.catalog):
        states = {one.scope: one for one in latest_states(world.catalog)}
        coming = {one.scope: one for one in latest_states(world.catalog, "arrivals")}
    lines = [_line(scanner, states.get(scanner), coming.get(scanner)) for scanner in sorted(states.keys() | coming.keys())]
    lines = [line for line in lines if only in (None, line["state"], line["arrivals"])]
    if as_json:
        _print_lines(lines)
        return
    table = _table(
        "scanner",
        "state",
        "history",
        "drift",
        "dead lines",
        "last judged scan",
        "arrivals",
        "a day",
        "failed checks",
        title=f"{len(lines)} scanners",
    )
    for line in lines:
        drift = "" if line["gain_change"] is None else f"{line['gain_change']:+.2%}"
        drift += "" if line["drift_sigmas"] is None else f" ({line['drift_sigmas']:+.1f} σ)"
        dead, rate = ("" if line[name] is None else f"{line[name]:g}" for name in ("dead_lines", "rate_a_day"))
        known = (line["scanner_id"], line["state"], str(line["history"]), drift, dead, line["until"][:16])
        table.add_row(*known, line["arrivals"], rate, "\n".join(line["failed"]))
    _print_table(table)


def _line(scanner_id: str, state: MachineState | None, coming: MachineState | None) -> dict[str, Any]:
    """What is said about one scanner: the worst of its views and planes, as last judged."""
    rows = state.counts["rows"] if state else []
    last = max((row["until"] for row in rows), default="")
    rows = [row for row in rows if row["until"][:10] == last[:10]]

    def worst(name: str) -> float | None:
        return max((row[name] for row in rows if row[name] is not None), key=abs, default=None)

    lines = [row["dead_rows"] + row["dead_columns"] for row in rows if row["dead_rows"] is not None and row["dead_columns"] is not None]
    return {
        "scanner_id": scanner_id,
        "state": state.state if state else "never judged",
        "history": min((row["history"] for row in rows), default=0),
        "gain_change": worst("gain_change"),
        "drift_sigmas": worst("sigmas"),
        "dead_lines": max(lines, default=None),
        "until": state.until if state else "",
        "failed": list(state.failed) if state else [],
        "arrivals": coming.state if coming else "not judged",
        "rate_a_day": coming.counts.get("rate_a_day") if coming else None,
        "last_at": coming.counts.get("last_at") if coming else None,
    }


def _print_lines(rows: list[dict[str, Any]]) -> None:
    sys.stdout.writelines(json.dumps(row, default=str, sort_keys=True) + "\n" for row in rows)


def _table(*columns: str, title: str) -> Table:
    from rich.table import Column, Table

    return Table(*(Column(name, overflow="fold") for name in columns), title=title)


def _print_table(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
