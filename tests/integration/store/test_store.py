"""One suite for every store: what holds for a folder holds for S3, and the other way round."""

from __future__ import annotations

import multiprocessing.queues
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scanloop.errors import ObjectConflict, ObjectNotFound, StoreUnavailable, WrongArguments
from scanloop.store import Store, open_store
from scanloop.store.base import sha256_of


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store((tmp_path / "a store").as_uri())
    return open_store(request.getfixturevalue("s3_url"))


def test_put_get_round_trip_of_bytes_and_files(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 9000)
    for key, data in (("a/b.bin", b"\x00\xff"), ("a/empty", b""), ("a/file", file)):
        stored = store.put(key, data)
        assert (stored.sha256, stored.size_bytes) == sha256_of(data)
        assert store.get(key) == (data if isinstance(data, bytes) else data.read_bytes())
    assert store.download("a/file", tmp_path / "deep" / "copy").read_bytes() == file.read_bytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]


def test_put_replaces_and_changes_the_etag(store: Store) -> None:
    first = store.put("k", b"one")
    second = store.put("k", b"two!")
    assert store.get("k") == b"two!"
    assert first.etag != second.etag


def test_put_if_absent_lets_one_owner_win_and_recognises_it(store: Store) -> None:
    store.put_if_absent("receipt", b"mine", owner="me")
    again = store.put_if_absent("receipt", b"mine, computed anew", owner="me")
    assert again.sha256 == sha256_of(b"mine")[0]
    with pytest.raises(ObjectConflict, match="another owner"):
        store.put_if_absent("receipt", b"mine", owner="somebody else")
    assert store.get("receipt") == b"mine"


def test_put_if_absent_refuses_what_a_plain_put_wrote(store: Store) -> None:
    store.put("receipt", b"plain")
    with pytest.raises(ObjectConflict):
        store.put_if_absent("receipt", b"mine", owner="me")


def test_of_many_racing_owners_exactly_one_wins(store: Store) -> None:
    def attempt(number: int) -> bool:
        try:
            store.put_if_absent("race", str(number).encode(), owner=str(number))
        except ObjectConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(attempt, range(24)))
    assert wins.count(True) == 1
    assert store.get("race") == str(wins.index(True)).encode()


def test_replace_compares_and_swaps(store: Store) -> None:
    first = store.put("ref", b"1")
    second = store.replace("ref", b"2", expected_etag=first.etag)
    with pytest.raises(ObjectConflict):
        store.replace("ref", b"3", expected_etag=first.etag)
    store.replace("ref", b"4", expected_etag=second.etag)
    assert store.get("ref") == b"4"


def test_put_content_is_named_by_its_hash_and_written_once(store: Store) -> None:
    first = store.put_content("blobs", b"x", ".bin")
    assert first.key == f"blobs/{first.sha256[:2]}/{first.sha256}.bin"
    assert store.put_content("blobs", b"x", ".bin") == first
    assert store.verify(first.key, str(first.sha256))
    store.put(first.key, b"y")
    assert not store.verify(first.key, str(first.sha256))


def test_put_content_heals_what_was_damaged(store: Store) -> None:
    first = store.put_content("blobs", b"whole", ".bin")
    store.put(first.key, b"whale")
    again = store.put_content("blobs", b"whole", ".bin")
    assert (again.key, again.sha256) == (first.key, first.sha256)
    assert store.get(first.key) == b"whole"


def test_list_is_in_key_order_and_by_prefix(store: Store) -> None:
    keys = ["a/1", "a/10", "a/2", "a-b", "a.c", "b/x/y", "b/x.z"]
    for key in keys:
        store.put(key, key.encode())
    assert [found.key for found in store.list()] == sorted(keys)
    assert [found.key for found in store.list("a/1")] == ["a/1", "a/10"]
    assert [found.key for found in store.list("b/x")] == ["b/x.z", "b/x/y"]
    assert [found.size_bytes for found in store.list("a-")] == [3]
    assert list(store.list("nothing/")) == []


def test_delete_and_absence(store: Store, tmp_path: Path) -> None:
    store.put("k", b"1")
    store.delete("k")
    store.delete("k")
    assert store.head("k") is None
    for call in (lambda: store.get("k"), lambda: store.download("k", tmp_path / "x"), lambda: store.replace("k", b"", expected_etag="e")):
        with pytest.raises(ObjectNotFound, match="holds nothing under 'k'"):
            call()
    assert not (tmp_path / "x").exists()
    assert not store.verify("k", "0" * 64)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "nul\0", "line\nbreak", "ends\n", "x" * 2000])
def test_keys_that_could_leave_the_store_are_refused(store: Store, key: str) -> None:
    with pytest.raises(WrongArguments, match="Not a store key"):
        store.put(key, b"")


def test_conditional_writes_are_honoured(store: Store) -> None:
    store.check_conditional_writes()
    assert list(store.list("probes/")) == []


def test_a_store_that_ignores_conditional_writes_is_refused(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = open_store(s3_url)
    send = careless._send
    monkeypatch.setattr(careless, "_send", lambda key, data, sha256, IfNoneMatch=None, **arguments: send(key, data, sha256, **arguments))
    with pytest.raises(WrongArguments, match="ignores conditional writes"):
        careless.check_conditional_writes()


def _in_a_fork(store: Store, said: multiprocessing.queues.Queue[bytes]) -> None:
    said.put(store.reopened().get("k"))


def test_a_forked_process_reads_what_its_parent_reads(store: Store) -> None:
    store.put("k", b"1")
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    child = context.Process(target=_in_a_fork, args=(store, said))
    child.start()
    assert said.get(timeout=30) == b"1"
    child.join(30)
    assert store.get("k") == b"1"


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        open_store("s3://bucket/x?endpoint_url=http://127.0.0.1:9").get("k")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "s3:///x",
        "file://host/x",
        "/plain/path",
        "s3://bucket/x?colour=red",
        "s3://Bad_Bucket!!/x",
        "s3://bucket/x?endpoint_url=nonsense",
        "s3://bucket/x?endpoint_url=http://h:port",
        "file:///tmp/x%00y",
    ],
)
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(WrongArguments):
        open_store(url)


def test_file_names_that_are_no_keys_do_not_stop_a_listing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("good", b"1")
    (tmp_path / "line\nbreak").write_bytes(b"2")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/not \xff text")).write_bytes(b"3")
    assert [found.key for found in store.list()] == ["good", "line\nbreak"]
    assert "is no text and stays unseen" in caplog.text
