"""From a URL to a store."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from scanloop.errors import WrongArguments
from scanloop.store.base import Store

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names of buckets. Source: Amazon S3 user guide, "General purpose bucket naming rules"."""


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
        if "\0" in unquote(parts.path):
            raise WrongArguments(f"A folder's name cannot hold a null byte, found {url!r}.")
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from scanloop.store.s3 import S3Store

        if not BUCKET.fullmatch(parts.netloc):
            raise WrongArguments(f"Expected s3://bucket/prefix with the name of a bucket, found {url!r}.")
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        unknown = set(options) - {"endpoint_url", "region"}
        if unknown:
            raise WrongArguments(f"Unknown option {min(unknown)!r} in the store URL; known are endpoint_url and region.")
        _check_endpoint(options.get("endpoint_url"))
        return S3Store(parts.netloc, unquote(parts.path).strip("/"), **options)
    raise WrongArguments(f"Expected a store URL that starts with file:// or s3://, found {url!r}.")


def _check_endpoint(url: str | None) -> None:
    """Make sure that an endpoint, if named, is an HTTP address. Raises WrongArguments."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if not is_address:
        raise WrongArguments(f"endpoint_url must be an http:// or https:// address, found {url!r}.")
