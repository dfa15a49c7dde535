from __future__ import annotations

import dataclasses
import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from snapshot_records import KNIFE, labelled, line, record

from scanloop.errors import ObjectNotFound, WrongArguments
from scanloop.labelling.boxes import Box
from scanloop.snapshots.build import build_root, changed_scans, check_enough
from scanloop.snapshots.collect import Collected, records_of
from scanloop.snapshots.manifest import SHARDS_PREFIX, SnapshotDamaged, SnapshotReader, load_snapshot, root_from_bytes, root_key
from scanloop.snapshots.shards import SCHEMA, bucket_of, decode_shard, encode_shard, rows_digest
from scanloop.snapshots.verify import violations

names = st.text(min_size=1, max_size=12)
numbers = st.floats(0, 1e5, allow_nan=False).map(float)
records = st.lists(
    st.builds(
        record,
        names,
        names,
        boxes=st.lists(st.builds(Box, names, st.tuples(numbers, numbers, numbers, numbers)), max_size=3).map(tuple),
        acquired_at=st.none() | st.datetimes(timezones=st.just(__import__("datetime").UTC)).map(lambda when: when.isoformat()),
        phash=st.none() | st.just("0123456789abcdef"),
        looked_for=st.lists(names, max_size=3).map(tuple),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(records)
def test_a_shard_gives_back_what_was_put_in_and_equal_bytes_for_equal_rows(rows):
    data = encode_shard(rows)
    assert decode_shard(data) == rows
    assert encode_shard(list(rows)) == data
    assert rows_digest(decode_shard(data)) == rows_digest(rows)


def test_the_digest_of_rows_sees_every_field_but_the_weight():
    one = record("b")
    assert rows_digest([dataclasses.replace(one, weight=3.0)]) == rows_digest([one])
    changes = {"split": "test", "is_synthetic": True, "boxes": (), "looked_for": (), "height_px": 1, "phash": None, "planes": ("high",)}
    assert len({rows_digest([dataclasses.replace(one, **{name: value})]) for name, value in changes.items()} | {rows_digest([one])}) == 8


def test_every_field_of_a_record_but_the_weight_is_a_column():
    assert [*SCHEMA.names, "weight"] == [field.name for field in dataclasses.fields(record("b"))]


def test_what_is_no_shard_is_damaged():
    with pytest.raises(SnapshotDamaged):
        decode_shard(encode_shard([record("b")])[:-7])


def build(store, bags, definition=None, parent=None):
    definition = definition or line(snapshot={"buckets": 8})
    built = build_root(records_of([labelled(bag) for bag in bags], definition), definition, parent)
    for data in built.new_files.values():
        store.put_content(SHARDS_PREFIX, data, ".parquet")
    content = built.root.to_bytes()
    snapshot_id = hashlib.sha256(content).hexdigest()
    store.put(root_key(snapshot_id), content)
    return built, load_snapshot(store, snapshot_id)


BAGS = [f"bag-{number}" for number in range(50)]


def test_a_root_survives_its_bytes(store):
    built, reader = build(store, BAGS)
    assert reader.root == built.root
    assert root_from_bytes(built.root.to_bytes()).to_bytes() == built.root.to_bytes()
    assert tuple(reader.rows()) == built.records
    assert list(violations(reader)) == []


def test_a_child_shares_the_shards_that_did_not_change_and_equals_one_without_parent(store):
    _, parent = build(store, BAGS)
    new_bag = "bag-new"
    built, child = build(store, [*BAGS, new_bag], parent=parent)
    alone = build_root(
        records_of([labelled(bag) for bag in [*BAGS, new_bag]], line(snapshot={"buckets": 8})), line(snapshot={"buckets": 8}), None
    )
    assert alone.root.to_bytes() == built.root.to_bytes()
    assert len(built.new_files) == 1
    assert {shard.key for shard in child.root.shards} - {shard.key for shard in parent.root.shards} == set(built.new_files)
    assert changed_scans(built, parent) == 1
    assert bucket_of(new_bag, 8) in {shard.bucket for shard in child.root.shards}


def test_a_parent_written_by_another_parquet_writer_keeps_its_files(store):
    _, parent = build(store, BAGS)
    entry = dataclasses.replace(parent.root.shards[0], key="snapshots/shards/aa/other.parquet", sha256="f" * 64)
    rewritten = SnapshotReader(store, "x", dataclasses.replace(parent.root, shards=(entry, *parent.root.shards[1:])))
    built = build_root(records_of([labelled(bag) for bag in BAGS], line(snapshot={"buckets": 8})), line(snapshot={"buckets": 8}), rewritten)
    assert (built.root.shards, built.new_files) == (rewritten.root.shards, {})


def test_a_changed_or_missing_shard_or_root_is_noticed(store):
    _, reader = build(store, BAGS)
    key = reader.root.shards[0].key
    store.put(key, encode_shard([record("forged")]))
    with pytest.raises(SnapshotDamaged, match="does not have the digest"):
        list(reader.records())
    store.delete(key)
    with pytest.raises(ObjectNotFound):
        list(reader.records())
    store.put(root_key(reader.snapshot_id), store.get(root_key(reader.snapshot_id)).replace(b"cabin", b"hold!"))
    with pytest.raises(SnapshotDamaged, match="digest that is its name"):
        load_snapshot(store, reader.snapshot_id)


def test_a_root_of_another_format_is_refused():
    with pytest.raises(SnapshotDamaged, match=r"scanloop\.snapshot/1"):
        root_from_bytes(b'{"format": "scanloop.snapshot/2"}')
    with pytest.raises(SnapshotDamaged):
        root_from_bytes(b"not json")


def test_records_are_read_by_split_and_an_unknown_split_is_refused(store):
    _, reader = build(store, BAGS)
    by_split = {split: list(reader.records(split)) for split in ("train", "val", "test")}
    assert sum(map(len, by_split.values())) == len(list(reader.records())) == reader.counts["scans"]
    with pytest.raises(WrongArguments, match="train, val, test"):
        next(iter(reader.records("dev")))


def test_verification_notices_a_leak_and_a_wrong_count(store):
    built, reader = build(store, BAGS)
    near = dataclasses.replace(record("copy"), split="test", phash=built.records[0].phash)
    train = dataclasses.replace(built.records[0], split="train")
    leaky = Collected([train, near, record("synthetic", split="val", is_synthetic=True)], {}, {})
    forged = build_root(leaky, line(snapshot={"buckets": 8}), None)
    for data in forged.new_files.values():
        store.put_content(SHARDS_PREFIX, data, ".parquet")
    wrong = dataclasses.replace(forged.root, counts={**forged.root.counts, "scans": 99})
    found = " ".join(violations(SnapshotReader(store, reader.snapshot_id, wrong)))
    assert "differ in 0 bits" in found
    assert "is synthetic" in found
    assert "counts something else" in found


@pytest.mark.parametrize(
    ("rules", "says"), [({"min_scans": 60}, "50 accepted scans; a snapshot needs 60, 10 more"), ({"min_scans": 1, "seed": 3}, None)]
)
def test_too_few_scans_say_how_many_more(store, rules, says):
    from scanloop.errors import NothingToDo

    definition = line(snapshot=rules)
    built = build_root(records_of([labelled(bag) for bag in BAGS], definition), definition, None)
    if says is None:
        check_enough(built, definition, None)
    else:
        with pytest.raises(NothingToDo, match=says):
            check_enough(built, definition, None)


def test_an_empty_split_is_too_little():
    from scanloop.errors import NothingToDo

    definition = line()
    with pytest.raises(NothingToDo, match="a snapshot needs every split"):
        check_enough(build_root(records_of([labelled("bag-1")], definition), definition, None), definition, None)


def test_rules_that_decide_nothing_about_content_make_no_new_root():
    scans = [labelled(bag) for bag in BAGS]
    one, other = line(), line(training={"iterations": 999}, release={"channel": "beta"}, title="Renamed")
    assert (
        build_root(records_of(scans, one), one, None).root.to_bytes() == build_root(records_of(scans, other), other, None).root.to_bytes()
    )
    assert KNIFE.category in one.categories
