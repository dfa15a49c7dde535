"""Scratch folders: kept between the attempts of one job run, never shared by two attempts that live at the same time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from scanloop.errors import NothingToDo


@contextmanager
def private_workdir(wanted: Path) -> Iterator[Path]:
    """The folder `wanted`, with what an earlier attempt left in it; a sibling of it while another process holds `wanted`.

    Scheduling is at-least-once, so an attempt that was given up may still be alive: two attempts must not write into one folder. The folder is
    removed when the block ends well or finds nothing to do, and stays for the next attempt when it fails.
    """
    folder, held = _first_free(wanted)
    try:
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except NothingToDo:
            _remove(folder)
            raise
        _remove(folder)
    finally:
        os.close(held)


def _first_free(wanted: Path) -> tuple[Path, int]:
    """The first folder of the row that nobody holds, and the descriptor that holds it now."""
    numbers = count()
    while True:
        number = next(numbers)
        folder = wanted.with_name(f"{wanted.name}~{number}") if number else wanted
        held = _hold(_lock_of(folder))
        if held is not None:
            return folder, held


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.in-use")


def _hold(lock: Path) -> int | None:
    """A descriptor that holds `lock` until it is closed or this process dies; None if another one holds it."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its last user removed the parent folder just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_still(lock, descriptor):
            return descriptor
        os.close(descriptor)


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether `lock` is the file that was locked, and not one that its last user removed before the lock was ours."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Remove the folder, its lock and, with its last one, the run's folder."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_of(folder).unlink(missing_ok=True)
    try:
        folder.parent.rmdir()
    except OSError:
        return
