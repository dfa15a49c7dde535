"""Requests and answers: their one form, and their order."""

from __future__ import annotations

import pytest

from scanloop.errors import DataWrong
from scanloop.release.requests import SigningAnswer, SigningRequest, answer_key, open_requests, read_answer, read_request, request_key

REQUEST = SigningRequest("cabin-3-0123456789ab", "cabin", "stable", 3, "m", "bundles/aa/x.json", "s", "run-1")


def test_round_trips(store):
    store.put(request_key(REQUEST.release_id), REQUEST.to_bytes())
    assert read_request(store, REQUEST.release_id) == REQUEST
    answer = SigningAnswer(REQUEST.release_id, "refused", "because")
    store.put(answer_key(REQUEST.release_id), answer.to_bytes())
    assert read_answer(store, REQUEST.release_id) == answer
    assert open_requests(store) == []


def test_lower_numbers_come_first_and_answered_ones_are_left_out(store):
    for name in ("cabin-10-0123456789ab", "cabin-9-0123456789ab", "hold-1-0123456789ab", "cabin-2-0123456789ab"):
        store.put(request_key(name), b"{}")
    store.put(answer_key("cabin-2-0123456789ab"), b"{}")
    assert open_requests(store) == ["cabin-9-0123456789ab", "cabin-10-0123456789ab", "hold-1-0123456789ab"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cabin",
        "cabin-1",
        "cabin-01-0123456789ab",
        "cabin-1-0123456789aB",
        "../cabin-1-0123456789ab",
        "cabin-1-0123456789ab/x",
        "a" * 2000,
    ],
)
def test_an_id_that_is_none_never_becomes_a_key(name):
    with pytest.raises(DataWrong, match="not the id of a release"):
        request_key(name)


def test_an_answer_to_another_request_is_none(store):
    answer = SigningAnswer("hold-1-0123456789ab", "released", "")
    store.put(answer_key(REQUEST.release_id), answer.to_bytes())
    with pytest.raises(DataWrong, match="not an answer to its request"):
        read_answer(store, REQUEST.release_id)
