"""Start a command that can never open what lies in one folder: the signer's keys.

`python -m scanloop.release.protect --deny FOLDER -- command …` restricts itself with Landlock and then becomes the command. The command and
everything it ever starts can read, write and list as before, except beneath FOLDER: there nothing opens, not even for root, and no
child can lift it. Landlock only knows grants, so the launcher grants everything *beside* the path to FOLDER: every sibling of every component
of its path.
Three consequences to know:

- What is created later inside a granted folder works (`/tmp`, the user's home, `<home>/store`). What is created later straight in a folder
  on the way to FOLDER is refused: make those first (`--make`), and give FOLDER a parent where nothing else comes and goes.
- Names in FOLDER can be listed (a grant to list `/` reaches everywhere below), contents cannot be opened, changed, moved, linked or removed.
- Raw disks are not granted, device nodes cannot be made, nothing can be mounted, and processes outside (the signer itself) cannot be traced. Root
  also loses the capabilities that reach around the file system (loading kernel code, raw memory, reading other processes' memory).

What runs outside and does as it is told is a way around: start a database server that jobs may command under the same fence.

Source: Linux Documentation/userspace-api/landlock.rst; uapi/linux/landlock.h, prctl.h and capability.h for the numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_SYSCALL_CREATE_RULESET = 444
_SYSCALL_ADD_RULE = 445
_SYSCALL_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_SYSCALL_CAPGET = {"x86_64": 125}.get(platform.machine(), 90)
_SYSCALL_CAPSET = _SYSCALL_CAPGET + 1
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14

_FILE_RIGHTS = WRITE_FILE | READ_FILE | TRUNCATE
_FOLDER_RIGHTS = _FILE_RIGHTS | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
_NEVER_GRANTED = MAKE_CHAR | MAKE_BLOCK

_DROPPED_CAPABILITIES = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "MKNOD": 27, "PERFMON": 38, "BPF": 39}
"""PERFMON and SYS_ADMIN let root read the environment of other processes in spite of Landlock (`may_access_mm` in Linux kernel/fork.c)."""
_RAW_MEMORY_NAMES = frozenset({"mem", "kmem", "port"})

_INTRODUCED_BY_VERSION = {2: REFER, 3: TRUNCATE}


class ProtectionUnavailable(Exception):
    """This kernel has no Landlock, or has it switched off."""


def landlock_version() -> int:
    """Return the kernel's Landlock version, 0 when there is none."""
    version = _syscall(_SYSCALL_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return max(version, 0)


def grants_around(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield (path, rights) that together reach everything but `folder`, from the root down.

    `folder` must exist and hold no symbolic link in its path. Symbolic links are passed over: what they point at has its own grant,
    unless it lies in `folder`.
    """
    ancestors = [*reversed(folder.parents)]
    for ancestor, component in zip(ancestors, folder.parts[1:], strict=True):
        yield ancestor, READ_DIR
        for entry in _entries(ancestor):
            if entry.name == component or entry.is_symlink():
                continue
            if entry.path == "/dev":
                yield from _grants_in_dev(Path(entry.path))
                continue
            mode = _mode(entry)
            if mode is not None and not stat.S_ISBLK(mode):
                yield Path(entry.path), _FOLDER_RIGHTS if stat.S_ISDIR(mode) else _FILE_RIGHTS


def deny(folder: Path) -> None:
    """Take from this process, for good, the means to open anything beneath `folder`.

    Raises:
        ProtectionUnavailable: The kernel has no Landlock.
        FileNotFoundError: `folder` does not exist; make it first, a rule cannot wait for a folder.
    """
    folder = folder.resolve(strict=True)
    version = landlock_version()
    if version == 0:
        raise ProtectionUnavailable(f"this kernel ({platform.release()}) has no Landlock")
    if version == 1:
        raise ProtectionUnavailable("this kernel's Landlock (version 1) cannot allow moving files between folders, which jobs need")
    missing = sum(right for since, right in _INTRODUCED_BY_VERSION.items() if since > version)
    handled = (_FOLDER_RIGHTS | _NEVER_GRANTED) & ~missing
    attributes = ctypes.create_string_buffer(struct.pack("=Q", handled), 8)
    ruleset = _checked(_syscall(_SYSCALL_CREATE_RULESET, attributes, 8, 0), "create a Landlock ruleset")
    try:
        for path, rights in grants_around(folder):
            _grant(ruleset, path, rights & handled)
        _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs")
        _drop_capabilities()
        _checked(_syscall(_SYSCALL_RESTRICT_SELF, ruleset, 0), "apply the Landlock ruleset")
    finally:
        os.close(ruleset)


def main(arguments: Sequence[str] | None = None) -> int:
    """Deny the folders, then become the command. Returns only when there is nothing to become."""
    parser = argparse.ArgumentParser(
        prog="python -m scanloop.release.protect", description="Start a command that can open nothing in the given folders."
    )
    parser.add_argument(
        "--deny", type=Path, action="append", required=True, metavar="FOLDER", help="no process started here can open what is in it"
    )
    parser.add_argument(
        "--make", type=Path, action="append", default=[], metavar="FOLDER", help="make this folder first, so that it is granted"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- command …")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("a command is needed after --")
    for folder in options.make:
        folder.mkdir(parents=True, exist_ok=True)
    for folder in options.deny:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
        try:
            deny(folder)
        except ProtectionUnavailable as unavailable:
            print(
                f"warning: {folder} is not fenced off from {command[0]}: {unavailable}; its keys stay encrypted",
                file=sys.stderr,
                flush=True,
            )
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell on purpose
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127


def _grants_in_dev(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield grants for `/dev` without its block devices and raw memory, through which a whole disk could be read."""
    yield folder, READ_DIR
    for entry in _entries(folder):
        mode = None if entry.is_symlink() or entry.name in _RAW_MEMORY_NAMES else _mode(entry)
        if mode is not None and not stat.S_ISBLK(mode):
            yield Path(entry.path), _FOLDER_RIGHTS if stat.S_ISDIR(mode) else _FILE_RIGHTS


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        return []


def _mode(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return None


def _grant(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP):
            return
        raise
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        _checked(_syscall(_SYSCALL_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0), f"grant {path}")
    finally:
        os.close(descriptor)


def _drop_capabilities() -> None:
    """Give up the dropped capabilities where this process holds them: in its own sets, and in the bound of what it starts."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    _checked(_syscall(_SYSCALL_CAPGET, header, sets), "read capabilities")
    effective, permitted, _, effective_high, permitted_high, _ = struct.unpack("=6I", sets.raw)
    held = permitted | permitted_high << 32
    dropped = sum(1 << number for number in _DROPPED_CAPABILITIES.values())
    if held & dropped == 0:
        return
    for number in _DROPPED_CAPABILITIES.values():
        _libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    kept, active = held & ~dropped, (effective | effective_high << 32) & ~dropped
    words = [active & 0xFFFFFFFF, kept & 0xFFFFFFFF, 0, active >> 32, kept >> 32, 0]
    _checked(_syscall(_SYSCALL_CAPSET, header, struct.pack("=6I", *words)), "give up capabilities")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    return int(_libc().syscall(number, *arguments))


def _checked(result: int, purpose: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot {purpose}: {os.strerror(code)}")
    return result


if __name__ == "__main__":
    sys.exit(main())
