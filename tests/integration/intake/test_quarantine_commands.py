"""`scanloop quarantine`: what a person finds there, and the way out and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from example_decoder import EXAMPLE, install, orbis
from scan_files import dicos, picture, png

from scanloop.catalog.tables import quarantine, scans
from scanloop.cli.main import run
from scanloop.cli.options import World
from scanloop.store import open_store

Command = Callable[..., "Done"]
ODD_NAME = "south-terminal/0042/2026-03-01/\u202egnp.[red]exe[/] \u2028x.dcs"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name, value in environment.items():
        if name.startswith("SCANLOOP_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "240")

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(list(arguments))
        return Done(code, *capsys.readouterr())

    return call


def ingest(command: Command, run_id: str) -> dict[str, Any]:
    assert command("ingest", "plan", "--max-shards=1", f"--run-id={run_id}").code == 0
    done = command("ingest", "shard", "--shard=00/01", f"--run-id={run_id}")
    assert done.code == 0, done.err
    assert command("ingest", "acknowledge", f"--run-id={run_id}").code == 0
    return json.loads(done.out)  # type: ignore[no-any-return]


@pytest.fixture
def held(world: World, command: Command) -> dict[str, str]:
    """Four contents in quarantine, by name."""
    landing = open_store(world.settings.landing_url)
    files = {
        "note": ("south-terminal/0042/2026-03-01/note.txt", b"Belt cleaned."),
        "cut": ("south-terminal/0042/2026-03-01/cut.dcs", dicos(picture(1))[:2000]),
        "alone": ("north-terminal/SN-7/2026-03-01/alone.png", png(picture(2))),
        "odd": (ODD_NAME, b"x" * 200),
    }
    for key, content in files.values():
        landing.put(key, content)
    assert ingest(command, "r1")["quarantined"] == 4
    return {name: hashlib.sha256(content).hexdigest() for name, (_, content) in files.items()}


FILTERS: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    ((), {"note", "cut", "alone", "odd"}),
    (("--reason-code=not_a_scan",), {"note", "odd"}),
    (("--reason-code=truncated",), {"cut"}),
    (("--reason-code=too_large",), set()),
    (("--reason-code=failed_validation",), set()),
    (("--reason-code=scanner_drifted",), set()),
    (("--site=north-terminal",), {"alone"}),
    (("--stage=intake",), {"note", "cut", "alone", "odd"}),
    (("--stage=validation",), set()),
    (("--state=released",), set()),
    (("--state=all", "--site=south-terminal", "--reason-code=truncated"), {"cut"}),
)


def test_lists_are_filtered(held: dict[str, str], command: Command) -> None:
    for filters, expected in FILTERS:
        done = command("quarantine", "list", "--json", *filters)
        assert done.code == 0, filters
        assert {row["quarantine_id"] for row in done.lines} == {held[name] for name in expected}, filters
        assert f"{len(expected)} in quarantine" in command("quarantine", "list", *filters).out


def test_a_list_that_is_cut_says_so(held: dict[str, str], command: Command) -> None:
    assert len(command("quarantine", "list", "--json", "--limit=3").lines) == 3
    assert f"{len(held)} in quarantine, the newest 3" in command("quarantine", "list", "--limit=3").out


@pytest.mark.usefixtures("held")
def test_odd_names_are_shown_and_do_nothing(command: Command) -> None:
    listed = command("quarantine", "list")
    assert "?gnp.[red]exe[/] ?x.dcs" in listed.out
    assert not {"\u202e", "\u2028", "\x1b"} & set(listed.out)
    told = command("quarantine", "list", "--json", "--reason-code=not_a_scan")
    assert told.out.isascii()
    assert ODD_NAME in {row["landing_key"] for row in told.lines}


WRONG = (
    ("list", "--reason-code=nonsense"),
    ("list", "--reason-code=\x1b[31m"),
    ("list", "--state=lost"),
    ("list", "--stage=training"),
    ("list", "--limit=0"),
    ("show", "beef" * 16),
    ("show", "../../etc"),
    ("show", ""),
    ("release", "beef"),
    ("release", "%"),
    ("release", "' OR 1=1"),
)


@pytest.mark.usefixtures("held")
def test_wrong_arguments_are_64_and_one_sentence(command: Command) -> None:
    for arguments in WRONG:
        done = command("quarantine", *arguments)
        assert (done.code, done.out) == (64, ""), arguments
        assert "Traceback" not in done.err
        assert "\x1b[31m" not in done.err


def test_show_tells_what_a_person_needs(held: dict[str, str], world: World, command: Command) -> None:
    landing = open_store(world.settings.landing_url)
    for number in range(3):
        landing.put(f"south-terminal/0042/2026-03-02/again-{number}.txt", b"Belt cleaned.")
    ingest(command, "r2")
    told = json.loads(command("quarantine", "show", held["note"][:10]).out)
    assert (told["reason_code"], told["stage"], told["state"], told["site_id"]) == ("not_a_scan", "intake", "held", "south-terminal")
    assert told["reason_means"] == "the bytes are no format that a scanner delivers"
    assert (told["raw_bytes"], told["raw_is_intact"], told["times_delivered"]) == (13, True, 4)
    assert told["deliveries"] == [
        f"south-terminal/0042/2026-03-0{day}" for day in ("1/note.txt", "2/again-0.txt", "2/again-1.txt", "2/again-2.txt")
    ]
    assert [(event["action"], event["run_id"]) for event in told["history"]] == [("content.quarantined", "r1")]
    assert told["next"].endswith(f"scanloop quarantine release {held['note'][:12]}")


def test_a_content_is_released_once_and_refused_again_with_the_reason_of_today(
    held: dict[str, str], world: World, command: Command
) -> None:
    released = command("quarantine", "release", held["note"], "--run-id=out")
    assert (released.code, json.loads(released.out)["reason_code"]) == (0, "not_a_scan")
    assert command("quarantine", "release", held["note"], "--run-id=out").code == 0  # the same run has done it
    again = command("quarantine", "release", held["note"], "--run-id=out-2")
    assert (again.code, again.out) == (99, "")
    assert "was released before" in again.err
    told = json.loads(command("quarantine", "show", held["note"]).out)
    assert (told["state"], told["next"]) == ("released", "The next ingest reads it again, unless it has: then it is a scan.")
    assert ingest(command, "r2")["reread"] == 1
    told = json.loads(command("quarantine", "show", held["note"]).out)
    assert (told["state"], [event["action"] for event in told["history"]]) == (
        "held",
        ["content.quarantined", "content.released", "content.quarantined"],
    )
    assert command("quarantine", "release", held["note"], "--run-id=out-3").code == 0
    assert ingest(command, "r3")["reread"] == 1


def test_a_newer_decoder_reads_what_was_refused(
    held: dict[str, str], world: World, command: Command, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = orbis()
    digest = hashlib.sha256(content).hexdigest()
    open_store(world.settings.landing_url).put("west-terminal/O-17/2026-03-01/W1.raw", content)
    ingest(command, "r2")
    assert [row["reason_code"] for row in command("quarantine", "list", "--json", "--site=west-terminal").lines] == ["not_a_scan"]
    folder = install(EXAMPLE, tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("scratch"))
    monkeypatch.setenv("SCANLOOP_DECODERS", "orbis")
    monkeypatch.setenv("SCANLOOP_DECODERS_FOLDER", str(folder))
    assert command("quarantine", "release", digest[:8]).code == 0
    assert ingest(command, "r3")["reread"] == 1
    with world.catalog.read() as connection:
        assert connection.scalar(sa.select(scans.c.source_format).where(scans.c.scan_id == digest)) == "orbis"
        assert connection.scalar(sa.select(quarantine.c.state).where(quarantine.c.quarantine_id == digest)) == "released"
    assert [row["quarantine_id"] for row in command("quarantine", "list", "--json", "--site=west-terminal").lines] == []
    assert command("ingest", "plan").code == 99
    assert len(held) == 4


def test_bytes_that_were_spoilt_are_not_released(held: dict[str, str], world: World, command: Command) -> None:
    root = Path(urlsplit(world.settings.store_url).path)
    (kept,) = root.rglob(held["note"])
    kept.chmod(0o644)
    kept.write_bytes(b"Belt cleaned!")
    told = json.loads(command("quarantine", "show", held["note"]).out)
    assert told["raw_is_intact"] is False
    refused = command("quarantine", "release", held["note"])
    assert (refused.code, refused.out) == (65, "")
    assert "not in the store as they were received" in refused.err
    kept.unlink()
    told = json.loads(command("quarantine", "show", held["note"]).out)
    assert (told["raw_is_intact"], told["raw_bytes"]) == (False, None)
    assert command("quarantine", "release", held["note"]).code == 65
