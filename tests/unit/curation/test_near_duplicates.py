from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from scanloop.curation.near_duplicates import Fingerprint, duplicate_bags, near_pairs

BASE = 0x0123456789ABCDEF


def flipped(*bits: int) -> str:
    value = BASE
    for bit in bits:
        value ^= 1 << bit
    return f"{value:016x}"


def scan(number: int, phash: str | None, bag: str | None = None, view: str = "top", model: str = "Acme One") -> Fingerprint:
    return Fingerprint(f"s{number:03d}", bag or f"b{number:03d}", model, view, phash)


hashes = st.lists(st.lists(st.integers(0, 63), max_size=6).map(lambda bits: flipped(*bits)) | st.none(), max_size=30)


@settings(deadline=None)
@given(hashes, st.integers(0, 12))
def test_banded_search_finds_exactly_what_comparing_all_pairs_finds(phashes, max_bits):
    scans = [scan(number, phash, bag=f"b{number // 2}", view=("top", "side")[number % 3 == 0]) for number, phash in enumerate(phashes)]
    found = [(one.scan_id, other.scan_id, bits) for one, other, bits in near_pairs(scans, max_bits)]
    expected = {
        (a.scan_id, b.scan_id, (int(a.phash, 16) ^ int(b.phash, 16)).bit_count())
        for i, a in enumerate(scans)
        for b in scans[i + 1 :]
        if a.phash and b.phash and a.bag_id != b.bag_id and a.view_name == b.view_name
        if (int(a.phash, 16) ^ int(b.phash, 16)).bit_count() <= max_bits
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_search_crosses_the_blocks_it_works_in(monkeypatch):
    monkeypatch.setattr("scanloop.curation.near_duplicates._BLOCK", 3)
    scans = [scan(number, flipped()) for number in range(8)]
    assert len(list(near_pairs(scans, 0))) == 8 * 7 // 2


def test_hashes_of_another_scanner_model_are_not_compared():
    assert not list(near_pairs([scan(1, flipped()), scan(2, flipped(), model="Acme Two")], 4))


def test_the_later_of_two_copies_is_the_duplicate():
    found = duplicate_bags([scan(2, flipped()), scan(1, flipped(3))], [], 2)
    assert list(found) == ["b001"]
    assert (found["b001"].like_scan_id, found["b001"].distance_bits) == ("s002", 1)


def test_a_copy_of_history_is_a_duplicate_even_if_it_comes_first():
    assert list(duplicate_bags([scan(1, flipped())], [scan(9, flipped(1, 2))], 2)) == ["b001"]


def test_a_chain_of_small_steps_keeps_every_second_one():
    """Each is near the one before it only; what is near a dropped one alone is new."""
    chain = [scan(number, flipped(*range(2 * number))) for number in range(4)]
    assert sorted(duplicate_bags(chain, [], 2)) == ["b001", "b003"]
