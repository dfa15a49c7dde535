"""Bring a device to the newest release of its channel: fetch, verify, install beside, check itself, switch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scanloop.edge import install, selfcheck
from scanloop.edge.channel import Channel, Offer, UpdateRefused
from scanloop.edge.device import Device, DeviceHome, check_channel_url
from scanloop.edge.state import DeviceState, save_state
from scanloop.errors import DataWrong, NothingToDo
from scanloop.steps import step

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Updated:
    """What an update did."""

    version: int
    """The release that is current now."""
    previous: int | None
    """The one before."""
    model_id: str
    """The model that answers scans now."""
    selfcheck: dict[str, Any]
    """What the self-check measured."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"version": self.version, "previous": self.previous, "model_id": self.model_id, "selfcheck": self.selfcheck}


def update(home: DeviceHome, *, channel_url: str | None = None, retry: bool = False, clock: Clock = system_clock) -> Updated:
    """Install the newest release of the device's channel. Safe to kill anywhere and to repeat.

    `channel_url` reads another place this once: a USB medium that carries a copy of the channel. `retry` tries a release again that this device
    refused. Whatever goes wrong, the current release stays as it is.

    Raises:
        NothingToDo: the newest release is current, or there is none yet.
        UpdateRefused: the channel or the release cannot be trusted, is older than what this device had, or fails its self-check.
        WorldUnavailable: the channel cannot be read now.
    """
    device = home.device()
    url = check_channel_url(channel_url) if channel_url else device.channel_url
    with home.locked():
        current, state = install.recover(home)
        state = install.prune(home, state)
        channel = Channel(home, device, url, home.folder / "downloads")
        now = state.now(clock())
        channel.refresh(now)
        state = state.with_clock(now)
        save_state(home.state, state)
        step("edge.after_refresh")
        offer = channel.newest()
        if offer is None:
            raise NothingToDo(f"There is no release of {device.product_line} on {url} yet.")
        _check_offer(offer, current.version if current else None, state, retry=retry)
        return _take(home, device, channel, offer, state)


def _check_offer(offer: Offer, current: int | None, state: DeviceState, *, retry: bool) -> None:
    """The rules of what may be installed. Raises NothingToDo or UpdateRefused."""
    version = offer.manifest.version
    if version < state.counter:
        raise UpdateRefused(
            f"Release {version} is offered, but this device had release {state.counter}; it goes back only by a release with a higher number."
        )
    known = state.installed.get(version)
    if known is not None and known != offer.sha256:
        raise UpdateRefused(f"Release {version} is offered with other content than the release {version} this device verified before.")
    if version == current:
        raise NothingToDo(f"Release {version} is the newest and is installed.")
    if version in state.refused and not retry:
        raise UpdateRefused(f"Release {version} was refused before: {state.refused[version]} Use --retry to try it again.")


def _take(home: DeviceHome, device: Device, channel: Channel, offer: Offer, state: DeviceState) -> Updated:
    manifest = offer.manifest
    previous = install.current_version(home)
    if not _is_placed(home, offer):
        incoming = install.incoming_folder(home, offer.sha256)
        for file in manifest.files:
            if not install.is_whole(incoming / file.name, file):
                channel.fetch(file, incoming / file.name)
                step("edge.after_file")
        folder = install.place(home, incoming, manifest.version, offer.manifest_bytes)
    else:
        folder = home.versions / str(manifest.version)
    try:
        measured = selfcheck.check_in_child(folder)
    except DataWrong as error:
        save_state(home.state, state.with_refused(manifest.version, error.message))
        step("edge.after_refusal")
        shutil.rmtree(folder)
        raise UpdateRefused(f"Release {manifest.version} was not installed: {error.message} Release {previous or 'none'} stays.") from None
    step("edge.after_selfcheck")
    state = state.with_installed(manifest.version, offer.sha256)
    save_state(home.state, state)
    step("edge.after_record")
    install.switch(home, manifest.version)
    state = state.with_counter(manifest.version)
    save_state(home.state, state)
    step("edge.after_counter")
    install.prune(home, state)
    install.clear_incoming(home)
    return Updated(manifest.version, previous, manifest.model_id, measured)


def _is_placed(home: DeviceHome, offer: Offer) -> bool:
    """Whether an earlier attempt, killed before the switch, already placed exactly this release."""
    folder = home.versions / str(offer.manifest.version)
    try:
        manifest_bytes = (folder / "manifest.json").read_bytes()
    except OSError:
        return False
    return manifest_bytes == offer.manifest_bytes and all(install.is_whole(folder / file.name, file) for file in offer.manifest.files)
