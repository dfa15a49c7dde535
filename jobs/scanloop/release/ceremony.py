"""The key ceremony: make the keys, sign the first root, delegate to each product line, publish."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scanloop.errors import WorldUnavailable, WrongArguments
from scanloop.release.keys import KeyFolder, line_role, private_folder
from scanloop.release.repository import Expiries, MetadataFolder, RepositoryState, due_roles, first_state, renewed, with_product_lines
from scanloop.steps import step
from scanloop.store import Store


@dataclass(frozen=True)
class Ceremony:
    """What a ceremony left behind."""

    root_version: int
    """Version of the root that is now published."""
    root_sha256: str
    """Digest of the first root: devices are enrolled with it."""
    product_lines: tuple[str, ...]
    """Product lines that releases can be signed for."""
    added: tuple[str, ...]
    """Those added by this ceremony."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "root_version": self.root_version,
            "root_sha256": self.root_sha256,
            "product_lines": list(self.product_lines),
            "added": list(self.added),
        }


@contextmanager
def signer_lock(home: Path) -> Iterator[None]:
    """Hold the signer's home for one process. Raises WorldUnavailable if another has it."""
    with (private_folder(home) / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorldUnavailable(f"Another signer is at work in {home}; two of them would sign the same version twice.") from None
        yield


def check_apart(home: Path, urls: Sequence[str], folders: Sequence[Path]) -> None:
    """Make sure the signer's home lies in nothing that is shared.

    Raises:
        WrongArguments: it lies in, or holds, a store's folder or one of `folders`.
    """
    shared = [*folders, *(Path(unquote(urlsplit(url).path)) for url in urls if urlsplit(url).scheme == "file")]
    place = home.resolve()
    for folder in (path.resolve() for path in shared):
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise WrongArguments(
                f"The signer's home {home} must lie apart from {folder}, which jobs read. Set SCANLOOP_SIGNER_HOME to a place of its own."
            )


def hold_ceremony(
    keys: KeyFolder, channel: Store, product_lines: Sequence[str], now: datetime, expiries: Expiries | None = None
) -> Ceremony:
    """Bring keys, metadata and channel to where releases of `product_lines` can be signed. Safe to kill and to repeat.

    The caller holds `signer_lock`. Keys and roles that exist stay; the offline keys are needed only when something is added.

    Raises:
        WrongArguments: a key is needed that is not here (the offline keys were moved away).
    """
    expiries = expiries or Expiries()
    folder = MetadataFolder(keys.home / "metadata")
    before = folder.load()
    if before is None:
        signers = {role: keys.make(role) for role in ("root", "targets", "snapshot", "timestamp")}
        step("release.after_keys")
        state = first_state(signers, now, expiries)
    else:
        state = before
    added = sorted(set(product_lines) - set(state.product_lines))
    if added:
        signers = {role: keys.signer(role) for role in ("targets", "snapshot", "timestamp")}
        state = with_product_lines(state, {name: keys.make(line_role(name)) for name in added}, signers, now, expiries)
    if state is not before:
        folder.commit(before, state)
    state = keep_fresh(keys, folder, state, now, expiries)
    folder.publish(state, channel)
    first_root = (folder.folder / "1.root.json").read_bytes()
    return Ceremony(state.root.version, hashlib.sha256(first_root).hexdigest(), tuple(state.product_lines), tuple(added))


def keep_fresh(keys: KeyFolder, folder: MetadataFolder, state: RepositoryState, now: datetime, expiries: Expiries) -> RepositoryState:
    """Sign anew, and commit, what the online keys can and what is past half of its time. Returns the state to publish."""
    due = due_roles(state, now, expiries)
    if not due:
        return state
    after = renewed(state, due, {role: keys.signer(role) for role in {*due, "snapshot", "timestamp"}}, now, expiries)
    folder.commit(state, after)
    return after
