"""The walk in docs/snapshots.md, command by command as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def walk() -> list[str]:
    """The lines of the walk's commands."""
    page = (ROOT / "docs" / "snapshots.md").read_text()
    (block,) = re.findall(r"^## A walk$.*?^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line for line in block.splitlines() if line and not line.startswith("#")]


@pytest.mark.timeout(1200)
def test_the_documented_walk(environment: dict[str, str], tmp_path: Path) -> None:
    environment = environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    said: dict[str, str] = {}
    every = "scanloop snapshot diff cabin@1 cabin@2 --json"
    for line in (*walk(), every):
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.returncode} {done.stderr[-2000:]}"
        said[line] = done.stdout
    home = Path(environment["SCANLOOP_HOME"])
    assert (home / "balance.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((home / "coco" / "train.json").read_text())["annotations"]
    moved = json.loads(said["scanloop snapshot diff cabin@1 cabin@2"].splitlines()[-1])
    assert moved["annotation"] > 0
    assert moved["removed"] == moved["split"] == moved["scan"] == 0
    changes = [json.loads(line) for line in said[every].splitlines()]
    # What was added had come back from its first round; the other changes follow from these.
    asked = [change for change in changes if change["kind"] == "changed" and "annotation_ids" in change["after"]]
    assert 0 < len(asked) <= 10
    assert all("grenade" in change["after"]["looked_for"] for change in asked)
    assert json.loads(said["scanloop snapshot verify cabin@2 --with-parents"])["violations"] == 0
    lineage = said["scanloop snapshot lineage cabin@2"]
    trained = json.loads(said["scanloop model train --product-line cabin"])["model_id"]
    assert trained[:12] in lineage
    assert json.loads(said["scanloop snapshot gc --dry-run"])["unused"] == 0
