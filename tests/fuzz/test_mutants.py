"""Mutants of every format end in a scan or in a refusal: in this code, and in the confined reader that intake uses."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzzing import oracles
from fuzzing import run as room
from fuzzing.corpus import Input
from fuzzing.engine import Engine, Mutator, mutate
from fuzzing.oracles import Violation, check_refusal, check_scan, judge
from fuzzing.run import fuzz, shrunk, table, through_reader
from fuzzing.seeds import all_seeds
from harness.tier import IS_LONG, SEED

from scanloop.scans.content import ScanContent, ScanMetadata
from scanloop.scans.decode import FORMATS, read_scan
from scanloop.scans.dicom_structure import ENCAPSULATED, NATIVE
from scanloop.scans.errors import ScanRefused
from scanloop.scans.threat_report import ReportContent

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.charset")  # odd texts are what is tried
MUTANTS, READ_CONFINED = (1_000_000, 20_000) if IS_LONG else (10_000, 1_000)


@pytest.mark.parametrize("name", all_seeds())
def test_every_seed_is_read(name: str) -> None:
    seed = all_seeds()[name]
    assert judge(seed.content, seed.sidecar, is_thorough=True).code == "accepted"


def test_there_is_a_seed_of_every_format_and_codec() -> None:
    trees = [seed.tree.syntax for seed in all_seeds().values() if seed.tree is not None]
    assert set(trees) >= NATIVE
    assert {ENCAPSULATED[syntax] for syntax in trees if syntax in ENCAPSULATED} == set(ENCAPSULATED.values())
    found = [read_scan(seed.content, seed.sidecar) for seed in all_seeds().values()]
    assert any(isinstance(one, ReportContent) for one in found)
    read = {one.source_format for one in found if isinstance(one, ScanContent)}
    assert read >= {one.name for one in FORMATS}


@pytest.mark.timeout(24 * 3600)
def test_no_mutant_ends_in_anything_but_a_scan_or_a_refusal() -> None:
    outcome = fuzz(MUTANTS, f"tier {SEED}")
    print(
        "\n"
        + table(f"{outcome.tried} mutants, {outcome.cpu_s:.0f} s of processor time, at most {outcome.peak_mib:.0f} MiB", outcome.tallies)
    )
    assert outcome.found == []
    assert outcome.tried == MUTANTS
    assert all(tally.accepted and tally.accepted < tally.tried for tally in outcome.tallies.values())
    assert max(tally.worst_cpu_s for tally in outcome.tallies.values()) < 10
    assert outcome.peak_mib < 1024


@pytest.mark.timeout(24 * 3600)
def test_the_confined_reader_says_of_every_mutant_what_the_code_says(tmp_path: Path) -> None:
    mutator = Mutator(f"reader {SEED}")
    tallies, broken = through_reader((mutator.draw(number) for number in range(READ_CONFINED)), tmp_path)
    print("\n" + table("through the confined reader", tallies))
    assert broken == []
    assert sum(tally.tried for tally in tallies.values()) == READ_CONFINED


def test_the_same_seed_gives_the_same_mutants() -> None:
    one, same, other = (Mutator(seed) for seed in ("a", "a", "b"))
    drawn = [one.draw(number) for number in range(50)]
    assert drawn == [same.draw(number) for number in range(50)]
    assert drawn != [other.draw(number) for number in range(50)]


def test_mutants_differ_from_their_seeds() -> None:
    draw = random.Random(5)
    for seed in all_seeds().values():
        mutants = {mutate(seed, draw) for _ in range(20)}
        assert len(mutants - {Input(seed.content, seed.sidecar)}) >= 12, seed.name


@pytest.mark.parametrize("error", [KeyError("x"), SystemError("x"), Violation("x"), RecursionError("x"), UnicodeError("x")], ids=repr)
def test_the_fuzzer_finds_a_reader_that_raises_something_else(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: bytes, about: bytes | None) -> ScanContent:
        if content[:4] == b"II*\0":
            raise error
        return read_scan(content, about)

    monkeypatch.setattr(oracles, "read_scan", broken)
    engine = Engine(Mutator("x", "tiff"))
    engine.run(range(40))
    assert engine.found
    assert all(type(error).__name__ in found.what or "violation" in found.what for found in engine.found)


DYING = """
import os, signal, resource
from fuzzing import engine, oracles
honest = oracles.read_scan

def read_scan(content, about):
    if b"BB" in content:
        {end}
    return honest(content, about)

oracles.read_scan = read_scan
engine.CPU_S = 1
engine.Mutator.draw = lambda self, number: ("tiff", engine.Input(b"A" * number + b"BB" * (number == 7)))
engine.main()
"""


@pytest.mark.parametrize(
    ("end", "what"),
    [("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"), ("os.abort()", "signal 6"), ("while True: pass", "signal 27")],
    ids=["crash", "abort", "hang"],
)
def test_a_file_that_ends_the_process_is_kept_and_the_rest_is_tried(end: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ENGINE", ("-c", DYING.format(end=end)))
    outcome = fuzz(1000, "x")
    assert [(found, file.content) for found, _, file in outcome.found] == [(what, b"A" * 7 + b"BB")]
    assert outcome.tried == 1000


@pytest.mark.parametrize("message", ["a\nb", "x" * 600, "of JANE here", ""])
def test_a_refusal_that_says_too_much_is_found(message: str) -> None:
    with pytest.raises(Violation):
        check_refusal(ScanRefused("malformed", message))


@pytest.mark.parametrize(
    "about",
    [{"view": "a\nb"}, {"site": "x" * 129}, {"bag": "DOE^JANE^SECRET"}, {"attributes": {"software": "\u202e1"}}, {"model": " padded"}],
    ids=str,
)
def test_a_scan_that_says_too_much_is_found(about: dict[str, str]) -> None:
    planes = {"high": np.zeros((2, 2), np.uint16)}
    check_scan(ScanContent(planes, {"high": 16}, ScanMetadata(), "png"))
    with pytest.raises(Violation):
        check_scan(ScanContent(planes, {"high": 16}, ScanMetadata(**about), "png"))  # type: ignore[arg-type]


def test_a_reader_that_reads_differently_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = all_seeds()["tiff plain"]
    files = [("tiff", Input(seed.content, seed.sidecar)), ("tiff", Input(seed.content[:-1], seed.sidecar))]
    monkeypatch.setattr(room, "read_scan", lambda content, about: read_scan(all_seeds()["png 16"].content, about))
    _, broken = through_reader(files, tmp_path)
    assert ["disagree" in what for what, _, _ in broken] == [True, True]


def test_what_is_kept_is_as_small_as_its_verdict_allows() -> None:
    long = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 13, b"IHDR") + bytes(2000)
    small = shrunk(Input(long))
    assert judge(long, None) == judge(small.content, None)
    assert len(small.content) < 50
