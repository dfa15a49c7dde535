"""The fence around the signer's keys, on the real kernel: no process behind it opens a key, and all other work goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanloop.release import protect

needs_landlock = pytest.mark.skipif(protect.landlock_version() < 2, reason="this kernel has no Landlock, or one that is too old")

PROBE = """
import json, os, pathlib, subprocess, sys
home, outside = pathlib.Path(sys.argv[1]), sys.argv[2]
key = home / "signer" / "key.pem"
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
print(json.dumps({
    "read": tried(lambda: key.read_text()),
    "append": tried(lambda: key.open("a")),
    "remove": tried(lambda: key.unlink()),
    "new file beside it": tried(lambda: (key.parent / "new").write_text("x")),
    "move the folder": tried(lambda: (home / "signer").rename(home / "store" / "signer")),
    "rename the folder": tried(lambda: (home / "signer").rename(home / "other")),
    "link": tried(lambda: os.link(key, home / "store" / "key")),
    "through a symlink": tried(lambda: (home / "store" / "symlink").read_text()),
    "through /proc": tried(lambda: pathlib.Path(f"/proc/self/root{key}").read_text()),
    "environment of another process": tried(lambda: pathlib.Path(f"/proc/{outside}/environ").read_bytes()),
    "memory of another process": tried(lambda: open(f"/proc/{outside}/mem", "rb")),
    "child": subprocess.run(["cat", str(key)], capture_output=True).returncode,
    "grandchild": subprocess.run(["sh", "-c", f"sh -c 'cat {key}'"], capture_output=True).returncode,
}))
"""
WORK = """
import pathlib, subprocess, sys, tempfile
home = pathlib.Path(sys.argv[1])
(home / "store" / "new" / "deep").mkdir(parents=True)
(home / "store" / "a").write_text("work")
(home / "store" / "a").rename(home / "store" / "new" / "deep" / "a")
assert (home / "store" / "new" / "deep" / "a").read_text() == "work"
(home / "made" / "b").write_text("made before the command")
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "c").write_text("temporary")
assert "store" in {entry.name for entry in home.iterdir()}
assert subprocess.run(["sh", "-c", "echo out > /dev/null; head -c 4 /dev/urandom"], capture_output=True, check=True).stdout
import ssl, sqlite3, multiprocessing
assert sys.flags.dev_mode is False
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "signer").mkdir(mode=0o700)
    (tmp_path / "signer" / "key.pem").write_text("secret")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "symlink").symlink_to(tmp_path / "signer" / "key.pem")
    return tmp_path


def behind(home: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "scanloop.release.protect", "--deny", str(home / "signer"), *options, "--"]
    return subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=60)


@needs_landlock
def test_nothing_behind_the_fence_reaches_a_key(home):
    outside = subprocess.Popen(["sleep", "60"], env={**os.environ, "PASSPHRASE": "secret"})
    try:
        done = behind(home, sys.executable, "-c", PROBE, str(home), str(outside.pid))
    finally:
        outside.kill()
        outside.wait()
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    assert tried.pop("child") != 0
    assert tried.pop("grandchild") != 0
    assert "done" not in tried.values(), tried
    assert (home / "signer" / "key.pem").read_text() == "secret"
    assert "secret" not in done.stdout + done.stderr


@needs_landlock
def test_other_work_goes_on(home):
    done = behind(home, sys.executable, "-c", WORK, str(home), options=("--make", str(home / "made")))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@needs_landlock
def test_a_job_runs_behind_the_fence(home, environment):
    command = [
        str(Path(sys.executable).parent / "scanloop"),
        "definitions",
        "apply",
        "--folder",
        str(Path(__file__).parents[3] / "product_lines"),
    ]
    for name in ("work", "channel", "landing", "truth"):
        (home / name).mkdir(exist_ok=True)
    launcher = [sys.executable, "-m", "scanloop.release.protect", "--deny", str(home / "signer"), "--"]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=60, env=environment | {"SCANLOOP_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@needs_landlock
@pytest.mark.skipif(not Path("/dev").is_dir() or os.geteuid() != 0, reason="only root could open a raw disk")
def test_root_can_neither_read_a_raw_disk_nor_regain_what_it_lost(home):
    probe = (
        "import os, pathlib, json\n"
        "disks = [str(p) for p in pathlib.Path('/dev').iterdir() if p.is_block_device()]\n"
        "opened = []\n"
        "for disk in disks:\n"
        "    try: os.close(os.open(disk, os.O_RDONLY)); opened.append(disk)\n"
        "    except OSError: pass\n"
        "try: os.mknod('/tmp/scanloop-disk', 0o60600, os.makedev(254, 0)); opened.append('mknod')\n"
        "except OSError: pass\n"
        "status = dict(line.split(':\\t') for line in pathlib.Path('/proc/self/status').read_text().splitlines() if ':\\t' in line)\n"
        "print(json.dumps({'opened': opened, 'bound': int(status['CapBnd'], 16), 'held': int(status['CapPrm'], 16), 'nnp': status['NoNewPrivs']}))\n"
    )
    done = behind(home, sys.executable, "-c", probe)
    found = json.loads(done.stdout)
    lost = sum(1 << number for number in protect._DROPPED_CAPABILITIES.values())
    assert found["opened"] == []
    assert (found["bound"] & lost, found["held"] & lost, found["nnp"]) == (0, 0, "1")


def test_the_command_and_its_exit_code_are_the_launchers(home):
    assert behind(home, "sh", "-c", "exit 75").returncode == 75
    missing = behind(home, "no-such-command")
    assert missing.returncode == 127
    assert missing.stderr == "no-such-command cannot be started: No such file or directory\n"


def test_without_landlock_one_line_warns_and_the_command_runs(home, capfd, monkeypatch):
    monkeypatch.setattr(protect, "landlock_version", lambda: 0)
    ran: list[list[str]] = []
    monkeypatch.setattr(protect.os, "execvp", lambda name, command: ran.append(command))
    protect.main(["--deny", str(home / "signer"), "--", "true"])
    assert ran == [["true"]]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "is not fenced off" in said[0]


def test_grants_reach_everything_but_the_folder(tmp_path):
    (tmp_path / "a" / "b" / "keys").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("")
    (tmp_path / "a" / "c").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "b" / "keys")
    folder = (tmp_path / "a" / "b" / "keys").resolve()
    granted = [path for path, rights in protect.grants_around(folder) if rights & protect.READ_FILE]
    assert tmp_path / "a" / "c" in granted
    assert tmp_path / "a" / "b" / "file" in granted
    assert not [path for path in granted if folder.is_relative_to(path) or path.is_relative_to(folder)]
    assert tmp_path / "a" / "link" not in granted
