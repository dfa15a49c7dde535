"""Pictures that show the same thing: perceptual hashes a few bits apart, compared only within one view of one scanner model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
_BLOCK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """What near-duplicate search knows about a scan."""

    scan_id: str
    """Which scan."""
    bag_id: str
    """Its bag; scans of one bag are never duplicates of each other."""
    scanner_model: str
    """Manufacturer and model: hashes of different machines say nothing about each other."""
    view_name: str
    """Nor do those of different views."""
    phash: str | None
    """16 hex digits; None is like nothing else."""


def near_pairs(fingerprints: Iterable[Fingerprint], max_bits: int) -> Iterator[tuple[Fingerprint, Fingerprint, int]]:
    """Yield each pair of scans of different bags whose hashes differ in at most `max_bits` bits, once, with the distance.

    Two hashes that differ in k bits agree in at least one of k + 1 bands (pigeonhole), so only hashes that share a band are compared:
    with 4 bits allowed that is about one in 1,600 of all pairs. Memory for distances is bounded by the block size.
    """
    groups: dict[tuple[str, str], list[Fingerprint]] = defaultdict(list)
    for item in fingerprints:
        if item.phash is not None:
            groups[item.scanner_model, item.view_name].append(item)
    for key in sorted(groups):
        items = sorted(groups[key], key=lambda item: item.scan_id)
        hashes = np.array([int(item.phash or "", 16) for item in items], dtype=np.uint64)
        seen: set[tuple[int, int]] = set()
        for low, high in _bands(max_bits):
            for one, other, distance in _pairs_sharing(hashes, low, high, max_bits):
                pair = (min(one, other), max(one, other))
                if pair not in seen and items[one].bag_id != items[other].bag_id:
                    seen.add(pair)
                    yield items[pair[0]], items[pair[1]], distance


def _bands(max_bits: int) -> list[tuple[int, int]]:
    """Split the hash into max_bits + 1 ranges of bits [low, high)."""
    edges = np.linspace(0, HASH_BITS, min(max_bits, HASH_BITS - 1) + 2).round().astype(int).tolist()
    return list(pairwise(edges))


def _pairs_sharing(hashes: NDArray[np.uint64], low: int, high: int, max_bits: int) -> Iterator[tuple[int, int, int]]:
    """Pairs of positions whose hashes agree in the bits [low, high) and differ in at most `max_bits` over all."""
    mask = np.uint64(((1 << (high - low)) - 1) << low)
    band = hashes & mask
    order = np.argsort(band, kind="stable")
    starts = np.flatnonzero(np.r_[True, band[order][1:] != band[order][:-1]]) if len(order) else np.array([], dtype=int)
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        members = order[start:stop]
        for first in range(0, len(members) - 1, _BLOCK):
            rows = members[first : first + _BLOCK]
            for second in range(first, len(members), _BLOCK):
                columns = members[second : second + _BLOCK]
                distance = np.bitwise_count(hashes[rows][:, None] ^ hashes[columns][None, :])
                for i, j in zip(*np.nonzero(distance <= max_bits), strict=True):
                    if second > first or j > i:
                        yield int(rows[i]), int(columns[j]), int(distance[i, j])


@dataclass(frozen=True)
class Duplicate:
    """Why a bag is not worth labelling."""

    scan_id: str
    """The scan of it that looks like another one."""
    like_scan_id: str
    """That other one."""
    distance_bits: int
    """How many bits of their hashes differ."""


def duplicate_bags(candidates: Sequence[Fingerprint], history: Iterable[Fingerprint], max_bits: int) -> dict[str, Duplicate]:
    """Which candidate bags show what an earlier bag shows, in any view.

    Earlier is: in `history`, or before it among the candidates in the order given, unless that one is a duplicate itself.
    """
    rank: dict[str, int] = {}
    for item in candidates:
        rank.setdefault(item.bag_id, len(rank))
    candidate_scans = {item.scan_id for item in candidates}
    against: dict[str, list[tuple[Fingerprint, Fingerprint, int]]] = defaultdict(list)
    past = [item for item in history if item.scan_id not in candidate_scans]
    for one, other, distance in near_pairs([*candidates, *past], max_bits):
        for mine, theirs in ((one, other), (other, one)):
            if mine.scan_id in candidate_scans:
                against[mine.bag_id].append((mine, theirs, distance))
    found: dict[str, Duplicate] = {}
    for bag_id in sorted(against, key=rank.__getitem__):
        earlier = [
            (distance, theirs.scan_id, mine.scan_id)
            for mine, theirs, distance in against[bag_id]
            if theirs.scan_id not in candidate_scans or (rank[theirs.bag_id] < rank[bag_id] and theirs.bag_id not in found)
        ]
        if earlier:
            distance, theirs_id, mine_id = min(earlier)
            found[bag_id] = Duplicate(mine_id, theirs_id, distance)
    return found
