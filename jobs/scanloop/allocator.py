"""What the C library does with memory that was freed, and when Python looks for what nobody can reach."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ARRAY_BYTES = 32 << 20
"""Arrays up to this size are taken from memory that the process has; glibc takes no larger limit."""
KEPT_BYTES = 128 << 20
"""So much free memory stays with the process before the system gets it back."""
ARENAS = 2
"""Places that threads share to take memory from. Each keeps what it was given, and many make a process that grows for hours."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> bool:
    """Use the memory of one picture for the next, in this process; whether the C library can.

    Otherwise every array of some megabytes is given back to the system when it is freed and comes from it anew, page by page and zeroed, which
    cost a tenth of receiving a scan. To be called before there are threads. Source: mallopt(3).
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    wanted = ((_MMAP_THRESHOLD, ARRAY_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES), (_ARENA_MAX, ARENAS))
    return all(set_option(option, value) for option, value in wanted)


def give_back_freed_memory() -> None:
    """Give the system what `keep_freed_memory` kept, between two pieces of work. Source: malloc_trim(3)."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keeping_environment() -> dict[str, str]:
    """The same for a process that is to be started. Source: mallopt(3)."""
    return {"MALLOC_MMAP_THRESHOLD_": str(ARRAY_BYTES), "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES)}


@contextmanager
def collection_paused() -> Iterator[None]:
    """Without the search for cycles of garbage meanwhile, for work that makes many small objects and no cycles.

    Every few hundred objects that are alive start a search, some of them through all that the process ever made: it took a third of the time in
    which rows reach the catalog. What nobody refers to is freed as always.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
