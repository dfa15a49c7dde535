"""The signer: answers requests, one at a time, and keeps the channel fresh. A process apart, with keys that no other process can read."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile

from scanloop.catalog import Catalog
from scanloop.edge.manifest import Manifest, channel_target, file_target, release_target
from scanloop.errors import DataWrong, ObjectConflict, WorldUnavailable, WrongArguments
from scanloop.release.authenticate import RequestRefused, authenticate
from scanloop.release.bundle import bundle_file_key
from scanloop.release.ceremony import keep_fresh
from scanloop.release.keys import KeyFolder, line_role
from scanloop.release.repository import Expiries, MetadataFolder, RepositoryState, with_targets
from scanloop.release.requests import SigningAnswer, SigningRequest, answer_key, open_requests, read_request
from scanloop.steps import step
from scanloop.store import Store

log = logging.getLogger(__name__)

OWNER = "release-signer"


def utc_now() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


@dataclass
class Signer:
    """Everything the signer works with. The caller holds `ceremony.signer_lock`."""

    keys: KeyFolder
    store: Store
    """Where requests, receipts and bundles are."""
    channel: Store
    """Where devices read."""
    catalog: Catalog
    expiries: Expiries = field(default_factory=Expiries)
    now: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        self.folder = MetadataFolder(self.keys.home / "metadata")

    def state(self) -> RepositoryState:
        """The committed metadata. Raises WrongArguments before the first ceremony."""
        state = self.folder.load()
        if state is None:
            raise WrongArguments(f"The signer at {self.keys.home} has no repository yet. Run `scanloop release init` first.")
        return state

    def refresh(self) -> RepositoryState:
        """Renew what is past half of its time and bring the channel level with what is committed."""
        state = keep_fresh(self.keys, self.folder, self.state(), self.now(), self.expiries)
        self.folder.publish(state, self.channel)
        return state

    def answer_all(self) -> list[SigningAnswer]:
        """Answer every open request, lower numbers first. Returns the answers given."""
        answers = []
        for release_id in open_requests(self.store):
            answer = self.answer(release_id)
            if answer is not None:
                answers.append(answer)
        return answers

    def answer(self, release_id: str) -> SigningAnswer | None:
        """Sign or refuse one request. None: nothing can be decided yet, the request stays open.

        Killed anywhere and repeated, it comes to the same answer: what is signed is recognised by its release id, and what is committed is published.
        """
        state = self.state()
        try:
            request = read_request(self.store, release_id)
            signed = find_signed(state, request)
            if signed is None:
                if request.product_line not in state.product_lines:
                    log.warning("%s waits: %s has no signing role yet. Run `scanloop release init`.", release_id, request.product_line)
                    return None
                state = self._sign(state, request)
                signed = find_signed(state, request)
            self.folder.publish(state, self.channel)
            if signed is None:
                raise RequestRefused("The release was not signed.")
            answer = SigningAnswer(release_id, "released", "", request.version, signed.path)
        except DataWrong as refused:
            answer = SigningAnswer(release_id, "refused", refused.message)
        step("release.before_answer")
        try:
            self.store.put_if_absent(answer_key(release_id), answer.to_bytes(), owner=OWNER)
        except ObjectConflict:
            log.warning("Somebody else answered %s; only the signatures on the channel count.", release_id)
        step("release.after_answer")
        log.info("%s: %s %s", release_id, answer.outcome, answer.reason)
        return answer

    def _sign(self, state: RepositoryState, request: SigningRequest) -> RepositoryState:
        """Authenticate, then sign."""
        manifest = authenticate(self.store, self.catalog, request, last_signed(state, request.product_line))
        step("release.after_authenticated")
        return self.sign_manifest(state, manifest, request.release_id)

    def sign_manifest(self, state: RepositoryState, manifest: Manifest, release_id: str) -> RepositoryState:
        """Copy the files of an authenticated bundle to the channel, sign its manifest as the newest release, commit. Publishing is the next act."""
        self._copy_files(manifest)
        data = manifest.to_bytes()
        targets = []
        for path in (channel_target(manifest.product_line, manifest.channel), release_target(manifest.product_line, manifest.version)):
            target = TargetFile.from_data(path, data, ["sha256"])
            target.unrecognized_fields["custom"] = {"release_id": release_id, "version": manifest.version, "model_id": manifest.model_id}
            targets.append(target)
            self._put(target_key(path, manifest.sha256), data)
        step("release.after_targets")
        roles = (line_role(manifest.product_line), "snapshot", "timestamp")
        after = with_targets(
            state, manifest.product_line, targets, {role: self.keys.signer(role) for role in roles}, self.now(), self.expiries
        )
        self.folder.commit(state, after)
        return after

    def _copy_files(self, manifest: Manifest) -> None:
        for file in manifest.files:
            key = target_key(file_target(manifest.product_line, file.name), file.sha256)
            if self.channel.head(key) is not None and self.channel.verify(key, file.sha256):
                continue
            with tempfile.TemporaryDirectory(prefix="scanloop-signer-") as folder:
                path = self.store.download(bundle_file_key(file), Path(folder) / file.name)
                stored = self.channel.put(key, path)
            if stored.sha256 != file.sha256:
                raise RequestRefused(f"{file.name} of the bundle changed while it was copied.")
            step("release.after_target_file")

    def _put(self, key: str, data: bytes) -> None:
        if self.channel.head(key) is None or self.channel.get(key) != data:
            self.channel.put(key, data, content_type="application/json")


def run_signer(signer: Signer, *, poll_s: float, stop: threading.Event) -> None:
    """Answer and refresh until `stop` is set. A world that is away is waited for."""
    while not stop.is_set():
        try:
            signer.refresh()
            signer.answer_all()
        except WorldUnavailable as error:
            log.warning("%s", error.message)
        stop.wait(poll_s)


def last_signed(state: RepositoryState, product_line: str) -> int:
    """The highest number signed for `product_line`, 0 before the first."""
    prefix = release_target(product_line, 0).removesuffix("0.json")
    signed = (path for path in state.line(product_line).targets if path.startswith(prefix))
    return max((int(path.removeprefix(prefix).removesuffix(".json")) for path in signed), default=0)


def find_signed(state: RepositoryState, request: SigningRequest) -> TargetFile | None:
    """The target under which exactly this request was signed before, or None."""
    if request.product_line not in state.product_lines:
        return None
    target = state.line(request.product_line).targets.get(release_target(request.product_line, request.version))
    if target is None or target.hashes.get("sha256") != request.bundle_sha256:
        return None
    custom: dict[str, Any] = target.unrecognized_fields.get("custom", {})
    return target if custom.get("release_id") == request.release_id else None


def target_key(path: str, sha256: str) -> str:
    """Where a target lies on the channel: with consistent snapshots its hash stands before its name."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{sha256}.{name}"
