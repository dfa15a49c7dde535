"""The signer's own copy of the update repository, and how it reaches the channel.

Roles: root → targets (both offline) → one `line-<product line>` each; snapshot and timestamp tie them together. The copy in the signer's
home is the truth, the channel is a mirror: whoever rewrites the channel changes nothing that is signed next. A change is written as new
versioned files first, then `timestamp.json` is replaced: that one act commits it. Only what is committed is published, the timestamp last, so
a device sees the old state or the new one whole.

Source: The Update Framework specification 1.0.33, sections 4 and 6 (consistent snapshots).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from scanloop.errors import DataWrong, WrongArguments
from scanloop.release.keys import line_role, private_folder
from scanloop.steps import step
from scanloop.store import Store

_SERIALIZER = JSONSerializer(compact=False)


@dataclass(frozen=True)
class Expiries:
    """How long each role's word counts. A role is signed anew when less than half of its time is left."""

    root: timedelta = timedelta(days=365)
    """Root and targets, whose keys are offline: a ceremony a year."""
    line: timedelta = timedelta(days=90)
    """A product line's releases."""
    snapshot: timedelta = timedelta(days=7)
    """The set of current versions."""
    timestamp: timedelta = timedelta(days=1)
    """How long a device can be kept on old releases unnoticed."""


@dataclass(frozen=True)
class RepositoryState:
    """The committed metadata of every role, by role name; never changed in place."""

    roles: Mapping[str, Metadata[Any]] = field(default_factory=dict)
    """`root`, `targets`, `snapshot`, `timestamp` and the lines."""

    @property
    def root(self) -> Root:
        """The current root."""
        signed: Root = self.roles["root"].signed
        return signed

    @property
    def product_lines(self) -> list[str]:
        """Product lines that have a role, sorted."""
        return sorted(role.removeprefix("line-") for role in self.roles if role.startswith("line-"))

    def line(self, product_line: str) -> Targets:
        """The signed releases of `product_line`. Raises DataWrong if it has no role."""
        role = line_role(product_line)
        if role not in self.roles:
            raise DataWrong(
                f"The product line {product_line!r} has no signing role. Run `scanloop release init --product-line {product_line}`."
            )
        signed: Targets = self.roles[role].signed
        return signed


class MetadataFolder:
    """The signer's copy: `<version>.<role>.json` files, and `timestamp.json` that commits them."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)

    def load(self) -> RepositoryState | None:
        """Read the committed state, or None before the first ceremony was completed."""
        timestamp_path = self.folder / "timestamp.json"
        if not timestamp_path.exists():
            return None
        timestamp: Metadata[Timestamp] = Metadata.from_file(str(timestamp_path))
        snapshot: Metadata[Snapshot] = Metadata.from_file(str(self._path("snapshot", timestamp.signed.snapshot_meta.version)))
        roles: dict[str, Metadata[Any]] = {"timestamp": timestamp, "snapshot": snapshot}
        for name, meta in snapshot.signed.meta.items():
            role = name.removesuffix(".json")
            roles[role] = Metadata.from_file(str(self._path(role, meta.version)))
        roles["root"] = Metadata.from_file(str(max(self.folder.glob("*.root.json"), key=_version_of)))
        return RepositoryState(roles)

    def commit(self, before: RepositoryState | None, after: RepositoryState) -> None:
        """Make `after` the committed state, by one replaced file."""
        for role, metadata in after.roles.items():
            if role != "timestamp" and (before is None or before.roles.get(role) is not metadata):
                _write(self._path(role, metadata.signed.version), metadata.to_bytes(_SERIALIZER))
                step("release.after_metadata_file")
        _write(self.folder / "timestamp.json", after.roles["timestamp"].to_bytes(_SERIALIZER))
        step("release.after_metadata_commit")

    def publish(self, state: RepositoryState, channel: Store) -> int:
        """Bring the channel to `state`, the timestamp last. Returns how many files it lacked. Safe to kill and to repeat."""
        wanted = {f"metadata/{path.name}": path for path in sorted(self.folder.glob("*.root.json"), key=_version_of)}
        for role, metadata in state.roles.items():
            if role not in ("root", "timestamp", "snapshot"):
                wanted[f"metadata/{metadata.signed.version}.{role}.json"] = self._path(role, metadata.signed.version)
        version = state.roles["snapshot"].signed.version
        wanted[f"metadata/{version}.snapshot.json"] = self._path("snapshot", version)
        wanted["metadata/timestamp.json"] = self.folder / "timestamp.json"
        written = 0
        for key, path in wanted.items():
            data = path.read_bytes()
            if channel.head(key) is None or channel.get(key) != data:
                channel.put(key, data, content_type="application/json")
                written += 1
                step("release.after_metadata_published")
        return written

    def _path(self, role: str, version: int) -> Path:
        return self.folder / f"{version}.{role}.json"


def first_state(signers: Mapping[str, Signer], now: datetime, expiries: Expiries) -> RepositoryState:
    """Build version 1 of root, targets, snapshot and timestamp from their four signers."""
    root = Root(expires=_at(now, expiries.root), consistent_snapshot=True)
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(signers[role].public_key, role)
    targets = Targets(expires=_at(now, expiries.root), delegations=Delegations({}, {}))
    roles = {"root": _signed(root, signers["root"]), "targets": _signed(targets, signers["targets"])}
    return _tied(RepositoryState(roles), signers, now, expiries)


def with_product_lines(
    state: RepositoryState, keys: Mapping[str, Signer], signers: Mapping[str, Signer], now: datetime, expiries: Expiries
) -> RepositoryState:
    """Delegate to new product lines. `keys`: product line to the signer of its role; `signers`: targets, snapshot and timestamp."""
    targets = Targets.from_dict(state.roles["targets"].signed.to_dict())
    targets.version, targets.expires = targets.version + 1, _at(now, expiries.root)
    if targets.delegations is None or targets.delegations.roles is None:
        raise WrongArguments("The repository's targets role delegates to no one; it was not made by `scanloop release init`.")
    roles = dict(state.roles)
    for product_line, signer in keys.items():
        name = line_role(product_line)
        targets.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=[f"{product_line}/*/*"])
        targets.add_key(signer.public_key, name)
        roles[name] = _signed(Targets(expires=_at(now, expiries.line)), signer)
    roles["targets"] = _signed(targets, signers["targets"])
    return _tied(RepositoryState(roles), signers, now, expiries)


def with_targets(
    state: RepositoryState, product_line: str, added: Iterable[TargetFile], signers: Mapping[str, Signer], now: datetime, expiries: Expiries
) -> RepositoryState:
    """Add or replace targets of one product line. `signers`: the line's role, snapshot and timestamp."""
    name = line_role(product_line)
    line = Targets.from_dict(state.line(product_line).to_dict())
    line.version, line.expires = line.version + 1, _at(now, expiries.line)
    line.targets.update({target.path: target for target in added})
    return _tied(RepositoryState({**state.roles, name: _signed(line, signers[name])}), signers, now, expiries)


