"""What every store does, whatever is underneath."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from scanloop.errors import ObjectConflict, ObjectCorrupt, WrongArguments

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20
Content = bytes | Path
"""What is to be stored: bytes in memory, or a file."""
_KEY = re.compile(r"[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,1023}")


@dataclass(frozen=True)
class StoredObject:
    """One object as the store holds it."""

    key: str
    """Path relative to the store's root."""
    size_bytes: int
    """Length of the content."""
    etag: str
    """Changes whenever the content changes; compare for equality only."""
    modified_at: datetime
    """When it was written, UTC, by the store's clock."""
    sha256: str | None = None
    """Digest of the content, where the call that returned this object computed it."""


def check_key(key: str) -> str:
    """Return `key` if it is a plain relative path. Raises WrongArguments otherwise."""
    if not _KEY.fullmatch(key) or any(part in ("", ".", "..") for part in key.split("/")):
        raise WrongArguments(f"Not a store key: {key[:80]!r}. Expected a relative path without empty, '.' or '..' parts.")
    return key


def sha256_of(data: Content) -> tuple[str, int]:
    """The hex SHA-256 and the length of bytes or of a file, read in chunks."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest(), len(data)
    digest, size = hashlib.sha256(), 0
    with data.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


@contextmanager
def opened(data: Content) -> Iterator[BinaryIO]:
    """Bytes or a file, to be read from its start."""
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as source:
        yield source


def is_equal(chunks: Iterable[bytes], data: Content) -> bool:
    """Whether `chunks`, one after the other, are exactly `data`."""
    with opened(data) as source:
        return all(source.read(len(chunk)) == chunk for chunk in chunks) and not source.read(1)


class Store(ABC):
    """A flat space of immutable or compared-and-swapped objects under relative keys."""

    url: str

    def put(self, key: str, data: Content, *, content_type: str | None = None) -> StoredObject:
        """Write `data` under `key`, whatever was there, and verify it by reading it back.

        Raises:
            ObjectCorrupt: what was read back differs; the write may be repeated.
            StoreUnavailable: the store cannot take the write now.
        """
        written = self._write(check_key(key), data, content_type)
        return self._verified(written, data)

    def put_if_absent(self, key: str, data: Content, *, owner: str) -> StoredObject:
        """Write `data` under `key` unless something is there; of several writers exactly one succeeds.

        An earlier success of the same `owner` whose reply was lost, or whose process was killed, is a success again (with the content of
        that earlier write, which is not replaced).

        Raises:
            ObjectConflict: another owner's object is there.
            StoreUnavailable: the store cannot take the write now.
        """
        written = self._write_if_absent(check_key(key), data, owner)
        return self._verified(written, None if written.sha256 else data)

    def put_content(self, prefix: str, data: Content, suffix: str = "", *, is_given: bool = False, is_lazy: bool = False) -> StoredObject:
        """Write `data` under its own SHA-256: `prefix/aa/<sha256><suffix>`. Writing it again changes nothing, but heals what was damaged.

        What lies there afterwards was read back and compared. `is_given` says that nobody will change the file `data` again, so that a store
        on the same disk may take it instead of a copy. `is_lazy` leaves it to `flush` to make the write survive a power cut.

        Raises:
            ObjectCorrupt: what was read back differs, twice.
            StoreUnavailable: the store cannot take the write now.
        """
        sha256, _ = sha256_of(data)
        key = f"{prefix}/{sha256[:2]}/{sha256}{suffix}"
        if not self._write_new(check_key(key), data, sha256, is_given=is_given, is_lazy=is_lazy):
            log.debug("%s was there.", key)
        if (found := self._found_equal(key, data)) is None:
            self._write(key, data, None)
            if (found := self._found_equal(key, data)) is None:
                raise ObjectCorrupt(f"{self.uri(key)} was read back different from what was written. Write it again.")
        return replace(found, sha256=sha256)

    def flush(self) -> None:  # noqa: B027  most stores have nothing to do
        """Make every lazy write survive a power cut. Raises StoreUnavailable."""

    def check_conditional_writes(self) -> None:
        """Make sure that this store honours conditional writes.

        Raises:
            WrongArguments: it lets a second writer overwrite, so nothing built on it could be trusted.
        """
        key, first = f"probes/{uuid4().hex}", uuid4().hex
        try:
            self.put_if_absent(key, first.encode(), owner=first)
            try:
                self.put_if_absent(key, b"second", owner=uuid4().hex)
            except ObjectConflict:
                return
            raise WrongArguments(f"The store {self.url} ignores conditional writes: a second writer replaced an object. Use another store.")
        finally:
            self.delete(key)

    def verify(self, key: str, sha256: str) -> bool:
        """Whether `key` exists with exactly this content."""
        return self.head(key) is not None and self._digest(key)[0] == sha256

    def _verified(self, written: StoredObject, data: Content | None) -> StoredObject:
        """Re-read `written` and compare with `data` (None: only compute its digest)."""
        found, size = self._digest(written.key)
        if data is not None and (found, size) != sha256_of(data):
            raise ObjectCorrupt(f"{self.uri(written.key)} was read back different from what was written ({size} bytes). Write it again.")
        return StoredObject(written.key, size, written.etag, written.modified_at, found)

    @abstractmethod
    def _digest(self, key: str) -> tuple[str, int]:
        """SHA-256 and length of what is stored, read in chunks."""

    @abstractmethod
    def _write(self, key: str, data: Content, content_type: str | None) -> StoredObject: ...

    @abstractmethod
    def _write_if_absent(self, key: str, data: Content, owner: str) -> StoredObject:
        """As `put_if_absent`, before verification; `sha256` is set only when an earlier write of the same owner was found."""

    @abstractmethod
    def _write_new(self, key: str, data: Content, sha256: str, *, is_given: bool, is_lazy: bool) -> bool:
        """Write `data`, whose digest is `sha256`, unless something is there, whoever wrote it; whether it was written."""

    @abstractmethod
    def _found_equal(self, key: str, data: Content) -> StoredObject | None:
        """Read back what is stored, in chunks, and compare it with `data` byte by byte; None if it differs or is not there."""

    @abstractmethod
    def replace(self, key: str, data: bytes, *, expected_etag: str) -> StoredObject:
        """Write `data` if the object's etag still is `expected_etag`. Raises ObjectConflict otherwise, ObjectNotFound if it is gone."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The whole content. Raises ObjectNotFound."""

    @abstractmethod
    def download(self, key: str, path: Path) -> Path:
        """Copy the content to `path`, in chunks, appearing there whole or not at all. Raises ObjectNotFound."""

    def fetch(self, key: str, path: Path) -> Content:
        """As `download`; returns the content in memory where it is there anyway, and `path` otherwise. Raises ObjectNotFound."""
        return self.download(key, path)

    @abstractmethod
    def head(self, key: str) -> StoredObject | None:
        """What is there without its content, or None."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object whose key starts with `prefix`, in key order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object. Removing what is not there succeeds."""

    def reopened(self) -> Store:
        """The same store, with connections of its own: what a forked process uses, so as not to speak over its parent's."""
        return self

    @abstractmethod
    def uri(self, key: str) -> str:
        """The full URI of `key`, for people and records."""
