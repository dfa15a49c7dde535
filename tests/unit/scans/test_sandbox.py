"""The confined reader, with a parser inside that misbehaves: the file is blamed, the next one is read, nothing gets out."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scan_files import JPEG_LOSSLESS, RLE, dicos, picture, png, sidecar

from scanloop.errors import WorldUnavailable
from scanloop.scans import sandbox as room
from scanloop.scans.content import ScanContent
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import Received, Sandbox

BAD_PARSER = """
import ctypes, json, os, signal, socket, sys, time
from pathlib import Path
from scanloop.scans import confine, decode, reader
from scanloop.scans.errors import ScanRefused

honest = decode.read_scan
reader.allow_cpu = lambda: confine.allow_cpu(1)  # no less: what its start took is rounded down

def attempt(action):
    try:
        return repr(action())[:80]
    except BaseException as error:
        return type(error).__name__

def read_scan(content, about):
    if content == b"loop":
        while True:
            pass
    if content == b"hang":
        time.sleep(600)
    if content == b"allocate":
        return bytearray(2 << 30)
    if content == b"crash":
        ctypes.string_at(0)
    if content == b"exit":
        os._exit(3)
    if content == b"raise":
        raise SystemExit(7)
    if content == b"write":
        with open(Path.cwd() / "much", "wb") as much:
            much.truncate(600 << 20)
    if content == b"shout":
        print("not an answer", flush=True)
        os.write(1, b"neither\\n")
    if content.startswith(b"spy "):
        port, path = content[4:].decode().split(" ")
        raise ScanRefused("not_a_scan", json.dumps({
            "connect": attempt(lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
            "secret": attempt(lambda: Path(path).read_text()),
            "parent": attempt(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
            "home": attempt(lambda: os.listdir("/root")),
            "plant": attempt(lambda: Path(path + ".planted").write_text("x")),
            "environment": sorted(set(os.environ) - {"LC_CTYPE"}),
        }).replace('"', "'"))
    if content == b"whole":
        content = Path.cwd().parent.joinpath("whole.dcs").read_bytes()
    return honest(content, about)

decode.read_scan = read_scan
reader.main()
"""
LIAR = """
import json, sys
print(json.dumps({{"confined": {{}}}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    {lie}
"""
HONEST_ANSWER = {
    "source_format": "png",
    "height_px": 4,
    "width_px": 4,
    "planes": [{"name": "high", "bits": 16}],
    "metadata": dict.fromkeys(("manufacturer", "model", "serial", "site", "issuer", "bag", "view"), "x")
    | {"scan_type": "test", "acquired_at": None, "is_projected": False, "modality": "DX", "attributes": {}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "whole.dcs").write_bytes(dicos(picture()))
    return tmp_path


def put(folder: Path, content: bytes) -> Received:
    path = folder / f"file-{len(list(folder.iterdir()))}"
    path.write_bytes(content)
    return Received(path)


@pytest.fixture
def bad_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_READER", ("-c", BAD_PARSER))


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_batch_is_read_in_one_child_in_order(folder: Path) -> None:
    pictures = [picture(seed) for seed in range(12)]
    files = [put(folder, dicos(planes, (RLE, JPEG_LOSSLESS)[seed % 2])) for seed, planes in enumerate(pictures)]
    files.insert(5, put(folder, b"not a scan"))
    exported = put(folder, png(pictures[0]))
    (folder / "about").write_bytes(sidecar())
    files.append(Received(exported.path, folder / "about"))
    with Sandbox(folder) as sandbox:
        outcomes = list(sandbox.read_all(files))
        assert sandbox.starts == 1
    refusal = outcomes.pop(5)
    assert isinstance(refusal, ScanRefused)
    assert refusal.reason_code == "not_a_scan"
    for outcome, planes in zip(outcomes, [*pictures, pictures[0]], strict=True):
        assert isinstance(outcome, ScanContent)
        assert all((outcome.planes[name] == pixels).all() for name, pixels in planes.items())
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (b"loop", "cpu_limit", "processor time"),
        (b"hang", "wall_limit", "longer than 5 s"),
        (b"allocate", "memory_limit", "more memory"),
        (b"crash", "reader_died", "SIGSEGV"),
        (b"exit", "reader_died", "exit status 3"),
        (b"raise", "reader_died", "exit status 7"),
        (b"write", "output_limit", "writes more"),
    ],
)
@pytest.mark.usefixtures("bad_parser")
def test_a_file_that_ends_its_reader_is_blamed_and_no_other(folder: Path, content: bytes, code: str, named: str) -> None:
    files = [put(folder, b"whole"), put(folder, content), put(folder, b"whole"), put(folder, b"whole")]
    with Sandbox(folder, wall_s=5 if content == b"hang" else 60) as sandbox:
        first, bad, *others = sandbox.read_all(files)
    assert isinstance(bad, ScanRefused)
    assert (bad.reason_code, named in bad.message) == (code, True), bad.message
    assert all(isinstance(outcome, ScanContent) for outcome in (first, *others))


@pytest.mark.usefixtures("bad_parser")
def test_two_killers_in_a_row_are_both_blamed(folder: Path) -> None:
    files = [put(folder, content) for content in (b"crash", b"exit", b"whole", b"crash")]
    with Sandbox(folder) as sandbox:
        outcomes = list(sandbox.read_all(files))
        assert sandbox.starts == 3
    assert [isinstance(outcome, ScanContent) for outcome in outcomes] == [False, False, True, False]


@pytest.mark.usefixtures("bad_parser")
def test_what_a_parser_prints_is_no_answer(folder: Path) -> None:
    with Sandbox(folder) as sandbox, pytest.raises(ScanRefused) as refusal:
        sandbox.read(put(folder, b"shout").path)
    assert refusal.value.reason_code == "not_a_scan"


@pytest.mark.usefixtures("bad_parser")
def test_the_reader_has_no_credentials_no_network_and_no_files(
    folder: Path, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", "postgresql://planted@host/db")
    secret = tmp_path_factory.mktemp("elsewhere") / "credentials"
    secret.write_text("planted")
    with Sandbox(folder) as sandbox:
        with pytest.raises(ScanRefused) as refusal:
            sandbox.read(put(folder, f"spy {port} {secret}".encode()).path)
        taken = sandbox.confined
    assert "planted" not in refusal.value.message
    found = json.loads(refusal.value.message.replace("'", '"'))
    allocator = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]
    assert found["environment"] == ["HOME", "LANG", *allocator, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TMPDIR"]
    # What the kernel grants to an unprivileged process differs between machines; what it granted must hold.
    assert (found["connect"] == "OSError") == taken["network_namespace"]
    if taken["file_rules"]:
        assert {name: found[name] for name in ("secret", "parent", "home", "plant")} == dict.fromkeys(
            ("secret", "parent", "home", "plant"), "PermissionError"
        )
        assert not secret.with_name("credentials.planted").exists()


def liar(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    monkeypatch.setattr(room, "_READER", ("-c", LIAR.format(lie=lie)))


def answering(content: dict[str, object], *, size: int = 32) -> str:
    return f"open(request['out'], 'wb').write(bytes({size})); print(json.dumps({{'content': {content!r}}}), flush=True)"


def test_the_answer_that_the_lies_are_made_from_is_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar(monkeypatch, answering(HONEST_ANSWER))
    with Sandbox(folder) as sandbox:
        assert sandbox.read(put(folder, b"x").path).planes["high"].shape == (4, 4)


@pytest.mark.parametrize(
    "lie",
    [
        "print('{}', flush=True)",
        "print('nonsense', flush=True)",
        "print('[' * 100000, flush=True)",
        "print('x' * 3_000_000, flush=True)",
        answering(HONEST_ANSWER, size=30),
        answering(HONEST_ANSWER, size=34),
        answering(HONEST_ANSWER | {"height_px": 2**40}),
        answering(HONEST_ANSWER | {"height_px": 16384, "width_px": 16384}),
        answering(HONEST_ANSWER | {"planes": [{"name": "../../x", "bits": 16}]}),
        answering(HONEST_ANSWER | {"planes": []}),
        answering(HONEST_ANSWER | {"metadata": HONEST_ANSWER["metadata"] | {"site": "x" * 5000}}),  # type: ignore[operator]
        answering(HONEST_ANSWER | {"extra": 1}),
        f"import os; os.symlink('/etc/hostname', request['out']); print(json.dumps({{'content': {HONEST_ANSWER!r}}}), flush=True)",
        f"import os; os.mkfifo(request['out']); print(json.dumps({{'content': {HONEST_ANSWER!r}}}), flush=True)",
        f"print(json.dumps({{'content': {HONEST_ANSWER!r}}}), flush=True)",
    ],
    ids=range(15),
)
def test_a_lying_reader_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    liar(monkeypatch, lie)
    with Sandbox(folder, wall_s=3) as sandbox, pytest.raises(ScanRefused) as refusal:
        sandbox.read(put(folder, b"x").path)
    assert refusal.value.reason_code in ("reader_died", "too_large", "wall_limit")


def test_texts_of_a_lying_reader_are_cleaned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = HONEST_ANSWER | {"metadata": HONEST_ANSWER["metadata"] | {"view": "a\u202e\nb\x1b[31m"}}  # type: ignore[operator]
    liar(monkeypatch, answering(answer))
    with Sandbox(folder) as sandbox:
        assert sandbox.read(put(folder, b"x").path).metadata.view == "a b [31m"
    liar(monkeypatch, "print(json.dumps({'refused': 'made_up', 'reason': 'a\\n\\x1b[0m' + 'x' * 1900}), flush=True)")
    with Sandbox(folder) as sandbox, pytest.raises(ScanRefused) as refusal:
        sandbox.read(put(folder, b"x").path)
    assert refusal.value.reason_code == "malformed"
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 600


def test_a_reader_that_does_not_start_blames_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_READER", ("-c", "raise SystemExit('no such library')"))
    with Sandbox(folder) as sandbox, pytest.raises(WorldUnavailable, match="does not start: no such library"):
        sandbox.read(put(folder, b"x").path)


def test_a_reader_without_room_blames_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar(monkeypatch, "print(json.dumps({'unavailable': 'No space left on device'}), flush=True)")
    with Sandbox(folder) as sandbox, pytest.raises(WorldUnavailable, match="No space left"):
        sandbox.read(put(folder, b"x").path)


def test_a_reader_that_died_idle_is_replaced_and_no_file_blamed(folder: Path) -> None:
    file = put(folder, dicos(picture()))
    with Sandbox(folder) as sandbox:
        sandbox.read(file.path)
        assert sandbox._child is not None
        os.kill(sandbox._child.pid, 9)
        sandbox._child.wait()
        assert sandbox.read(file.path).source_format == "dicos"
        assert sandbox.starts == 2


def test_a_worn_reader_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FILES_A_CHILD", 3)
    file = put(folder, b"x")
    with Sandbox(folder) as sandbox:
        assert len(list(sandbox.read_all([file] * 8))) == 8
        assert sandbox.starts == 3
