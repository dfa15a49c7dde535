"""`scanloop store`: whether the place where everything is kept can be trusted."""

from __future__ import annotations

from typing import Annotated

import typer

from scanloop.cli.options import print_result
from scanloop.settings import read_settings
from scanloop.store import open_store

app = typer.Typer(no_args_is_help=True, help="The store of everything kept.")
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Check this store instead of the deployment's.", show_default="SCANLOOP_STORE_URL")
]


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own."""


@app.command("check")
def check(url: UrlOption = None) -> None:
    """Write, read back and race one small object. Exit 64 if the store lets a second writer win: nothing built on it could be trusted."""
    store = open_store(url or read_settings().store_url)
    store.check_conditional_writes()
    print_result({"store": store.url, "conditional_writes": True})
