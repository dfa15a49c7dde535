"""`search` and `mark`, the same for scans and for annotations."""

from __future__ import annotations

import json
import re
import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from scanloop.cli.options import AttemptOption, RunIdOption, RunOptions, open_world, run_job

QueryArgument = Annotated[str, typer.Argument(help="What to look for; see docs/queries.md.", show_default=False)]
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def add_searching(app: typer.Typer, subject: str) -> None:
    """Give a group of commands `search`, `mark` and `fields` about `subject`: scan or annotation."""
    article = "an" if subject == "annotation" else "a"

    @app.command("search", help=f"Find {subject}s by a query, newest first.")
    def search(
        query: QueryArgument,
        limit: Annotated[int, typer.Option("--limit", min=0, max=10_000, help="Show at most so many.")] = 50,
        timeout_s: Annotated[float, typer.Option("--timeout", min=0.001, max=3600, help="Longest time for it, in seconds.")] = 10.0,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
        with_plan: Annotated[bool, typer.Option("--plan", help="Say how the database finds them instead.")] = False,
    ) -> None:
        from scanloop.query.fields import SUBJECTS
        from scanloop.query.search import explain
        from scanloop.query.search import search as find

        world = open_world()
        with closing(world.catalog):
            if with_plan:
                typer.echo("\n".join(explain(world.catalog, query, SUBJECTS[subject], timeout_s=timeout_s)))
                return
            found = find(world.catalog, query, SUBJECTS[subject], limit=limit, timeout_s=timeout_s)
        if as_json:
            sys.stdout.writelines(json.dumps(row, default=_iso) + "\n" for row in found.rows)
        else:
            _print(found.rows)
        typer.echo(f"{found.total} {subject}s, {len(found.rows)} shown.", err=as_json)

    @app.command("mark", help=f"Give tags and attributes to every {subject} that a query finds, or take them away; one audited act.")
    def mark(
        query: QueryArgument,
        tags: Annotated[list[str] | None, typer.Option("--tag", help="Tag to give; may be repeated.", show_default=False)] = None,
        no_tags: Annotated[list[str] | None, typer.Option("--untag", help="Tag to take away; may be repeated.", show_default=False)] = None,
        attributes: Annotated[
            list[str] | None,
            typer.Option("--set", help="NAME=VALUE to give: a number, true, false, or text; may be repeated.", show_default=False),
        ] = None,
        no_attributes: Annotated[
            list[str] | None, typer.Option("--unset", help="Attribute to take away; may be repeated.", show_default=False)
        ] = None,
        at_most: Annotated[int, typer.Option("--at-most", min=1, help="Change nothing if it finds more than this.")] = 100_000,
        run_id: RunIdOption = None,
        attempt: AttemptOption = 1,
    ) -> None:
        from scanloop.query.fields import SUBJECTS
        from scanloop.query.language import parse
        from scanloop.query.marking import Changes
        from scanloop.query.marking import mark as give

        given = _attributes(attributes or [])
        changes = Changes(tuple(tags or ()), tuple(no_tags or ()), given, tuple(no_attributes or ()))
        changes.checked()
        parse(query, SUBJECTS[subject])
        run_job(
            f"{subject}.mark",
            lambda run: give(run, SUBJECTS[subject], query, changes, at_most=at_most),
            options=RunOptions(run_id, attempt),
            lease="marks",
        )

    @app.command("fields", help=f"List what can be asked about {article} {subject}, and the grammar.")
    def fields() -> None:
        from rich.console import Console
        from rich.table import Table

        from scanloop.query.fields import SUBJECTS
        from scanloop.query.language import GRAMMAR

        table = Table("field", "type", "meaning")
        for name, field in SUBJECTS[subject].all_fields().items():
            table.add_row(field.written(name), field.kind.value, field.says)
        Console().print(table)
        typer.echo(GRAMMAR)


def _attributes(texts: list[str]) -> dict[str, Any]:
    """Attributes by name. Raises WrongArguments: one is none, or named twice."""
    from scanloop.errors import WrongArguments

    found: dict[str, Any] = {}
    for name, value in map(_attribute, texts):
        if name in found:
            raise WrongArguments(f"The attribute {name} is named twice.")
        found[name] = value
    return found


def _attribute(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value in double quotes is text whatever is between them. Raises WrongArguments."""
    from scanloop.errors import WrongArguments

    name, mark, value = text.partition("=")
    if not mark or not value:
        raise WrongArguments(f"--set {text[:100]!r}: expected NAME=VALUE.")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    if _NUMBER.fullmatch(value):
        return name, int(value) if value.lstrip("-").isdigit() else float(value)
    return name, value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _iso(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(escape(_shown(name, value)) for name, value in row.items()))
    Console().print(table)


def _shown(name: str, value: Any) -> str:
    if name in ("id", "scan"):
        return str(value)[:12]
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M") if hasattr(value, "strftime") else str(value)
