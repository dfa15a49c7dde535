"""The error families of every job, and the exit codes they become.

    ScanloopError                       70  a defect in Scanloop
    ├── DataWrong                       65  never retry: the same input fails again
    │   ├── ObjectNotFound                  a key the store does not hold
    │   ├── ObjectConflict                  a conditional write lost to another owner
    │   └── Superseded                      a state change whose starting state is gone
    ├── WorldUnavailable                75  retry later: a server, a disk or a lease is not available now
    │   ├── StoreUnavailable
    │   ├── ObjectCorrupt                   what was read back is not what was written
    │   ├── CatalogUnavailable
    │   └── LeaseHeld                       another run holds the lease, or took it over
    ├── WrongArguments                  64  never retry: a person or a DAG asked for something that cannot be
    │   └── CatalogTooNew                   the database was migrated by a newer Scanloop
    └── NothingToDo                     99  a skip, not a failure

Source: the codes are those of BSD sysexits.h (EX_USAGE 64, EX_DATAERR 65, EX_SOFTWARE 70, EX_TEMPFAIL 75); 99 is Airflow's usual skip code.
"""

from __future__ import annotations


class ScanloopError(Exception):
    """Anything Scanloop can say in one sentence."""

    exit_code = 70

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class DataWrong(ScanloopError):
    """The data is wrong; running again cannot help."""

    exit_code = 65


class WorldUnavailable(ScanloopError):
    """Something outside is not available now; running again later can help."""

    exit_code = 75


class WrongArguments(ScanloopError):
    """The request cannot be met as it was made."""

    exit_code = 64


class NothingToDo(ScanloopError):
    """There was no work; downstream is skipped."""

    exit_code = 99


class ObjectNotFound(DataWrong):
    """The store holds nothing under the key."""


class ObjectConflict(DataWrong):
    """Another owner wrote the key first, or the object changed since it was read."""


class Superseded(DataWrong):
    """A state change expected a starting state that no longer holds."""


class StoreUnavailable(WorldUnavailable):
    """The store cannot be reached, refuses access, or has no room."""


class ObjectCorrupt(WorldUnavailable):
    """An object read back differs from what was written."""


class CatalogUnavailable(WorldUnavailable):
    """The database cannot be reached or cannot take the write now."""


class LeaseHeld(WorldUnavailable):
    """Another run holds the lease on this work."""


class CatalogTooNew(WrongArguments):
    """The database has a schema newer than this version of Scanloop knows."""
