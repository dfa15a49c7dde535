"""Whatever becomes of rules, scans and labels: what was tested on is never trained on, and the other way round."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from snapshot_records import labelled, line, record

from scanloop.snapshots.build import build_root
from scanloop.snapshots.collect import Collected, LabelledScan, records_of
from scanloop.snapshots.manifest import SHARDS_PREFIX, SnapshotDamaged, SnapshotReader, SnapshotRecord, load_snapshot, root_key
from scanloop.snapshots.past import PAST_PREFIX, past_of, remembered_by
from scanloop.snapshots.splits import OTHERWISE_BEFORE, SEVERAL_UNITS, UNDATED, WAITS, drawn_split
from scanloop.snapshots.verify import leaks, leaks_between, violations
from scanloop.store import Store, open_store

BITS = 2


def freeze(
    store: Store, scans: list[LabelledScan], parent: SnapshotReader | None, bits: int = BITS, **rules: Any
) -> tuple[SnapshotReader, Collected]:
    """A snapshot as the job makes one."""
    definition = line(selection={"near_duplicate_bits": bits}, snapshot={"buckets": 4, **rules})
    past = past_of(parent)
    collected = records_of(scans, definition, past)
    built = build_root(collected, definition, parent, past)
    for key, data in built.new_files.items():
        prefix = SHARDS_PREFIX if key.startswith(SHARDS_PREFIX) else PAST_PREFIX
        assert store.put_content(prefix, data, ".parquet").key == key
    content = built.root.to_bytes()
    snapshot_id = hashlib.sha256(content).hexdigest()
    store.put(root_key(snapshot_id), content)
    return load_snapshot(store, snapshot_id), collected


def scans_of(drawn: random.Random) -> list[LabelledScan]:
    """Bags of one or two views, from a few sites, machines and months, with few enough hashes that many are near copies."""
    found = []
    for number in range(drawn.randint(1, 26)):
        place, month = drawn.randrange(3), drawn.randrange(1, 5)
        facts: dict[str, Any] = {
            "site_id": f"site-{place}",
            "scanner_id": f"machine-{place}-{drawn.randrange(2)}",
            "acquired_at": None if drawn.random() < 0.05 else _when(month, drawn.randrange(1, 28)),
            "phash": f"{(1 << drawn.randrange(12)) - 1:016x}",
            "is_projected": drawn.random() < 0.1,
        }
        boxes = () if drawn.random() < 0.4 else labelled("x").whole[0].boxes
        is_whole = drawn.random() < 0.8
        for view in ("side", "top")[: drawn.randint(1, 2)]:
            other = {"scanner_id": f"machine-{place}-{drawn.randrange(2)}"} if drawn.random() < 0.2 else {}
            found.append(labelled(f"bag-{number}", view, is_whole=is_whole, boxes=boxes, **facts | other))
    return found


def _when(month: int, day: int) -> Any:
    from datetime import UTC, datetime

    return datetime(2026, month, day, tzinfo=UTC)


def rules_of(drawn: random.Random, test_set: int, *, is_by_bag: bool) -> dict[str, Any]:
    test = drawn.choice([0.2, 0.3, 0.5])
    return {
        "splits": {"train": 0.8 - test, "val": 0.2, "test": test},
        "seed": drawn.randrange(3),
        "test_set": test_set,
        "split_by": "bag" if is_by_bag else drawn.choice(["bag", "site", "scanner", "day", "month"]),
        "synthetic_share": drawn.choice([1.0, 0.2]),
    }


def of_split(rows: list[SnapshotRecord], split: str) -> set[str]:
    return {row.scan_id for row in rows if row.split == split}


@pytest.mark.parametrize("is_by_bag", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_nothing_leaks_over_any_history(seed: int, is_by_bag: bool) -> None:
    drawn = random.Random(2 * seed + is_by_bag)
    everything = scans_of(drawn)
    versions: list[tuple[SnapshotReader, list[SnapshotRecord], int, set[str]]] = []
    test_set, do_bits_change = drawn.randrange(2), drawn.random() < 0.4
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder).as_uri())
        for _ in range(drawn.randint(2, 5)):
            present = [scan for scan in everything if drawn.random() < 0.7]
            test_set += drawn.random() < 0.3 if test_set else 0
            rules = rules_of(drawn, test_set, is_by_bag=is_by_bag)
            parent = versions[-1][0] if versions else None
            bits = drawn.randrange(5) if do_bits_change else BITS
            reader, collected = freeze(store, present, parent, bits, **rules)
            again, _ = freeze(store, drawn.sample(present, len(present)), parent, bits, **rules)
            assert again.snapshot_id == reader.snapshot_id, "the order of the input decided something"
            assert list(violations(reader)) == []
            rows = list(reader.rows())
            assert list(leaks(rows, bits, rules["split_by"])) == []
            stays = {scan.facts["scan_id"] for scan in present if scan.facts["bag_id"] not in collected.withheld_for}
            versions.append((reader, rows, test_set, stays))
    ever: dict[str, set[str]] = {split: set() for split in ("train", "val", "test")}
    for number, (reader, rows, version, stays) in enumerate(versions):
        for _, before, *_ in versions[:number]:
            bits = reader.root.rules["near_duplicate_bits"]
            assert list(leaks_between(before, rows, bits)) == []
        for split in ever:
            others = set().union(*(ever[other] for other in ever if other != split))
            assert not of_split(rows, split) & others, "a scan was in another split before"
        if number:
            _, before, was, _ = versions[number - 1]
            if version == was > 0:
                assert of_split(rows, "test") <= ever["test"], "the frozen test set grew without a new version"
            if is_by_bag:
                real = {row.scan_id for row in rows}
                assert of_split(before, "test") & stays & real <= of_split(rows, "test"), "a test set lost scans that are there"
        for split in ever:
            ever[split] |= of_split(rows, split)


BAGS = [f"bag-{number}" for number in range(60)]


def test_another_seed_and_other_shares_are_for_new_bags(store: Store) -> None:
    scans = [labelled(bag) for bag in BAGS]
    first, _ = freeze(store, scans, None)
    second, _ = freeze(
        store, [*scans, *(labelled(f"new-{n}") for n in range(40))], first, seed=99, splits={"train": 0.2, "val": 0.1, "test": 0.7}
    )
    before, after = ({row.bag_id: row.split for row in reader.rows()} for reader in (first, second))
    assert {bag: after[bag] for bag in before} == before
    fresh = Counter(split for bag, split in after.items() if bag not in before)
    assert fresh["test"] > fresh["train"] > 0
    assert second.root.remembered is None
    assert "remembered" not in second.root.to_bytes().decode()


def test_what_is_gone_is_remembered_and_comes_back_where_it_was(store: Store) -> None:
    first, _ = freeze(store, [labelled(bag) for bag in BAGS], None)
    trained = min(row.bag_id for row in first.rows() if row.split == "train")
    lone, _ = freeze(store, [labelled(bag) for bag in BAGS if bag != trained], first)
    assert [(item.bag_id, split) for item, split in remembered_by(lone)] == [(trained, "train")]
    third, _ = freeze(store, [labelled(bag) for bag in BAGS if bag != trained], lone, seed=5)
    assert third.root.remembered == lone.root.remembered
    testing = next(n for n in range(99) if drawn_split(n, trained, {"train": 0.5, "val": 0.25, "test": 0.25}) == "test")
    back, _ = freeze(store, [labelled(bag) for bag in BAGS], third, seed=testing)
    assert {row.bag_id: row.split for row in back.rows()}[trained] == "train"
    assert back.root.remembered is None
    # Its near copy under another name was never there, and may not be tested on either.
    copy = next(f"copy-{n}" for n in range(99) if drawn_split(testing, f"copy-{n}", {"train": 0.5, "val": 0.25, "test": 0.25}) == "test")
    scans = [labelled(bag) for bag in BAGS if bag != trained] + [labelled(copy, phash=record(trained).phash)]
    late, collected = freeze(store, scans, third, seed=testing)
    assert {row.bag_id: row.split for row in late.rows()}[copy] == "withheld"
    assert collected.withheld_for[copy] == trained


def test_a_frozen_test_set_grows_by_a_new_version_only(store: Store) -> None:
    new = [f"new-{number}" for number in range(60)]
    first, _ = freeze(store, [labelled(bag) for bag in BAGS], None, test_set=1)
    second, collected = freeze(store, [labelled(bag) for bag in (*BAGS, *new)], first, test_set=1)
    assert of_split(list(second.rows()), "test") == of_split(list(first.rows()), "test")
    assert collected.withheld[WAITS] > 5
    assert len(of_split(list(second.rows()), "train")) > len(of_split(list(first.rows()), "train"))
    third, collected = freeze(store, [labelled(bag) for bag in (*BAGS, *new)], second, test_set=2)
    grown = of_split(list(third.rows()), "test") - of_split(list(second.rows()), "test")
    assert len(grown) > 5
    assert of_split(list(second.rows()), "test") < of_split(list(third.rows()), "test")
    assert WAITS not in collected.withheld
    unfrozen, _ = freeze(store, [labelled(bag) for bag in (*BAGS, *new, *(f"more-{n}" for n in range(40)))], third)
    assert of_split(list(third.rows()), "test") < of_split(list(unfrozen.rows()), "test")


@pytest.mark.parametrize(("split_by", "column"), [("site", "site_id"), ("scanner", "scanner_id")])
def test_units_are_drawn_as_wholes(store: Store, split_by: str, column: str) -> None:
    scans = [
        labelled(f"{bag}-{view}", view, **{column: f"unit-{number % 12}"}) for number, bag in enumerate(BAGS) for view in ("side", "top")
    ]
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    other = next(
        unit for unit in (f"unit-{number}" for number in range(12)) if drawn_split(3, unit, shares) != drawn_split(3, "unit-1", shares)
    )
    scans += [labelled("both", "side", **{column: "unit-1"}), labelled("both", "top", **{column: other})]
    reader, collected = freeze(store, scans, None, split_by=split_by)
    splits: dict[str, set[str]] = {}
    for row in reader.records():
        splits.setdefault(getattr(row, column), set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(set().union(*splits.values())) == 3
    assert collected.withheld == {SEVERAL_UNITS: 2}


def test_months_are_drawn_as_wholes_and_what_has_no_date_is_withheld(store: Store) -> None:
    scans = [labelled(bag, acquired_at=_when(1 + number % 12, 1 + number % 28)) for number, bag in enumerate(BAGS)] + [labelled("undated")]
    reader, collected = freeze(store, scans, None, split_by="month")
    splits: dict[str, set[str]] = {}
    for row in reader.records():
        assert row.acquired_at is not None
        splits.setdefault(row.acquired_at[:7], set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert collected.withheld == {UNDATED: 1}


def test_bags_that_were_elsewhere_before_their_site_was_drawn_are_withheld(store: Store) -> None:
    scans = [labelled(bag, site_id=f"site-{number % 4}") for number, bag in enumerate(BAGS)]
    first, _ = freeze(store, scans, None)
    second, collected = freeze(store, scans, first, split_by="site")
    assert collected.withheld[OTHERWISE_BEFORE] > 0
    before = {row.bag_id: row.split for row in first.rows()}
    assert all(row.split == before[row.bag_id] for row in second.records())
    third, _ = freeze(store, scans, second)
    assert {row.bag_id: row.split for row in third.rows()} == before, "what was withheld comes back where it was"


def test_synthetic_scans_are_capped_as_a_share_of_train(store: Store) -> None:
    scans = [labelled(bag, is_projected=number % 2 == 0) for number, bag in enumerate(BAGS)]
    for share in (0.0, 0.1, 0.3, 1.0):
        reader, _ = freeze(store, scans, None, synthetic_share=share)
        train = list(reader.records("train"))
        synthetic = sum(row.is_synthetic for row in train)
        assert synthetic <= share * len(train) + 1e-9
        if share in (0.1, 0.3):
            assert (synthetic + 1) / (len(train) + 1) > share, "one more would have fitted"
        if share == 1.0:
            assert reader.root.balance.synthetic_cut is None
    assert "synthetic train scan beyond the share" in freeze(store, scans, None, synthetic_share=0.1)[0].counts["withheld"]


def test_a_changed_memory_is_noticed(store: Store) -> None:
    first, _ = freeze(store, [labelled(bag) for bag in BAGS], None)
    second, _ = freeze(store, [labelled(bag) for bag in BAGS[:40]], first)
    entry = second.root.remembered
    assert entry is not None
    assert entry.rows == len(remembered_by(second)) == 20
    content = bytearray(store.get(entry.key))
    content[len(content) // 2] ^= 1
    store.put(entry.key, bytes(content))
    for act in (lambda: past_of(second), lambda: list(violations(second))):
        with pytest.raises(SnapshotDamaged, match="does not have its digest"):
            act()


def test_a_leak_between_versions_is_found() -> None:
    earlier = [record("a", split="test"), record("b", split="train", phash="0" * 16), record("w", split="withheld")]
    later = [record("a", split="train"), record("c", split="test", phash="0" * 15 + "1"), record("w", split="train")]
    found = list(leaks_between(earlier, later, BITS))
    assert len(found) == 3
    assert "Bag a was in test and is in train." in found
    assert any("differs in 1 bits only" in sentence for sentence in found)
    assert list(leaks_between(earlier, [record("a", split="test"), record("x", split="val")], BITS)) == []


def test_any_flipped_byte_is_found(store: Store) -> None:
    first, _ = freeze(store, [labelled(bag) for bag in BAGS], None)
    second, _ = freeze(store, [labelled(bag) for bag in BAGS[:40]], first)
    drawn = random.Random(8)
    assert len(second.keys()) == 1 + 4 + 1
    for key in sorted(second.keys()):
        whole = store.get(key)
        places = {0, len(whole) - 1, *(drawn.randrange(len(whole)) for _ in range(30))}
        for place in sorted(places):
            content = bytearray(whole)
            content[place] ^= 1 << drawn.randrange(8)
            store.put(key, bytes(content))
            with pytest.raises(SnapshotDamaged):
                list(violations(load_snapshot(store, second.snapshot_id)))
        store.put(key, whole)
    assert list(violations(load_snapshot(store, second.snapshot_id))) == []


def test_where_more_bits_count_as_near_neither_of_two_old_copies_is_used(store: Store) -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    trained, tested = (next(bag for bag in BAGS if drawn_split(3, bag, shares) == split) for split in ("train", "test"))
    scans = [labelled(bag) for bag in BAGS if bag not in (trained, tested)]
    scans += [labelled(trained, phash="0" * 16), labelled(tested, phash="0" * 15 + "7")]
    first, _ = freeze(store, scans, None)
    assert {row.bag_id: row.split for row in first.rows() if row.bag_id in (trained, tested)} == {trained: "train", tested: "test"}
    second, _ = freeze(store, scans, first, 4)
    assert {row.split for row in second.rows() if row.bag_id in (trained, tested)} == {"withheld"}
    assert list(leaks_between(list(first.rows()), list(second.rows()), 4)) == []


def test_synthetic_copies_that_are_used_nowhere_hinder_nobody(store: Store) -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    trained, tested = (next(f"x-{n}" for n in range(99) if drawn_split(3, f"x-{n}", shares) == split) for split in ("train", "test"))
    scans = [labelled(trained, phash="0" * 16), labelled(tested, phash="0" * 16, is_projected=True)]
    reader, _ = freeze(store, scans, None)
    assert {row.bag_id: row.split for row in reader.rows()} == {trained: "train", tested: "withheld"}


@pytest.mark.parametrize("share", [0.0, 0.07, 0.3, 0.5])
def test_both_caps_hold_together(store: Store, share: float) -> None:
    scans = [labelled(f"real-{n}") for n in range(8)] + [labelled(f"synthetic-{n}", is_projected=True) for n in range(60)]
    scans += [labelled(f"clean-{n}", boxes=()) for n in range(150)]
    scans += [labelled(f"both-{n}", boxes=(), is_projected=True) for n in range(20)]
    reader, _ = freeze(store, scans, None, synthetic_share=share, clean_bag_ratio=0.5)
    train = list(reader.records("train"))
    clean = {row.bag_id for row in train if row.is_clean_bag}
    assert len(clean) <= 0.5 * len({row.bag_id for row in train} - clean)
    assert sum(row.is_synthetic for row in train) <= share * len(train) + 1e-9
    assert list(violations(reader)) == []
    assert sum(reader.counts["withheld"].values()) == sum(row.weight == 0 for row in reader.rows())
