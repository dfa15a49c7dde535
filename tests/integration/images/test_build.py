"""An image's build stage really runs, instruction by instruction, and what it leaves works without writing into itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_steps import ROOT, build


@pytest.fixture(scope="module")
def edge() -> Iterator[Path]:
    """The environment of the edge image."""
    root = Path(tempfile.mkdtemp(prefix="image-"))
    build(ROOT / "images" / "edge" / "Dockerfile", root)
    yield root / "opt" / "scanloop"
    shutil.rmtree(root)


def _run(edge: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "SCANLOOP_DEVICE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "120",
    }
    command = [edge / "bin" / "scanloop", "edge", *words]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
def test_the_command_runs(edge: Path, tmp_path: Path) -> None:
    done = _run(edge, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "device" in done.stdout


def test_a_device_that_was_never_set_up_says_so(edge: Path, tmp_path: Path) -> None:
    done = _run(edge, tmp_path, "status")
    assert done.returncode in (64, 65, 75, 99), done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_written_into_the_image(edge: Path, tmp_path: Path) -> None:
    def files() -> set[str]:
        return {str(path) for path in edge.rglob("*")}

    before = files()
    _run(edge, tmp_path, "--help")
    assert files() == before


def test_the_bill_of_materials_names_what_is_there(edge: Path) -> None:
    named = {one["name"].lower().replace("_", "-") for one in json.loads((edge / "bom.cdx.json").read_text())["components"]}
    locked = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "images" / "edge" / "requirements.txt").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    assert {name.partition("[")[0] for name in locked} <= named
    assert not named & {"cyclonedx-bom", "pip", "setuptools", "torch", "mmdet"}
