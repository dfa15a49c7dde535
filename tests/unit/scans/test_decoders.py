"""Decoder plug-ins: which are found, in which order, and what one that misbehaves can do, which is nothing but lose its own file."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from example_decoder import EXAMPLE, install, orbis
from scan_files import PEOPLE, dicos, jpeg, picture, png, sidecar, tiff

from scanloop.errors import WrongArguments
from scanloop.scans import decoder_rooms
from scanloop.scans.content import ScanContent
from scanloop.scans.decode import FORMATS
from scanloop.scans.decoder_rooms import DecoderRooms, check_decoders, open_reader
from scanloop.scans.decoders import BUILT_IN, NO_PLUGINS, Choice, chosen_decoders, list_decoders
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.settings import Settings

GOOD = """
import numpy as np
from scanloop.scans.content import ScanContent, ScanMetadata
name = "{name}"
def matches(head):
    return head.startswith(b"{magic}")
def read(content, sidecar):
    about = ScanMetadata(bag="B1", attributes={{"decoder": "forged"}})
    return ScanContent({{"high": np.full((4, 5), 7, np.uint16)}}, {{"high": 12}}, about, "{name}")
"""


def offer(folder: Path, name: str, source: str, *, distribution: str = "", entry: str = "", version: str = "1.0") -> None:
    """Put an installed distribution with one plug-in into `folder`, as an installer lays it out."""
    distribution = distribution or f"{name}-decoder"
    module = distribution.replace("-", "_").replace(".", "_")
    (folder / f"{module}.py").write_text(dedent(source))
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[scanloop.decoders]\n{entry or name} = {module}\n")


def good(folder: Path, name: str, magic: str | None = None, **options: str) -> None:
    offer(folder, name, GOOD.format(name=name, magic=magic or name.upper()), **options)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def choose(plugins: Path, wanted: str = "*") -> Choice:
    return Choice(tuple(plugin for plugin in list_decoders(wanted, plugins) if plugin.is_chosen), plugins)


def put(inbox: Path, content: bytes) -> Received:
    path = inbox / f"file-{len(list(inbox.iterdir()))}"
    path.write_bytes(content)
    return Received(path)


def read_all(inbox: Path, choice: Choice, *contents: bytes, wall_s: float = 60) -> list[ScanContent | ScanRefused]:
    files = [put(inbox, content) for content in contents]
    with DecoderRooms(choice, inbox, wall_s=wall_s) as rooms, Sandbox(inbox, otherwise=rooms.read) as sandbox:
        return list(sandbox.read_all(files))


def refused(outcome: ScanContent | ScanRefused, code: str, *words: str) -> None:
    assert isinstance(outcome, ScanRefused)
    assert outcome.reason_code == code, outcome.message
    assert all(word in outcome.message for word in words), outcome.message


def test_the_names_of_built_in_formats_are_those_that_are_read() -> None:
    assert set(BUILT_IN) == {known.name for known in FORMATS} | {"dicos"}


def test_plugins_are_listed_by_name_with_where_they_come_from(plugins: Path) -> None:
    good(plugins, "zeta", distribution="acme-zeta", version="2.1")
    good(plugins, "alpha")
    listed = list_decoders("zeta, gone", plugins)
    about = [(found.name, found.distribution, found.version, found.is_chosen, found.problem) for found in listed]
    assert about == [
        ("alpha", "alpha-decoder", "1.0", False, ""),
        ("gone", "", "", True, "no installed distribution offers it"),
        ("zeta", "acme-zeta", "2.1", True, ""),
    ]


def test_nothing_is_chosen_by_being_installed(plugins: Path) -> None:
    good(plugins, "alpha")
    assert chosen_decoders(Settings(decoders_folder=plugins)) == NO_PLUGINS
    assert [plugin.name for plugin in chosen_decoders(Settings(decoders_folder=plugins, decoders="*")).plugins] == ["alpha"]


def test_names_that_are_taken_wrong_or_offered_twice_are_no_formats(plugins: Path) -> None:
    good(plugins, "png", "X")
    good(plugins, "two", distribution="first-two")
    good(plugins, "two", distribution="second-two")
    good(plugins, "Odd Name")
    problems = {found.name: found.problem for found in list_decoders("*", plugins)}
    assert problems["png"] == "Scanloop reads this format itself"
    assert problems["two"] == "more than one distribution offers it: first-two 1.0 and second-two 1.0"
    assert problems["Odd Name"].startswith("its name is none")


def test_a_folder_that_is_none_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(WrongArguments, match="SCANLOOP_DECODERS_FOLDER"):
        chosen_decoders(Settings(decoders="*", decoders_folder=tmp_path / "nowhere"))


def test_a_file_is_read_by_the_plugin_that_claims_it(plugins: Path, inbox: Path) -> None:
    good(plugins, "alpha")
    good(plugins, "beta", version="3.2")
    one, other, neither = read_all(inbox, choose(plugins), b"BETA...", dicos(picture()), b"nothing")
    assert isinstance(one, ScanContent)
    assert one.source_format == "beta"
    assert one.planes["high"].tolist() == [[7] * 5] * 4
    assert dict(one.metadata.attributes) == {"decoder": "beta-decoder", "decoder_version": "3.2"}
    assert isinstance(other, ScanContent)
    assert "decoder" not in other.metadata.attributes
    refused(neither, "not_a_scan")


def test_built_in_formats_cannot_be_shadowed(plugins: Path, inbox: Path) -> None:
    offer(plugins, "greedy", GOOD.format(name="greedy", magic=""))
    about = inbox / "about"
    about.write_bytes(sidecar())
    files = [Received(put(inbox, content).path, about) for content in (dicos(), png(), tiff(), jpeg())]
    with open_reader(inbox, decoders=choose(plugins)) as sandbox:
        outcomes = list(sandbox.read_all(files))
        assert [outcome.source_format for outcome in outcomes if isinstance(outcome, ScanContent)] == ["dicos", "png", "tiff", "jpeg"]
        damaged = sandbox.read_all([put(inbox, dicos()[:2000]), put(inbox, b"anything else")])
        refused(next(damaged), "truncated")
        last = next(damaged)
    assert isinstance(last, ScanContent)
    assert last.source_format == "greedy"


def test_two_that_claim_the_same_bytes_are_no_choice(plugins: Path, inbox: Path) -> None:
    good(plugins, "alpha", "SAME")
    good(plugins, "beta", "SAME")
    (outcome,) = read_all(inbox, choose(plugins), b"SAME")
    refused(outcome, "ambiguous_format", "alpha (alpha-decoder 1.0)", "beta (beta-decoder 1.0)")


def test_a_plugin_that_is_missing_leaves_what_it_may_have_read_for_later(plugins: Path, inbox: Path) -> None:
    good(plugins, "alpha")
    one, other = read_all(inbox, choose(plugins, "alpha,gone"), b"ALPHA", b"perhaps of gone")
    assert isinstance(one, ScanContent)
    refused(other, "decoder_failed", "gone: no installed distribution offers it")


IMPORTS = {
    "raises": ("raise ValueError('no licence')", "ValueError: no licence"),
    "exits": ("import os; os._exit(4)", "exit status 4"),
    "leaves": ("raise SystemExit(0)", "SystemExit"),
    "lacks": ("import a_module_that_is_nowhere", "No module named 'a_module_that_is_nowhere'"),
    "empty": ("", "has no attribute 'name'"),
    "misnamed": ("name = 'png'", "expected a decoder that is called misnamed"),
    "halfway": ("name = 'halfway'\ndef matches(head): return True", "has no attribute 'read'"),
    "wrong": ("name = 'wrong'\nmatches = read = None", "expected functions"),
    "hungry": ("import numpy\nhoard = numpy.ones(1 << 28)", "MemoryError"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "loops": ("from scanloop.scans.confine import allow_cpu\nallow_cpu(0)\nwhile True: pass", "processor time"),
}


def test_one_that_cannot_be_loaded_is_named_and_harms_no_other(plugins: Path, inbox: Path) -> None:
    for name, (source, _) in IMPORTS.items():
        offer(plugins, name, source)
    good(plugins, "good")
    with DecoderRooms(choose(plugins), inbox) as rooms, Sandbox(inbox, otherwise=rooms.read) as sandbox:
        outcomes = list(sandbox.read_all([put(inbox, b"GOOD"), put(inbox, dicos()), put(inbox, b"whose"), put(inbox, b"GOOD")]))
        assert sandbox.starts == 1
        for name, (_, said) in IMPORTS.items():
            assert said in rooms.set_aside[name]
        assert "good" not in rooms.set_aside
    assert all(isinstance(outcome, ScanContent) for outcome in (outcomes[0], outcomes[1], outcomes[3]))
    refused(outcomes[2], "decoder_failed", "crashes (crashes-decoder 1.0): it cannot be loaded")
    states = {
        row["format"]: (row["state"], row["problem"]) for row in check_decoders(list_decoders("good,raises,exits", plugins), plugins, inbox)
    }
    assert states["good"] == ("ready", "")
    assert states["raises"] == ("unusable", "it cannot be loaded: ValueError: no licence")
    assert states["exits"][0] == "unusable"
    assert states["lacks"] == ("not chosen", "")


def test_one_that_hangs_while_it_is_loaded_is_given_up(plugins: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_rooms, "START_S", 0.2)
    offer(plugins, "slow", "import time; time.sleep(600)")
    first, second = read_all(inbox, choose(plugins), b"x", b"y")
    refused(first, "decoder_failed", "slow (slow-decoder 1.0): it cannot be loaded: Reading it took longer")
    refused(second, "decoder_failed", "slow")


BAD = """
import ctypes, json, os, socket, subprocess, sys, time
from pathlib import Path
import numpy as np
from scanloop.scans.confine import allow_cpu
from scanloop.scans.content import ScanContent, ScanMetadata
from scanloop.scans.errors import ScanRefused