def due_roles(state: RepositoryState, now: datetime, expiries: Expiries) -> list[str]:
    """Roles the signer can renew by itself and that have less than half of their time left."""
    spans = {"snapshot": expiries.snapshot, "timestamp": expiries.timestamp}
    return sorted(
        role
        for role, metadata in state.roles.items()
        if role not in ("root", "targets") and metadata.signed.expires - now < spans.get(role, expiries.line) / 2
    )


def renewed(
    state: RepositoryState, due: Iterable[str], signers: Mapping[str, Signer], now: datetime, expiries: Expiries
) -> RepositoryState:
    """Sign `due` roles anew with a later expiry and nothing else changed; a new line or snapshot version brings what depends on it along."""
    roles = dict(state.roles)
    lines = [role for role in due if role.startswith("line-")]
    for name in lines:
        line = Targets.from_dict(roles[name].signed.to_dict())
        line.version, line.expires = line.version + 1, _at(now, expiries.line)
        roles[name] = _signed(line, signers[name])
    if lines or "snapshot" in due:
        return _tied(RepositoryState(roles), signers, now, expiries)
    return RepositoryState({**roles, "timestamp": _timestamp(state, roles["snapshot"], signers["timestamp"], now, expiries)})


def _tied(state: RepositoryState, signers: Mapping[str, Signer], now: datetime, expiries: Expiries) -> RepositoryState:
    """Sign the snapshot of the present versions, and the timestamp of that snapshot."""
    meta = {
        f"{role}.json": MetaFile.from_data(metadata.signed.version, metadata.to_bytes(_SERIALIZER), ["sha256"])
        for role, metadata in sorted(state.roles.items())
        if role not in ("root", "snapshot", "timestamp")
    }
    version = state.roles["snapshot"].signed.version + 1 if "snapshot" in state.roles else 1
    snapshot = _signed(Snapshot(version=version, expires=_at(now, expiries.snapshot), meta=meta), signers["snapshot"])
    timestamp = _timestamp(state, snapshot, signers["timestamp"], now, expiries)
    return RepositoryState({**state.roles, "snapshot": snapshot, "timestamp": timestamp})


def _timestamp(state: RepositoryState, snapshot: Metadata[Any], signer: Signer, now: datetime, expiries: Expiries) -> Metadata[Any]:
    meta = MetaFile.from_data(snapshot.signed.version, snapshot.to_bytes(_SERIALIZER), ["sha256"])
    version = state.roles["timestamp"].signed.version + 1 if "timestamp" in state.roles else 1
    return _signed(Timestamp(version=version, expires=_at(now, expiries.timestamp), snapshot_meta=meta), signer)


def _signed(content: Any, signer: Signer) -> Metadata[Any]:
    metadata = Metadata(content)
    metadata.sign(signer)
    return metadata


def _at(now: datetime, span: timedelta) -> datetime:
    return (now + span).replace(microsecond=0)


def _version_of(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _write(path: Path, data: bytes) -> None:
    """Replace `path` in one act that survives a power cut."""
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    aside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
