"""The command reference, from the commands themselves: `python -m scanloop.cli.reference > docs/commands.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer

from scanloop.cli.main import build_app

HEAD = """# Commands

Generated from the commands by `make docs`; a test keeps it true. Exit codes: 0 done, 64 wrong arguments, 65 wrong data, 75 try again later,
99 nothing to do, 70 a defect. Results are one JSON line on standard output, everything else goes to standard error. Jobs take `--run-id` and
`--attempt`; the same run does its work once.
"""
HIDDEN = ("--help", "--run-id", "--attempt", "--install-completion", "--show-completion")


def reference() -> str:
    """The whole page, as Markdown."""
    return HEAD + "".join(_sections(typer.main.get_command(build_app()), "scanloop"))


def _sections(command: Any, path: str) -> Iterator[str]:
    groups = {name: found for name, found in sorted(command.commands.items()) if hasattr(found, "commands")}
    for name, found in sorted(command.commands.items()):
        if name not in groups:
            yield _entry(found, f"{path} {name}")
    for name, group in groups.items():
        yield f"\n## {path} {name}\n\n{_text(group.help)}\n"
        for word, found in sorted(group.commands.items()):
            yield _entry(found, f"{path} {name} {word}")


def _entry(command: Any, path: str) -> str:
    lines = [f"\n### `{path}`\n\n{_text(command.help)}\n"]
    options = [parameter for parameter in command.params if not set(parameter.opts) & set(HIDDEN)]
    if options:
        lines.append("\n| option | meaning |\n|---|---|\n")
    for parameter in options:
        name = ", ".join(f"`{name}`" for name in parameter.opts) if parameter.opts[0].startswith("-") else f"`{parameter.name.upper()}`"
        required = " *Required.*" if parameter.required else ""
        lines.append(f"| {name} | {_text(getattr(parameter, 'help', None) or '')}{required} |\n")
    return "".join(lines)


def _text(help_text: str | None) -> str:
    return re.sub(r"\s+", " ", (help_text or "").replace("|", "\\|")).strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
