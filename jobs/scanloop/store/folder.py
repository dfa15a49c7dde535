"""A store in a folder."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from scanloop.errors import ObjectConflict, ObjectNotFound, StoreUnavailable
from scanloop.store.base import CHUNK_BYTES, Content, Store, StoredObject, check_key, is_equal, opened, sha256_of

log = logging.getLogger(__name__)
ASIDE = ".scanloop-aside"
"""Folder for writes that are not published yet, and for the links that prove who published a conditional write."""


class FolderStore(Store):
    """Objects are plain files; the file system's own atomic acts (rename, link) publish them.

    A conditional write is a hard link: the content is written aside under a name made from key and owner, then linked to its key, which fails
    if the key exists. The name aside stays, so that the same owner recognises its own success by the shared inode after a kill.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        try:
            (root / ASIDE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"The store folder {root} cannot be used: {error.strerror}.") from None
        if not os.access(root / ASIDE, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"The store folder {root} cannot be written: Permission denied.")

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def _write_aside(self, key: str, aside: Path, data: Content, *, is_lazy: bool = False) -> None:
        with opened(data) as source, self._explained(key), aside.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
            target.flush()
            if not is_lazy:
                os.fsync(target.fileno())

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the operating system says into the errors of a store."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectNotFound(f"The store {self.url} holds nothing under {key!r}.") from None
        except OSError as error:
            hint = " Make room and run again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise StoreUnavailable(f"The store {self.url} failed on {key!r}: {error.strerror}.{hint}") from None

    def _write(self, key: str, data: Content, content_type: str | None = None) -> StoredObject:
        path, aside = self._path(key), self.root / ASIDE / uuid4().hex
        try:
            self._write_aside(key, aside, data)
            with self._explained(key):
                path.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(path)
                _sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)
        return self._object(key, path)

    def _write_new(self, key: str, data: Content, sha256: str, *, is_given: bool, is_lazy: bool) -> bool:
        path, aside = self._path(key), self.root / ASIDE / uuid4().hex
        if path.exists():
            return False
        try:
            if not (is_given and isinstance(data, Path) and _is_linked(data, aside)):
                self._write_aside(key, aside, data, is_lazy=is_lazy)
            with self._explained(key):
                path.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(path)
                if not is_lazy:
                    _sync_file(path)
                    _sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _found_equal(self, key: str, data: Content) -> StoredObject | None:
        path = self._path(key)
        try:
            found = self._object(key, path)
            if isinstance(data, Path) and _is_same_file(path, data):
                return found
            with self._explained(key), path.open("rb") as source:
                return found if is_equal(iter(lambda: source.read(CHUNK_BYTES), b""), data) else None
        except ObjectNotFound:
            return None

    def flush(self) -> None:
        """Bring everything written to this file system to the disk. Source: syncfs(2)."""
        with self._explained(""):
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(descriptor)

    def _write_if_absent(self, key: str, data: Content, owner: str) -> StoredObject:
        path = self._path(key)
        claim = self.root / ASIDE / f"{hashlib.sha256(key.encode()).hexdigest()}.{hashlib.sha256(owner.encode()).hexdigest()[:16]}"
        if _is_same_file(claim, path):
            return self._earlier(key, path)
        aside = self.root / ASIDE / uuid4().hex
        try:
            self._write_aside(key, aside, data)
            with self._explained(key):
                aside.replace(claim)
        finally:
            aside.unlink(missing_ok=True)
        with self._explained(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(claim, path)
            except FileExistsError:
                if _is_same_file(claim, path):
                    return self._earlier(key, path)
                claim.unlink(missing_ok=True)
                raise ObjectConflict(f"{self.uri(key)} was already written by another owner.") from None
            _sync_folder(path.parent)
        return self._object(key, path)

    def _earlier(self, key: str, path: Path) -> StoredObject:
        found = self._object(key, path)
        return StoredObject(found.key, found.size_bytes, found.etag, found.modified_at, self._digest(key)[0])

    def replace(self, key: str, data: bytes, *, expected_etag: str) -> StoredObject:
        path = self._path(key)
        with self._explained(key), (self.root / ASIDE / "replace.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.head(key)
            if found is None:
                raise ObjectNotFound(f"The store {self.url} holds nothing under {key!r}.")
            if found.etag != expected_etag:
                raise ObjectConflict(f"{self.uri(key)} changed since it was read.")
            return self._verified(self._write(key, data), data) if path.exists() else found

    def get(self, key: str) -> bytes:
        with self._explained(key):
            return self._path(key).read_bytes()

    def download(self, key: str, path: Path) -> Path:
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        source = self._path(key)
        with self._explained(key):
            if not source.is_file():
                raise FileNotFoundError
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def head(self, key: str) -> StoredObject | None:
        path = self._path(key)
        try:
            return self._object(key, path) if path.is_file() else None
        except ObjectNotFound:
            return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        base = self.root / prefix.rpartition("/")[0] if "/" in prefix else self.root
        if base.is_dir():
            for path in _files_in_key_order(base):
                key = path.relative_to(self.root).as_posix()
                if not key.isprintable() and not _is_text(key):
                    log.warning("%r in %s is no text and stays unseen. Rename it.", key, self.url)
                elif key.startswith(prefix):
                    with suppress(ObjectNotFound):
                        yield self._object(key, path)

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._path(key).unlink(missing_ok=True)

    def _digest(self, key: str) -> tuple[str, int]:
        with self._explained(key):
            return sha256_of(self._path(key))

    def _object(self, key: str, path: Path) -> StoredObject:
        with self._explained(key):
            facts = path.stat()
        etag = f"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"
        return StoredObject(key, facts.st_size, etag, datetime.fromtimestamp(facts.st_mtime, UTC))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _is_linked(source: Path, target: Path) -> bool:
    """Whether `target` could be made another name of the file `source`: not across file systems, nor where links are not allowed."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _sync_file(path: Path) -> None:
    """Make the content of a file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename or link survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_in_key_order(folder: Path) -> Iterator[Path]:
    """Files below `folder` in the order of their keys as strings, as S3 lists them."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name == ASIDE:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_in_key_order(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        else:
            log.warning("%s is neither a file nor a folder and is left where it is.", entry.path)
