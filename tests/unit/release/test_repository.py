"""The update repository as values: what changes with each act, and what the committed copy survives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from scanloop.errors import DataWrong
from scanloop.release.repository import Expiries, MetadataFolder, due_roles, first_state, renewed, with_product_lines, with_targets

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EXPIRIES = Expiries()
SIGNERS = {role: CryptoSigner.generate_ed25519() for role in ("root", "targets", "snapshot", "timestamp", "line-cabin", "line-hold")}


@pytest.fixture
def state():
    first = first_state(SIGNERS, NOW, EXPIRIES)
    return with_product_lines(first, {name: SIGNERS[f"line-{name}"] for name in ("cabin", "hold")}, SIGNERS, NOW, EXPIRIES)


def target(path: str = "cabin/release/1.json") -> TargetFile:
    return TargetFile.from_data(path, b"manifest", ["sha256"])


def versions(state) -> dict[str, int]:
    return {role: metadata.signed.version for role, metadata in state.roles.items()}


def test_every_role_is_signed_by_its_own_key_only(state):
    root, targets = state.roles["root"].signed, state.roles["targets"].signed
    for role in ("root", "targets", "snapshot", "timestamp"):
        metadata = state.roles[role]
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        assert list(metadata.signatures) == [SIGNERS[role].public_key.keyid]
    for role in ("line-cabin", "line-hold"):
        targets.verify_delegate(role, state.roles[role].signed_bytes, state.roles[role].signatures)
    assert state.product_lines == ["cabin", "hold"]
    assert root.consistent_snapshot


@pytest.mark.parametrize(
    ("path", "roles"),
    [
        ("cabin/channel/stable.json", ["line-cabin"]),
        ("hold/release/1.json", ["line-hold"]),
        ("cabin/a/b/c.json", []),
        ("cabin.json", []),
        ("other/release/1.json", []),
    ],
)
def test_a_path_belongs_to_one_product_line(state, path, roles):
    assert [role for role, _ in state.roles["targets"].signed.delegations.get_roles_for_target(path)] == roles


def test_a_release_touches_its_own_line_snapshot_and_timestamp(state):
    after = with_targets(state, "cabin", [target()], SIGNERS, NOW, EXPIRIES)
    changed = {role for role, version in versions(after).items() if version != versions(state)[role]}
    assert changed == {"line-cabin", "snapshot", "timestamp"}
    assert state.line("cabin").targets == {}
    assert list(after.line("cabin").targets) == ["cabin/release/1.json"]


def test_a_product_line_without_a_role_has_no_releases(state):
    with pytest.raises(DataWrong, match="has no signing role"):
        with_targets(state, "other", [target()], SIGNERS, NOW, EXPIRIES)


def test_roles_are_due_when_half_of_their_time_is_over(state):
    assert due_roles(state, NOW + EXPIRIES.timestamp * 0.49, EXPIRIES) == []
    assert due_roles(state, NOW + EXPIRIES.timestamp * 0.51, EXPIRIES) == ["timestamp"]
    later = NOW + EXPIRIES.line * 0.51
    assert due_roles(state, later, EXPIRIES) == ["line-cabin", "line-hold", "snapshot", "timestamp"]
    after = renewed(state, due_roles(state, later, EXPIRIES), SIGNERS, later, EXPIRIES)
    assert due_roles(after, later, EXPIRIES) == []
    assert after.line("cabin").targets == state.line("cabin").targets


def test_a_copy_that_was_not_committed_does_not_count(state, tmp_path):
    folder = MetadataFolder(tmp_path / "metadata")
    assert folder.load() is None
    folder.commit(None, state)
    after = with_targets(state, "cabin", [target()], SIGNERS, NOW, EXPIRIES)
    folder.commit(state, after)
    (tmp_path / "metadata" / "timestamp.json").write_bytes(state.roles["timestamp"].to_bytes())
    assert versions(folder.load()) == versions(state)
    other = with_targets(folder.load(), "cabin", [target("cabin/release/2.json")], SIGNERS, NOW, EXPIRIES)
    folder.commit(folder.load(), other)
    assert list(folder.load().line("cabin").targets) == ["cabin/release/2.json"]


def test_publishing_twice_writes_once(state, tmp_path, store):
    folder = MetadataFolder(tmp_path / "metadata")
    folder.commit(None, state)
    assert folder.publish(state, store) == 6
    assert folder.publish(state, store) == 0


def test_signed_times_are_whole_seconds_and_lie_ahead(state):
    for metadata in state.roles.values():
        assert metadata.signed.expires.microsecond == 0
        assert metadata.signed.expires >= NOW + timedelta(days=1)
