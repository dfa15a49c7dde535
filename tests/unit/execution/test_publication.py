"""Publications and receipts survive the trip to the store and back, whatever is in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scanloop.errors import DataWrong
from scanloop.execution.publication import Insert, Publication, Update
from scanloop.execution.receipts import Receipt, encode, folder_name, receipt_key

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=8,
)
CHANGES = st.one_of(
    st.builds(Insert, TEXT, st.dictionaries(TEXT, VALUES, max_size=4), TEXT, TEXT),
    st.builds(Update, TEXT, *[st.dictionaries(TEXT, VALUES, max_size=3)] * 3, TEXT),
)


@given(st.lists(CHANGES, max_size=6))
def test_what_is_encoded_is_what_is_decoded(changes: list[Insert | Update]) -> None:
    encoded = Publication(changes).encode()
    decoded = Publication.decode(encoded)
    assert decoded.changes == changes
    assert decoded.encode() == encoded


def test_times_become_text_that_says_the_same_time() -> None:
    publication = Publication()
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    publication.insert("scans", [{"scan_id": "a", "acquired_at": at}], action="scan.received", subject="scan_id")
    (change,) = Publication.decode(publication.encode()).changes
    assert isinstance(change, Insert)
    assert datetime.fromisoformat(change.row["acquired_at"]) == at


@pytest.mark.parametrize(
    "value",
    ["NUL \0 inside", "half a pair \ud83d", float("nan"), float("inf"), {"deep": ["\0"]}, {"key \0": 1}],
    ids=["nul", "surrogate", "nan", "infinity", "deep", "key"],
)
def test_what_postgresql_never_takes_is_refused_before_a_receipt_could_make_it_final(value: object) -> None:
    publication = Publication()
    with pytest.raises(DataWrong, match=r"scan\.received on scans"):
        publication.insert("scans", [{"scan_id": "a", "attributes": value}], action="scan.received", subject="scan_id")


def test_text_that_only_looks_like_an_escape_is_stored() -> None:
    publication = Publication()
    publication.insert("sites", [{"site_id": "a", "name": r"C:\u0000\ud83d and 😀"}], action="site.added", subject="site_id")
    assert Publication.decode(publication.encode()).changes == publication.changes


def test_a_column_that_does_not_exist_is_a_defect_found_at_once() -> None:
    with pytest.raises(ValueError, match="sites has no column colour"):
        Publication().insert("sites", [{"site_id": "a", "colour": "red"}], action="site.added", subject="site_id")
    with pytest.raises(KeyError, match="colour"):
        Publication().update("sites", key={"site_id": "a"}, expect={}, set={"colour": "red"}, action="site.painted")


@pytest.mark.parametrize(
    "content",
    [b"", b"not zstd", *(zstandard.compress(text) for text in (b"{", b'{"Drop": {}}', b'{"Insert": {"table": "x"}}', b"[1]", b"\xff"))],
)
def test_bytes_that_are_no_publication_are_wrong_data(content: bytes) -> None:
    with pytest.raises(DataWrong, match="Not a publication"):
        list(Publication.decode(content))


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_runs_never_share_a_folder(one: str, other: str) -> None:
    def name(run_id: str) -> str | None:
        try:
            return folder_name(run_id)
        except UnicodeEncodeError:
            return None

    assert (name(one) == name(other)) == (one == other) or None in {name(one), name(other)}
    assert "/" not in (name(one) or "")


def test_parts_of_one_job_have_their_own_receipts() -> None:
    keys = {receipt_key("run/1", "ingest.shard", part) for part in ("", "00/04", "01/04", "00.04")}
    assert len(keys) == 4
    assert all(key.startswith("receipts/run%2F1/ingest.shard") for key in keys)


def test_a_receipt_is_canonical_json() -> None:
    receipt = Receipt(
        run_id="r", job="a.b", part="", attempt=1, actor="me", product_line=None, fence=None, arguments={}, consumed=[], inputs=[], outputs=[],
        publication={"key": "k", "sha256": "s"}, result={"z": 1, "a": 2}, audit_head={"seq": 0, "hash": "0"}, scanloop_version="1", finished_at="",
    )  # fmt: skip
    assert encode(receipt) == encode(Receipt(**json.loads(encode(receipt))))