def scan(**changes):
    return ScanContent({"high": np.zeros((4, 5), np.uint16)}, {"high": 12}, ScanMetadata(**changes), "png")

def attempt(action):
    try:
        return repr(action())[:80]
    except BaseException as error:
        return type(error).__name__

class Bad:
    name = "bad"

    def matches(self, head):
        match head.split(b" ")[0]:
            case b"sniff-raise": raise KeyError("DOE^JANE^SECRET")
            case b"sniff-truth": return 1
            case b"sniff-hang": time.sleep(600)
            case b"sniff-exit": os._exit(3)
            case b"sniff-shout": print("not an answer", flush=True); os.write(1, b"neither\\n")
        return head.startswith((b"read-", b"sniff-shout", b"whole"))

    def read(self, content, sidecar):
        match content.split(b" ")[0]:
            case b"read-raise": raise KeyError("DOE^JANE^SECRET")
            case b"read-stop": raise SystemExit(0)
            case b"read-interrupt": raise KeyboardInterrupt
            case b"read-refuse": raise ScanRefused("truncated", "Half of it.")
            case b"read-dict": return {"planes": 1}
            case b"read-hang": time.sleep(600)
            case b"read-loop":
                allow_cpu(0)
                while True: pass
            case b"read-exit": os._exit(3)
            case b"read-crash": ctypes.string_at(0)
            case b"read-eat": bytearray(2 << 30)
            case b"read-hoard":
                self.hoard = []
                while True: self.hoard.append(bytearray(64 << 20))
            case b"read-shout": print("x" * 10_000, flush=True)
            case b"read-odd": return scan(attributes={"Not A Name": 1})
            case b"read-spy":
                port, path = content.decode().split(" ")[1:]
                raise ScanRefused("not_a_scan", json.dumps({
                    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
                    "secret": attempt(lambda: Path(path).read_text()),
                    "parent": attempt(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
                    "plant": attempt(lambda: Path(__file__).with_name("planted.py").write_text("x")),
                    "environment": sorted(set(os.environ) - {"LC_CTYPE"}),
                }).replace('"', "'"))
            case b"read-spoil":
                np.frombuffer = np.ascontiguousarray = None
        return scan()

bad = Bad()
"""


@pytest.fixture
def bad(plugins: Path) -> Choice:
    offer(plugins, "bad", BAD)
    about = plugins / "bad_decoder-1.0.dist-info" / "entry_points.txt"
    about.write_text("[scanloop.decoders]\nbad = bad_decoder:bad\n")
    good(plugins, "good")
    return choose(plugins)


def test_one_that_misbehaves_loses_its_own_file_and_no_other(bad: Choice, inbox: Path) -> None:
    expected: dict[bytes, tuple[str, ...]] = {
        b"read-raise": ("decoder_failed", "stopped at something unexpected: KeyError."),
        b"read-stop": ("decoder_failed", "SystemExit"),
        b"read-interrupt": ("decoder_failed", "KeyboardInterrupt"),
        b"read-refuse": ("truncated", "Half of it."),
        b"read-dict": ("decoder_failed", "expected a ScanContent of read(), found dict"),
        b"read-loop": ("cpu_limit",),
        b"read-exit": ("reader_died", "exit status 3"),
        b"read-crash": ("reader_died", "SIGSEGV"),
        b"read-eat": ("memory_limit",),
        b"read-hoard": ("memory_limit",),
        b"read-odd": ("reader_died", "answer that is none"),
    }
    contents = [part for content in expected for part in (content, b"GOOD", b"whole", dicos())]
    outcomes = iter(read_all(inbox, bad, *contents))
    for content, (code, *words) in expected.items():
        outcome, others = next(outcomes), [next(outcomes) for _ in range(3)]
        refused(outcome, code, "The decoder bad (bad-decoder 1.0): ", *words)
        assert PEOPLE not in str(outcome)
        assert [other.source_format for other in others if isinstance(other, ScanContent)] == ["good", "bad", "dicos"], content


def test_one_that_hangs_is_ended_with_what_it_started(bad: Choice, inbox: Path) -> None:
    hung, good_one = read_all(inbox, bad, b"read-hang", b"GOOD", wall_s=1)
    refused(hung, "wall_limit", "The decoder bad (bad-decoder 1.0): ")
    assert isinstance(good_one, ScanContent)


def test_one_that_prints_or_spoils_its_interpreter_is_still_read(bad: Choice, inbox: Path) -> None:
    outcomes = read_all(inbox, bad, b"read-shout", b"sniff-shout", b"read-spoil", dicos(), b"GOOD")
    assert [outcome.source_format for outcome in outcomes if isinstance(outcome, ScanContent)][-2:] == ["dicos", "good"]
    assert isinstance(outcomes[0], ScanContent)
    assert isinstance(outcomes[1], ScanContent)


def test_one_that_cannot_say_whose_a_file_is_is_not_asked_for_ever(bad: Choice, inbox: Path) -> None:
    contents = [b"sniff-raise", b"GOOD", b"sniff-truth", b"whole", b"sniff-exit", b"whole", b"GOOD"]
    first, *others = read_all(inbox, bad, *contents)
    refused(first, "decoder_failed", "bad (bad-decoder 1.0): matches() stopped at something unexpected: KeyError")
    assert PEOPLE not in str(first)
    refused(others[1], "decoder_failed", "expected True or False of matches(), found int")
    refused(others[3], "decoder_failed", "exit status 3")
    # After the third failure it is left alone; until then its own files are read.
    assert isinstance(others[2], ScanContent)
    refused(others[4], "decoder_failed", "exit status 3")
    assert [isinstance(others[index], ScanContent) for index in (0, 5)] == [True, True]


def test_one_that_hangs_over_whose_a_file_is_does_not_keep_it_from_its_reader(bad: Choice, inbox: Path) -> None:
    (hung,) = read_all(inbox, bad, b"sniff-hang", wall_s=1)
    refused(hung, "decoder_failed", "bad (bad-decoder 1.0): Reading it took longer")


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_plugin_has_no_credentials_no_network_and_no_files(
    bad: Choice, inbox: Path, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    secret = tmp_path_factory.mktemp("elsewhere") / "credentials"
    secret.write_text("planted")
    with DecoderRooms(bad, inbox) as rooms, Sandbox(inbox, otherwise=rooms.read) as sandbox:
        with pytest.raises(ScanRefused) as refusal:
            sandbox.read(put(inbox, f"read-spy {port} {secret}".encode()).path)
        taken = sandbox.confined
    found: dict[str, Any] = json.loads(refusal.value.message.partition("1.0): ")[2].replace("'", '"'))
    allocator = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]
    assert found["environment"] == ["HOME", "LANG", *allocator, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TMPDIR"]
    assert (found["connect"] == "OSError") == taken["network_namespace"]
    if taken["file_rules"]:
        assert {name: found[name] for name in ("secret", "parent", "plant")} == dict.fromkeys(
            ("secret", "parent", "plant"), "PermissionError"
        )
        assert not list(inbox.parent.rglob("planted.py"))


def test_without_a_stranger_no_process_is_started(bad: Choice, inbox: Path) -> None:
    with DecoderRooms(bad, inbox) as rooms, Sandbox(inbox, otherwise=rooms.read) as sandbox:
        sandbox.read(put(inbox, dicos()).path)
        assert rooms._rooms == {}


def test_a_plugin_cannot_stand_in_for_a_module_of_the_environment(plugins: Path, inbox: Path) -> None:
    good(plugins, "good")
    (plugins / "numpy.py").write_text("raise SystemExit('not NumPy')")
    (plugins / "json.py").write_text("raise SystemExit('not json')")
    (outcome,) = read_all(inbox, choose(plugins), b"GOOD")
    assert isinstance(outcome, ScanContent)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Choice:
    """The documented example, installed by pip."""
    folder = tmp_path_factory.mktemp("installed")
    return choose(install(EXAMPLE, folder, tmp_path_factory.mktemp("scratch")), "orbis")


def test_the_example_reads_its_files(example: Choice, inbox: Path) -> None:
    (scan,) = read_all(inbox, example, orbis())
    assert isinstance(scan, ScanContent)
    assert all((scan.planes[name] == pixels).all() for name, pixels in picture().items())
    assert (scan.metadata.bag_id, scan.metadata.scanner_id) == ("west-terminal/west-terminal/w0042", "orbis-raw-o-17")
    assert scan.metadata.missing == ()
    assert dict(scan.metadata.attributes) == {"decoder": "scanloop-orbis-decoder", "decoder_version": "1.0.0"}
    assert PEOPLE not in repr(scan)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda whole: whole[:20], "truncated"),
        (lambda whole: whole[:-1], "truncated"),
        (lambda whole: whole + b"PK", "polyglot"),
        (lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], "malformed"),
        (lambda whole: whole[:12] + b"\xff\xff\xff\x7f" + whole[16:], "too_large"),
        (lambda whole: orbis(planes=["high"]), "malformed"),
        (lambda whole: orbis(planes=None), "malformed"),
        (lambda whole: orbis(time="tomorrow"), "malformed"),
        (lambda whole: orbis(planes=["high", "high"]), "malformed"),
        (lambda whole: orbis(bits=12), "malformed"),
    ],
)
def test_the_example_refuses_what_is_not_whole_and_right(example: Choice, inbox: Path, change: Any, code: str) -> None:
    with DecoderRooms(example, inbox) as rooms:
        outcome = rooms.read(put(inbox, change(orbis())), ScanRefused("not_a_scan", "None."))
    refused(outcome, code, "The decoder orbis (scanloop-orbis-decoder 1.0.0): ")


def test_leftovers_of_the_rooms_are_removed(bad: Choice, inbox: Path) -> None:
    read_all(inbox, bad, b"whole", b"read-exit", b"GOOD")
    assert [path for path in inbox.iterdir() if path.is_dir()] == []
    assert not os.path.lexists(inbox / "said")
