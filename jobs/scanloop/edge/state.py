"""What a device must never forget: the highest release it took, the latest time it was sure of, what it installed and what it refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DeviceState:
    """A device's memory. Values only ever grow: the counter, the clock, and what is known about releases."""

    counter: int = 0
    """Highest release that was ever installed; nothing below it is taken again."""
    clock: datetime = EPOCH
    """Latest time at which signed metadata was valid; the device believes in no earlier now."""
    installed: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Release to the SHA-256 of its manifest, as it was verified."""
    refused: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Release to the reason why it was not taken."""
    fall_back: str = ""
    """The last time it went back by itself, and why; empty once a release was installed after that."""

    def now(self, system_now: datetime) -> datetime:
        """The time to judge expiry by: never before what was already certain."""
        return max(self.clock, system_now)

    def with_clock(self, certain: datetime) -> DeviceState:
        """Move the clock forward, never back."""
        return replace(self, clock=max(self.clock, certain))

    def with_installed(self, version: int, manifest_sha256: str) -> DeviceState:
        """Remember a verified release."""
        refused = {number: reason for number, reason in self.refused.items() if number != version}
        return replace(self, installed=MappingProxyType({**self.installed, version: manifest_sha256}), refused=MappingProxyType(refused))

    def with_counter(self, version: int) -> DeviceState:
        """Raise the counter, never lower it."""
        return replace(self, counter=max(self.counter, version), fall_back="")

    def with_fall_back(self, sentence: str) -> DeviceState:
        """Remember that it went back by itself."""
        return replace(self, fall_back=sentence)

    def with_refused(self, version: int, reason: str) -> DeviceState:
        """Remember why a release was not taken."""
        return replace(self, refused=MappingProxyType({**self.refused, version: reason}))

    def without(self, versions: set[int]) -> DeviceState:
        """Forget releases whose files were removed."""
        kept = {number: sha256 for number, sha256 in self.installed.items() if number not in versions}
        return replace(self, installed=MappingProxyType(kept))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "counter": self.counter,
            "clock": self.clock.isoformat(),
            "installed": {str(version): sha256 for version, sha256 in sorted(self.installed.items())},
            "refused": {str(version): reason for version, reason in sorted(self.refused.items())},
            "fall_back": self.fall_back,
        }


def load_state(path: Path) -> DeviceState:
    """Read the state; a device that has none yet has the first one.

    What cannot be read is the first state too: the versions on disk then raise the counter again (see `install.recover`), and the update
    metadata beside it still refuses to go back.
    """
    try:
        content = json.loads(path.read_bytes())
        return DeviceState(
            int(content["counter"]),
            datetime.fromisoformat(content["clock"]),
            MappingProxyType({int(version): str(sha256) for version, sha256 in content["installed"].items()}),
            MappingProxyType({int(version): str(reason) for version, reason in content["refused"].items()}),
            str(content["fall_back"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return DeviceState()


def save_state(path: Path, state: DeviceState) -> None:
    """Replace the state in one act that survives a power cut."""
    write_durably(path, (json.dumps(state.to_json(), indent=1, sort_keys=True) + "\n").encode())


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` aside, make it durable, and let it take the place of `path` in one act."""
    aside = path.with_name(f".{path.name}.aside")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed or linked in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
