"""Who is received first when more lies in the landing zone than one run takes.

Every scanner gets the same number of turns: of n scanners, the k-th file of each comes before the k+1-th of any. A scanner that floods the landing
zone takes its own turn in each round and no other's, so it delays the others by one place a round at most, however much it sends.

Source: round-robin queueing per source, Nagle, On packet switches with infinite storage, RFC 970 (1985).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from scanloop.errors import WrongArguments

T = TypeVar("T")
_ABSENT = object()


class FairChoice(Generic[T]):
    """Takes items as they are found and keeps at most `limit` of them, shared evenly between their sources, the first of each source first.

    Never more than twice `limit` are in memory, whatever is added.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise WrongArguments(f"Expected a limit of at least 1, found {limit}.")
        self._limit = limit
        self._queues: dict[str, list[T]] = {}
        self._held = 0
        self._most: int | None = None
        self.postponed = 0
        """Items that were added and are not kept."""

    def add(self, source: str, item: T) -> None:
        """Offer one item of `source`."""
        queue = self._queues.setdefault(source, [])
        if self._most is not None and len(queue) >= self._most:
            self.postponed += 1
            return
        queue.append(item)
        self._held += 1
        if self._held >= 2 * self._limit:
            self._level()

    def _level(self) -> None:
        """Cut the longest queues until at most `limit` items are held; where a round does not fit whole, its first sources keep their turn."""
        if self._held <= self._limit:
            return
        self._most = most = _level_of([len(queue) for queue in self._queues.values()], self._limit)
        spare = self._limit - sum(min(len(queue), most) for queue in self._queues.values())
        for source in sorted(self._queues):
            queue = self._queues[source]
            keep = most
            if len(queue) > most and spare > 0:
                keep, spare = most + 1, spare - 1
            self.postponed += max(0, len(queue) - keep)
            del queue[keep:]
        self._held = sum(map(len, self._queues.values()))
        if not self._most:
            self._most = 1
            self._queues = {source: queue for source, queue in self._queues.items() if queue}

    def chosen(self) -> dict[str, list[T]]:
        """Source to what is kept of it, in the order it was added."""
        self._level()
        return {source: queue for source, queue in sorted(self._queues.items()) if queue}


def _level_of(lengths: Sequence[int], limit: int) -> int:
    """The largest m so that no more than `limit` items are left when every queue is cut to m."""
    left, share = limit, 0
    for index, length in enumerate(sorted(lengths)):
        if length * (len(lengths) - index) > left:
            return left // (len(lengths) - index)
        left -= length
        share = length
    return share


def in_turns(queues: Mapping[str, Sequence[T]]) -> Iterator[T]:
    """One item of each source, then the next of each, until all are through."""
    for turn in zip_longest(*(queues[source] for source in sorted(queues)), fillvalue=_ABSENT):
        yield from (item for item in turn if item is not _ABSENT)  # type: ignore[misc]
