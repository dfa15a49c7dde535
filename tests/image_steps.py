"""Runs the build stage of a Dockerfile without a container engine: its COPY and RUN instructions, with its folders moved under another one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOVED = ("/build", "/opt/scanloop", "/opt/airflow")


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Instruction and its arguments, continued lines joined, comments left out."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), re.sub(r"\s+", " ", rest.strip())


def stages(path: Path) -> list[list[tuple[str, str]]]:
    """Instructions of each stage, the first one being FROM."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions(path):
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def build(path: Path, root: Path) -> None:
    """Run the first stage, with `/build` and `/opt` under `root`. Raises CalledProcessError."""
    arguments = dict(rest.partition("=")[::2] for word, rest in stages(path)[0] if word == "ARG")
    environment = {**os.environ, **{name: value.strip('"') for name, value in arguments.items() if not name.startswith("PIP_INDEX")}}
    environment["PATH"] = f"{Path(sys.executable).resolve().parent}:{environment['PATH']}"
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for word, rest in stages(path)[0]:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, Path(_moved(target, root)), is_folder=target.endswith("/"))
        elif word == "RUN":
            done = subprocess.run(["sh", "-c", _moved(rest, root)], env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def _moved(text: str, root: Path) -> str:
    for folder in MOVED:
        text = re.sub(rf"(?<![\w/.-]){folder}\b", f"{shlex.quote(str(root))}{folder}", text)
    return text


def _copy(source: Path, target: Path, *, is_folder: bool) -> None:
    target = target / source.name if is_folder and source.is_file() else target
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    else:
        shutil.copy2(source, target)
