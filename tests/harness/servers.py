"""PostgreSQL servers that end as a crash would end them."""

from __future__ import annotations

import signal
from pathlib import Path


def stop_at_once(folder: Path) -> None:
    """End the PostgreSQL whose data is in `folder` as a crash would, and wait until its processes are gone.

    Source: PostgreSQL documentation, "Shutting Down the Server": SIGQUIT is the immediate shutdown, recovered from at the next start.
    """
    import psutil

    try:
        server = psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return
    family = [server, *server.children(recursive=True)]
    server.send_signal(signal.SIGQUIT)
    psutil.wait_procs(family, timeout=30)
