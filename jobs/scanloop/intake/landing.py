"""The landing zone: what lies there, what belongs together, and who works on what.

A site delivers under `<site>/<scanner serial>/<yyyy-mm-dd>/<file>`. A sidecar is the file with `.json` behind its picture's name, and is delivered
first; alone it is no delivery and stays until its picture comes.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from scanloop.errors import WrongArguments
from scanloop.scans.content import site_id
from scanloop.scans.sidecar import SUFFIX
from scanloop.store import Store, StoredObject
from scanloop.store.base import check_key

log = logging.getLogger(__name__)

MAX_SHARDS = 256
"""More shards than this cost more in starting jobs than they save; Airflow maps 1,024 tasks at most."""
DEFAULT_SHARDS = 8
"""What suits a delivery every five minutes from a few hundred scanners."""


@dataclass(frozen=True)
class Shard:
    """One of several jobs that share the landing zone between them, by scanner."""

    index: int
    """From 0."""
    count: int
    """How many shards there are."""

    def __post_init__(self) -> None:
        if not (1 <= self.count <= MAX_SHARDS and 0 <= self.index < self.count):
            raise WrongArguments(f"No shard {self}: expected an index below the count, and at most {MAX_SHARDS} shards.")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `INDEX/COUNT`, such as `00/04`. Raises WrongArguments."""
        found = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
        if not found:
            raise WrongArguments(f"Expected a shard as INDEX/COUNT, such as 00/04, found {text[:40]!r}.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index:02d}/{self.count:02d}"

    def holds(self, key: str) -> bool:
        """Whether a landing key is this shard's. All files of one scanner are in one shard."""
        return self.index_of(key, self.count) == self.index

    @staticmethod
    def index_of(key: str, count: int) -> int:
        """Which of `count` shards a landing key belongs to."""
        return int(hashlib.sha256(scanner_folder(key).encode()).hexdigest()[:12], 16) % count


@dataclass(frozen=True)
class Delivery:
    """One object in the landing zone that has to be received, with its sidecar if it has one."""

    file: StoredObject
    """The delivered file."""
    sidecar: StoredObject | None
    """Its sidecar."""


def scanner_folder(key: str) -> str:
    """The first two parts of a landing key: site and scanner."""
    return "/".join(key.split("/")[:-1][:2])


def delivered_site(key: str) -> str:
    """The site id of the site in whose folder a landing key is; empty for a file outside any folder."""
    return site_id(key.split("/", 1)[0]) if "/" in key else ""


def delivery_id(landing: Store, found: StoredObject) -> str:
    """The id of one delivery: the same object listed twice is one, the same name with new content is another."""
    return hashlib.sha256(f"{landing.uri(found.key)}|{found.etag}|{found.size_bytes}".encode()).hexdigest()


def is_sidecar(key: str) -> bool:
    """Whether a landing key is named like a sidecar."""
    return key.endswith(SUFFIX)


def is_usable(key: str) -> bool:
    """Whether a landing key can be worked with; a warning says so of one that cannot."""
    try:
        check_key(key).encode()
    except (WrongArguments, UnicodeEncodeError):
        log.warning("A file in the landing zone has a name that cannot be used and stays there: %r.", key[:120])
        return False
    return True


def list_deliveries(landing: Store, shard: Shard | None = None) -> Iterator[tuple[list[Delivery], list[StoredObject]]]:
    """For each scanner and day, in order: its deliveries, and the sidecars whose picture has not come.

    Only one folder's listing is in memory at a time.
    """
    usable = (found for found in landing.list() if (shard is None or shard.holds(found.key)) and is_usable(found.key))
    for _, group in groupby(usable, lambda found: found.key.split("/")[:-1][:3]):
        yield _paired(group)


def _paired(group: Iterable[StoredObject]) -> tuple[list[Delivery], list[StoredObject]]:
    found = list(group)
    sidecars = {item.key: item for item in found if is_sidecar(item.key)}
    deliveries = [Delivery(item, sidecars.pop(item.key + SUFFIX, None)) for item in found if not is_sidecar(item.key)]
    return deliveries, list(sidecars.values())
