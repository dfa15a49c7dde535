"""What was delivered, hash by hash, kept outside the system that is tested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Delivered:
    """One file that a site delivered."""

    landing_key: str
    """Where in the landing zone it was put."""
    sha256: str
    """Digest of its bytes."""

    @property
    def is_sidecar(self) -> bool:
        """Whether it is the JSON beside an image."""
        return self.landing_key.endswith(".json")


@dataclass
class Ledger:
    """Every file that was ever delivered. Only grows."""

    entries: set[Delivered] = field(default_factory=set)

    def note(self, landing: Path) -> list[Delivered]:
        """Write down what lies in the landing zone; returns what is new."""
        found = {
            Delivered(path.relative_to(landing).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
            for path in landing.rglob("*")
            if path.is_file() and not path.relative_to(landing).parts[0].startswith(".")
        }
        new = found - self.entries
        self.entries |= new
        return sorted(new, key=lambda delivered: delivered.landing_key)
