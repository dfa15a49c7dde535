"""Reading a channel: which release is newest, and its files, all verified by The Update Framework from the root the device was enrolled with.

Beyond what python-tuf checks, the device holds expiry against its own clock, which never runs backwards: a computer whose clock was set back does
not believe old metadata.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from scanloop.edge.device import Device, DeviceHome
from scanloop.edge.manifest import BundleFile, Manifest, channel_target, file_target, parse_manifest
from scanloop.errors import DataWrong, WorldUnavailable

CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 1 << 16


class UpdateRefused(DataWrong):
    """What the channel offers cannot be trusted or must not be taken."""


class FolderFetcher(FetcherInterface):
    """Reads a channel from a folder: a store on this machine, or a USB medium. Nothing outside of the folder, and regular files only."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path)).resolve()
        if not path.is_relative_to(self.root):
            raise DownloadError(f"{path} lies outside of the channel {self.root}")
        if not self.root.is_dir():
            raise DownloadError(f"the channel's folder {self.root} is not there")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise DownloadHTTPError(f"{path} is not there", 404) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise DownloadError(f"{path} is not a regular file")
        return self._chunks(path, descriptor)

    def _chunks(self, path: Path, descriptor: int) -> Iterator[bytes]:
        try:
            with os.fdopen(descriptor, "rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise DownloadError(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Offer:
    """The newest release on a channel, as its signatures tell."""

    manifest: Manifest
    """What is in it."""
    manifest_bytes: bytes
    """The manifest as it was signed."""
    sha256: str
    """Digest of those bytes."""


class Channel:
    """One visit to a device's channel."""

    def __init__(self, home: DeviceHome, device: Device, url: str, aside: Path) -> None:
        self._device = device
        self._home = home
        self._aside = aside
        self.url = url.rstrip("/")
        aside.mkdir(parents=True, exist_ok=True)
        home.metadata.mkdir(exist_ok=True)
        with _explained(self.url):
            self._updater = Updater(
                metadata_dir=str(home.metadata),
                metadata_base_url=f"{self.url}/metadata/",
                target_dir=str(aside),
                target_base_url=f"{self.url}/targets/",
                fetcher=_fetcher(self.url),
                config=UpdaterConfig(max_root_rotations=1024),
                bootstrap=home.root.read_bytes(),
            )

    def refresh(self, now: datetime) -> None:
        """Fetch and verify the channel's metadata, as of `now`.

        Raises:
            UpdateRefused: signatures, versions, hashes or expiry do not hold.
            WorldUnavailable: the channel cannot be reached.
        """
        with _explained(self.url):
            self._updater.refresh()
            self._updater.get_targetinfo(channel_target(self._device.product_line, self._device.channel))
        for path in sorted(self._home.metadata.glob("*.json")):
            metadata: Metadata = Metadata.from_file(str(path))
            if metadata.signed.is_expired(now):
                raise UpdateRefused(
                    f"The channel {self.url} is frozen: its {metadata.signed.type} metadata expired at {metadata.signed.expires:%Y-%m-%d %H:%M} UTC, "
                    f"and this device knows that it is {now:%Y-%m-%d %H:%M} UTC."
                )

    def newest(self) -> Offer | None:
        """The newest release of the device's product line and channel, or None before the first.

        Raises:
            UpdateRefused: it is not what it says it is, or is meant for others.
        """
        wanted = channel_target(self._device.product_line, self._device.channel)
        with _explained(self.url):
            target = self._updater.get_targetinfo(wanted)
            if target is None:
                return None
            if target.length > MAX_MANIFEST_BYTES:
                raise UpdateRefused(f"The manifest on {self.url} is longer than {MAX_MANIFEST_BYTES} bytes.")
            data = Path(self._updater.download_target(target, str(self._aside / "manifest.json"))).read_bytes()
        manifest = parse_manifest(data)
        if (manifest.product_line, manifest.channel) != (self._device.product_line, self._device.channel):
            raise UpdateRefused(
                f"The release on {self.url} is for {manifest.product_line} on {manifest.channel}; "
                f"this device takes {self._device.product_line} on {self._device.channel}."
            )
        return Offer(manifest, data, target.hashes["sha256"])

    def fetch(self, file: BundleFile, path: Path) -> None:
        """Download one file of a bundle to `path`; it is verified before it appears there.

        Raises:
            UpdateRefused: its content is not what the manifest names.
            WorldUnavailable: it cannot be read now.
        """
        target = TargetFile(file.size_bytes, {"sha256": file.sha256}, file_target(self._device.product_line, file.name))
        with _explained(self.url):
            self._updater.download_target(target, str(path))


def fetch_first_root(url: str, sha256: str) -> bytes:
    """Fetch version 1 of the root from a channel and hold it against a digest that came another way.

    Raises:
        UpdateRefused: it is another root.
        WorldUnavailable: the channel cannot be read now.
    """
    url = url.rstrip("/")
    with _explained(url):
        content = _fetcher(url).download_bytes(f"{url}/metadata/1.root.json", UpdaterConfig().root_max_length)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.strip().lower():
        raise UpdateRefused(f"The root on {url} has the digest {found}, expected {sha256}. Do not trust this channel.")
    return content


def _fetcher(url: str) -> FetcherInterface:
    parts = urlsplit(url)
    return FolderFetcher(Path(unquote(parts.path))) if parts.scheme == "file" else Urllib3Fetcher(app_user_agent="scanloop-edge")


class _explained:  # noqa: N801  reads as a statement
    """Turn what python-tuf raises into the two families of errors."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpiredMetadataError):
            raise UpdateRefused(f"The channel {self.url} is frozen or stale: {error}. The installed release stays.") from None
        if isinstance(error, (RepositoryError, DownloadLengthMismatchError)):
            raise UpdateRefused(f"The channel {self.url} cannot be trusted: {error}. The installed release stays.") from None
        if isinstance(error, DownloadError):
            reason = error.__cause__ or error
            raise WorldUnavailable(f"The channel {self.url} cannot be read now: {reason}. The installed release stays.") from None
