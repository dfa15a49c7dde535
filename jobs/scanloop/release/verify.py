"""Is a release really on the channel? Answered by its signatures, as a device would, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from scanloop.edge.manifest import release_target
from scanloop.errors import DataWrong, ObjectNotFound, WorldUnavailable
from scanloop.store import Store

_SCHEME = "channel:///"


class StoreFetcher(FetcherInterface):
    """Reads a channel through its store, whatever kind that is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._store.get(url.removeprefix(_SCHEME))])
        except ObjectNotFound as error:
            raise DownloadHTTPError(error.message, 404) from None


def verify_release(channel: Store, product_line: str, version: int, bundle_sha256: str, folder: Path) -> str:
    """Make sure that the channel offers `version` with exactly this manifest. Returns its target path. `folder` is scratch.

    Raises:
        DataWrong: it is not signed, or signed with other content.
        WorldUnavailable: the channel has no repository, or cannot be read now.
    """
    path = release_target(product_line, version)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        root = channel.get("metadata/1.root.json")
    except ObjectNotFound:
        raise WorldUnavailable(f"The channel {channel.url} has no repository yet. Run `scanloop release init`.") from None
    try:
        updater = Updater(
            str(folder), f"{_SCHEME}metadata/", str(folder), f"{_SCHEME}targets/", fetcher=StoreFetcher(channel), bootstrap=root
        )
        target = updater.get_targetinfo(path)
        if target is None or target.hashes.get("sha256") != bundle_sha256:
            raise DataWrong(f"Release {version} of {product_line} is not signed on {channel.url} with the bundle {bundle_sha256[:12]}.")
        updater.download_target(target, str(folder / "manifest.json"))
    except RepositoryError as error:
        raise DataWrong(f"The channel {channel.url} does not verify: {error}.") from None
    except DownloadError as error:
        raise WorldUnavailable(f"The channel {channel.url} cannot be read: {error.__cause__ or error}.") from None
    return path
