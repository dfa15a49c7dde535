"""docs/commands.md says what the commands are."""

from __future__ import annotations

from pathlib import Path

from scanloop.cli.reference import reference

ROOT = Path(__file__).parents[3]


def test_the_committed_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == reference(), "run: make docs"


def test_every_command_has_help() -> None:
    empty = [
        entry.splitlines()[0]
        for entry in reference().split("\n### ")[1:]
        if not entry.split("\n", 2)[2].strip() or entry.split("\n")[2].startswith("|")
    ]
    assert not empty
