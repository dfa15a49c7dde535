"""`scanloop validation`: check new scans before anything is made of them."""

from __future__ import annotations

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, run_job

app = typer.Typer(no_args_is_help=True, help="Check new scans against the suites; what fails goes to quarantine.")


@app.callback()
def _group() -> None:
    """Keep `run` a command of its own while it is the only one."""


@app.command("run")
def run(run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Run the suites of Great Expectations over every scan that waits, and publish Data Docs."""
    from scanloop.validation.run import validate_scans

    run_job("validation.run", validate_scans, options=RunOptions(run_id, attempt), lease="validation")
