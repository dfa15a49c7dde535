"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from scanloop.errors import WrongArguments
from scanloop.store.base import Store


def open_store(url: str) -> Store:
    """Open the store that `url` names: `file:///folder`, or `s3://bucket/prefix?endpoint_url=http://host:port&region=name`.

    Raises:
        WrongArguments: the URL names no known kind of store.
        StoreUnavailable: the folder cannot be made or written.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        from scanloop.store.folder import FolderStore

        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise WrongArguments(f"Expected file:///absolute/folder, found {url!r}.")
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from scanloop.store.s3 import S3Store

        if not parts.netloc:
            raise WrongArguments(f"Expected s3://bucket/prefix, found {url!r}.")
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        unknown = set(options) - {"endpoint_url", "region"}
        if unknown:
            raise WrongArguments(f"Unknown option {min(unknown)!r} in the store URL; known are endpoint_url and region.")
        return S3Store(parts.netloc, unquote(parts.path).strip("/"), **options)
    raise WrongArguments(f"Expected a store URL that starts with file:// or s3://, found {url!r}.")
