"""`scanloop stack`: all of Scanloop on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanloop.errors import WrongArguments
from scanloop.settings import read_settings

app = typer.Typer(no_args_is_help=True, help="All of Scanloop on this machine: PostgreSQL, Airflow, the signer, the demonstration.")
PortOption = Annotated[
    int | None, typer.Option("--port", min=1024, max=65535, help="Port of the UI.", show_default="the first free from 8080")
]
ProjectOption = Annotated[Path, typer.Option("--project", help="Checkout with dags/, plugins/ and the environments.")]
DefinitionsOption = Annotated[
    Path | None, typer.Option("--definitions", help="Folder with product lines and the taxonomy.", show_default="<project>/product_lines")
]


def _deployment(project: Path, definitions: Path | None = None):  # type: ignore[no-untyped-def]  # the class is loaded late: it needs psutil, which a device does not have
    from scanloop.stack.deployment import Deployment

    if not (project / "dags").is_dir():
        raise WrongArguments(f"{project.absolute()} is not a checkout of Scanloop: it has no dags folder.")
    return Deployment(read_settings(), project.absolute(), (definitions or project / "product_lines").absolute())


@app.command("up")
def up(port: PortOption = None, project: ProjectOption = Path(), definitions: DefinitionsOption = None) -> None:
    """Start everything that does not run yet, leave it running, and print the address and the login."""
    from rich.console import Console

    from scanloop.stack.airflow import passwords

    deployment, console = _deployment(project, definitions), Console(stderr=True)
    with deployment.alone():
        with console.status("Starting") as status:
            api = deployment.bring_up(lambda step: status.update(f"Starting: {step}"), port)
        logins = passwords(deployment.home / "airflow")
    typer.echo(f"Scanloop is up: {api.url}")
    for user, password in logins.items():
        typer.echo(f"  login {user:<16} password {password}")
    typer.echo("Stop it with: make down")


@app.command("down")
def down(project: ProjectOption = Path()) -> None:
    """Stop exactly what `stack up` or `stack demo` started."""
    deployment = _deployment(project)
    with deployment.alone():
        stopped = deployment.bring_down()
    typer.echo(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command("status")
def status(project: ProjectOption = Path()) -> None:
    """Say which processes of the stack run."""
    deployment = _deployment(project)
    for known in deployment.supervisor.known():
        process = known.process()
        typer.echo(f"{known.name:<24} {'running, process ' + str(known.pid) if process else 'ended; its log: ' + known.log}")


@app.command("demo")
def demo(
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=9, help="Deliveries that go round the loop.")] = 2,
    bags: Annotated[int, typer.Option("--bags", min=4, max=5000, help="Bags a delivery, two scans each.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated bags.")] = 7,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards.")] = False,
    port: PortOption = None,
    project: ProjectOption = Path(),
    definitions: DefinitionsOption = None,
) -> None:
    """Take simulated deliveries round the whole loop through Airflow, and report. Killed anywhere and started again, it goes on.

    Exits 0 only if every product line came round and the invariants hold.
    """
    from scanloop.stack.demo import run_demo

    deployment = _deployment(project, definitions)
    with deployment.alone():
        run_demo(deployment, rounds=rounds, bags=bags, seed=seed, keep=keep, port=port)
