"""A bundle of a real network, made once a session, and a channel that offers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_world import Channel, shared_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one bundle; nobody changes them."""
    return shared_bundle(tmp_path_factory)


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """A signer with its channel, and no release yet."""
    return Channel(tmp_path / "made")
