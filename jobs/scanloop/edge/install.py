"""Releases on a device's disk: complete and verified beside each other, one of them current.

At every instant `current` names a complete, verified release (or there never was one). A release is collected in `versions/.incoming`,
appears as `versions/<n>` by one rename, and becomes current by one replaced link. Power may fail anywhere: what is half done is found and
cleared by `recover`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from scanloop.edge.device import DeviceHome
from scanloop.edge.manifest import BundleFile, Manifest, parse_manifest
from scanloop.edge.state import DeviceState, load_state, save_state, sync_folder, write_durably
from scanloop.errors import DataWrong, WorldUnavailable
from scanloop.steps import step

KEPT_VERSIONS = 2
_CHUNK_BYTES = 1 << 20
_INCOMING = ".incoming"


@dataclass(frozen=True)
class Installed:
    """A release on this disk."""

    version: int
    """Its number."""
    folder: Path
    """Where its files are."""
    manifest: Manifest
    """What it consists of."""


def current_version(home: DeviceHome) -> int | None:
    """The release that `current` names, or None."""
    try:
        return int(home.current.readlink().name)
    except (FileNotFoundError, ValueError, OSError):
        return None


def verified(home: DeviceHome, version: int, state: DeviceState) -> Installed:
    """The installed release `version`, every byte compared with what was verified when it came.

    Raises:
        DataWrong: a file is missing or differs, or the release was never recorded as verified.
    """
    folder = home.versions / str(version)
    data = _read(folder / "manifest.json")
    if hashlib.sha256(data).hexdigest() != state.installed.get(version):
        raise DataWrong(f"The manifest of release {version} in {folder} is not the one that was verified.")
    manifest = parse_manifest(data)
    for file in manifest.files:
        if not is_whole(folder / file.name, file):
            raise DataWrong(f"{folder / file.name} is not what release {version} names.")
    return Installed(version, folder, manifest)


def is_whole(path: Path, file: BundleFile) -> bool:
    """Whether `path` holds exactly `file`."""
    try:
        if path.is_symlink() or path.stat().st_size != file.size_bytes:
            return False
        digest = hashlib.sha256()
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == file.sha256


def incoming_folder(home: DeviceHome, manifest_sha256: str) -> Path:
    """Where the files of one release are collected; what another release left half done is cleared."""
    base = home.versions / _INCOMING
    folder = base / manifest_sha256
    if base.is_dir():
        for other in base.iterdir():
            if other != folder:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def place(home: DeviceHome, incoming: Path, version: int, manifest_bytes: bytes) -> Path:
    """Turn a complete incoming folder into `versions/<n>`, in one act."""
    for path in incoming.iterdir():
        _sync_file(path)
    write_durably(incoming / "manifest.json", manifest_bytes)
    step("edge.before_place")
    folder = home.versions / str(version)
    if folder.exists():
        shutil.rmtree(folder)
    incoming.rename(folder)
    sync_folder(home.versions)
    step("edge.after_place")
    return folder


def switch(home: DeviceHome, version: int) -> None:
    """Make release `version` current, in one act."""
    aside = home.folder / ".current.aside"
    aside.unlink(missing_ok=True)
    aside.symlink_to(Path("versions") / str(version))
    step("edge.before_switch")
    aside.replace(home.current)
    sync_folder(home.folder)
    step("edge.after_switch")


def recover(home: DeviceHome) -> tuple[Installed | None, DeviceState]:
    """Come to rest after whatever happened: bring the counter level with the disk, and fall back if the current release is damaged.

    Returns the release that is current now, verified, and the state; None if there never was one, or none is whole any more. Falling back goes to the
    highest whole release below; the counter stays, so that only the same release or a higher one is installed next.
    """
    state = load_state(home.state)
    current = current_version(home)
    if current is not None and current > state.counter:
        state = state.with_counter(current)
        save_state(home.state, state)
    if current is None:
        return None, state
    damage = ""
    for version in sorted({version for version in state.installed if version < current} | {current}, reverse=True):
        try:
            found = verified(home, version, state)
        except DataWrong as error:
            damage = damage or error.message
            continue
        if version != current:
            state = state.with_fall_back(f"From release {current} to {version}: {damage}")
            save_state(home.state, state)
            step("edge.before_fall_back")
            switch(home, version)
        return found, state
    return None, state.with_fall_back(f"From release {current} to none: {damage}")


def running(home: DeviceHome) -> tuple[Installed | None, DeviceState]:
    """The release that answers now, every byte verified, and the state. Waits for nobody: an update may be under way.

    The release before the current one is kept, so what is returned stays on the disk while an update switches. Only a damaged release
    makes this take the device's lock and come to rest first.

    Raises:
        WorldUnavailable: the current release is damaged and another process is at work.
    """
    state, current = load_state(home.state), current_version(home)
    if current is None:
        return None, state
    try:
        return verified(home, current, state), state
    except DataWrong:
        with home.locked():
            return recover(home)


def prune(home: DeviceHome, state: DeviceState) -> DeviceState:
    """Keep the current release and the one before it; remove older and refused ones. What is placed and newer stays, to be gone on with."""
    current = current_version(home) or 0
    keep = set(sorted((version for version in state.installed if version <= current), reverse=True)[:KEPT_VERSIONS])
    gone = {version for version in state.installed if version <= current} - keep
    if gone:
        state = state.without(gone)
        save_state(home.state, state)
        step("edge.before_prune")
    for folder in home.versions.iterdir():
        version = int(folder.name) if folder.name.isdigit() else None
        if version is not None and version not in keep and (version <= current or version in state.refused):
            shutil.rmtree(folder)
            step("edge.after_prune")
    return state


def clear_incoming(home: DeviceHome) -> None:
    """Remove what was collected and is not needed any more."""
    if (home.versions / _INCOMING).exists():
        shutil.rmtree(home.versions / _INCOMING)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataWrong(f"{path} cannot be read: {error.strerror}.") from None


def _sync_file(path: Path) -> None:
    try:
        with path.open("rb") as source:
            os.fsync(source.fileno())
    except OSError as error:
        raise WorldUnavailable(f"{path} cannot be made durable: {error.strerror}.") from None
