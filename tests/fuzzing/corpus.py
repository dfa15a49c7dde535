"""Inputs that are kept: each small, as text, with what becomes of it. All are made here, from seeds that hold no picture of anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "fuzz" / "corpus"
_LINE = 120


@dataclass(frozen=True)
class Input:
    """A file, with its sidecar if it has one."""

    content: bytes
    sidecar: bytes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain text."""
        return {
            "content": base64.b64encode(self.content).decode(),
            "sidecar": None if self.sidecar is None else base64.b64encode(self.sidecar).decode(),
        }

    @classmethod
    def of(cls, said: dict[str, Any]) -> Input:
        """The reverse of `as_dict`."""
        return cls(base64.b64decode(said["content"]), None if said["sidecar"] is None else base64.b64decode(said["sidecar"]))


@dataclass(frozen=True)
class Kept:
    """One input of the corpus."""

    path: Path
    family: str
    """Format that it was made from."""
    code: str
    """Reason code, or `accepted`."""
    why: str
    """What is special about it."""
    file: Input


def load() -> Iterator[Kept]:
    """Every input that is kept, in order."""
    for path in sorted(FOLDER.glob("*.json")):
        said = json.loads(path.read_text())
        said["content"] = "".join(said["content"])
        yield Kept(path, said["family"], said["code"], said["why"], Input.of(said))


def keep(family: str, code: str, why: str, file: Input, *, word: str = "") -> Path:
    """Write an input. Its name says family, outcome and digest; `word` comes first for one that broke something."""
    digest = hashlib.sha256(file.content + b"|" + (file.sidecar or b"")).hexdigest()[:10]
    name = re.sub(r"[^a-z0-9_]+", "-", "-".join(filter(None, (word, family, code, digest))).lower())
    said = {"family": family, "code": code, "why": why[:200], **file.as_dict()}
    said["content"] = textwrap.wrap(said["content"], _LINE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(said, indent=0) + "\n")
    return path
