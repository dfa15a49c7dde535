"""A bundle of a real network, made once a session, and a channel that offers it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from release_world import Channel, shared_bundle

from scanloop.edge.device import DeviceHome


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one bundle; nobody changes them."""
    return shared_bundle(tmp_path_factory)


@pytest.fixture(scope="session")
def _installed(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """A folder with a channel that offers release 1 and a device that installed it."""
    from scanloop.edge.update import update

    folder = tmp_path_factory.mktemp("installed")
    channel = Channel(folder / "made")
    channel.release(bundle, 1)
    update(channel.device(folder / "device"))
    return folder


@pytest.fixture
def channel(tmp_path: Path, request: pytest.FixtureRequest) -> Channel:
    """A signer with its channel: with release 1 for tests that use `device`, else with none."""
    if "device" in request.fixturenames:
        shutil.copytree(request.getfixturevalue("_installed"), tmp_path, symlinks=True, dirs_exist_ok=True)
    return Channel(tmp_path / "made")


@pytest.fixture
def device(channel: Channel, tmp_path: Path) -> DeviceHome:
    """A device with release 1 of the channel."""
    home = DeviceHome(tmp_path / "device")
    home.identity.write_text(json.dumps({**json.loads(home.identity.read_text()), "channel_url": channel.url}))
    return home
