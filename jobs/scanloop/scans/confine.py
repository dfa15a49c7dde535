"""How a process gives up what it does not need, before it looks at a byte from outside.

Limits on memory, files and output hold always. A network namespace of its own and file access only where it works (Landlock) are taken where the
kernel allows them to an unprivileged process; `confine` returns what was taken.

Source: setrlimit(2), prctl(2), user_namespaces(7), network_namespaces(7), landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

MEMORY_BYTES = 1 << 30
"""Address space of the reader."""
OUTPUT_BYTES = 512 << 20
"""Longest file it may write."""
OPEN_FILES = 64
"""Files it may have open."""
CPU_S = 10
"""Processor time for one file of a view's size."""
LARGE_BYTES = 16 << 20
"""A file larger than this is a CT volume."""
CPU_S_PER_MIB = 0.25
"""Processor time that each MiB beyond that adds. JPEG 2000, the slowest codec, needs half of it."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_READ = 1 << 2 | 1 << 3  # read a file, list a folder
_WRITE = 1 << 1 | 1 << 5 | 1 << 8 | 1 << 14  # write a file, remove and make regular files, truncate (ABI 3)
_ALL_V1 = (1 << 13) - 1
_SYSTEM = tuple(
    map(
        Path,
        (
            "/usr",
            "/lib",
            "/lib64",
            "/etc/ld.so.cache",
            "/etc/localtime",
            "/dev/null",
            "/dev/urandom",
            "/proc/self",
            "/sys/devices/system/cpu",
        ),
    )
)
"""What the C library and Python themselves read."""


def confine(writable: Path, readable: Iterable[Path] = ()) -> dict[str, bool]:
    """Confine this process, for good. Call it first thing: the process must have one thread.

    Reading stays possible below `readable` and where Python and its packages are; reading and writing below `writable`.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return {
        "network_namespace": libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0,
        "file_rules": _restrict_files(libc, writable, readable),
    }


def cpu_s(size_bytes: int) -> int:
    """Processor time that a file of this size may take."""
    return CPU_S + int(max(0, size_bytes - LARGE_BYTES) / (1 << 20) * CPU_S_PER_MIB)


def allow_cpu(seconds: int = CPU_S) -> None:
    """Give this process `seconds` of processor time from now on; SIGXCPU ends it after that."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _restrict_files(libc: ctypes.CDLL, writable: Path, readable: Iterable[Path]) -> bool:
    """Landlock: no file outside the folders given can be opened from now on, not even through a program started later."""
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    handled = _ALL_V1 | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(handled)), ctypes.c_size_t(8), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        python = {
            Path(place).resolve()
            for place in (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, str(Path(__file__).parents[1]))
            if place and Path(place).exists()
        }
        for folder in (*_SYSTEM, *python, *readable):
            _allow(libc, ruleset, folder, _READ & handled)
        _allow(libc, ruleset, writable, (_READ | _WRITE) & handled)
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _allow(libc: ctypes.CDLL, ruleset: int, place: Path, access: int) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not place.is_dir():
            access &= 1 << 1 | 1 << 2 | 1 << 14
        rule = _PathBeneath(access, descriptor)
        libc.syscall(_LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
