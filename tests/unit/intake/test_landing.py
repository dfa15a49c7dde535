"""Shards, pairing of sidecars, and the identity of a delivery."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import WrongArguments
from scanloop.intake.landing import Shard, delivered_site, delivery_id, is_sidecar, list_deliveries, scanner_folder
from scanloop.store import Store, StoredObject


@pytest.mark.parametrize("text", ["", "0", "4/4", "5/4", "-1/4", "0/0", "a/b", "0/300", "00/04/1", " 0/4", "0/4\n", "٠/٤"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(WrongArguments):
        Shard.parse(text)


def test_shards_read_back_what_they_print() -> None:
    for count in (1, 4, 256):
        for index in (0, count - 1):
            assert Shard.parse(str(Shard(index, count))) == Shard(index, count)


@given(st.text(min_size=1), st.integers(1, 256))
def test_every_key_is_in_exactly_one_shard_with_its_whole_scanner(folder: str, count: int) -> None:
    shards = [Shard(index, count) for index in range(count)]
    owners = {shard.index for shard in shards for name in ("a.png", "b.dcs") if shard.holds(f"{folder}/s/2026-01-01/{name}")}
    assert len(owners) == 1


@pytest.mark.parametrize(
    ("key", "folder", "site"),
    [
        ("north/SN1/2026-01-01/a.dcs", "north/SN1", "north"),
        ("north/SN1/a.dcs", "north/SN1", "north"),
        ("north/a.dcs", "north", "north"),
        ("a.dcs", "", ""),
        ("North Terminal/SN1/d/e/a.dcs", "North Terminal/SN1", "north-terminal"),
    ],
)
def test_scanner_and_site_of_a_key(key: str, folder: str, site: str) -> None:
    assert (scanner_folder(key), delivered_site(key)) == (folder, site)


def test_a_delivery_is_another_when_place_content_or_length_change(store: Store) -> None:
    found = StoredObject("a/b.png", 5, "etag", datetime.now(UTC))
    ids = {
        delivery_id(store, one) for one in (found, replace(found, key="a/c.png"), replace(found, etag="x"), replace(found, size_bytes=6))
    }
    assert len(ids) == 4
    assert delivery_id(store, found) == delivery_id(store, replace(found, modified_at=datetime(2020, 1, 1, tzinfo=UTC), sha256="0"))


def test_sidecars_find_their_pictures_whatever_lies_between(store: Store) -> None:
    keys = (
        "n/s/d/a.png",
        "n/s/d/a.png.bak",
        "n/s/d/a.png.json",
        "n/s/d/b.tif.json",
        "n/s/e/b.tif",
        "n/s/d.png",
        "n/s/d.png.json",
        "x.json",
    )
    for key in keys:
        store.put(key, key.encode())
    pairs, alone = [], []
    for deliveries, lone in list_deliveries(store):
        pairs += [(one.file.key, one.sidecar.key if one.sidecar else None) for one in deliveries]
        alone += [one.key for one in lone]
    assert sorted(pairs) == [
        ("n/s/d.png", "n/s/d.png.json"),
        ("n/s/d/a.png", "n/s/d/a.png.json"),
        ("n/s/d/a.png.bak", None),
        ("n/s/e/b.tif", None),
    ]
    assert sorted(alone) == ["n/s/d/b.tif.json", "x.json"]
    assert is_sidecar("a.png.json")
    assert not is_sidecar("a.png")
