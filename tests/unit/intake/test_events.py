"""Messages about new objects in every shape, and those that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.intake.events import MAX_KEYS, UnreadableEvent, parse_event


def s3_event(*keys: str, name: str = "ObjectCreated:Put", bucket: str = "landing") -> dict[str, Any]:
    return {"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys]}


BRIDGE = {"detail-type": "Object Created", "detail": {"bucket": {"name": "landing"}, "object": {"key": "in/a b+c.dcs"}}}


@pytest.mark.parametrize(
    ("message", "keys", "ignored"),
    [
        (s3_event("in/s/1/a.dcs", "in/s/1/b.dcs"), ("s/1/a.dcs", "s/1/b.dcs"), 0),
        (s3_event("in/s%C3%BCd/a+b%2Bc.dcs"), ("süd/a b+c.dcs",), 0),
        (s3_event("in/a", "in/a"), ("a",), 0),
        (s3_event("in/a", name="s3:ObjectCreated:CompleteMultipartUpload"), ("a",), 0),
        (s3_event("in/a", name="ObjectRemoved:Delete"), (), 1),
        (s3_event("in/a", bucket="other"), (), 1),
        (s3_event("other/a"), (), 1),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "landing"}, (), 1),
        ({"Type": "Notification", "Message": json.dumps(s3_event("in/a"))}, ("a",), 0),
        (BRIDGE, ("a b+c.dcs",), 0),
        ({**BRIDGE, "detail-type": "Object Deleted"}, (), 1),
        ({"Records": []}, (), 0),
    ],
)
def test_what_a_message_names(message: dict[str, Any], keys: tuple[str, ...], ignored: int) -> None:
    found = parse_event(json.dumps(message), "landing", "in/")
    assert (found.keys, found.ignored) == (keys, ignored)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"Records": 5}',
        '{"Records": [{}]}',
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": null}]}',
        '{"Type": "Notification", "Message": "no JSON"}',
        '{"Type": "Notification"}',
        '{"detail-type": "Object Created", "detail": {}}',
        "[" * 100_000,
        json.dumps(s3_event(*(f"in/{number}" for number in range(MAX_KEYS + 1)))),
    ],
    ids=lambda body: body[:40],
)
def test_what_is_no_event_is_said_to_be_none(body: str) -> None:
    with pytest.raises(UnreadableEvent):
        parse_event(body, "landing", "in/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Records", "s3", "bucket", "name", "object", "key", "eventName", "Type", "Message", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_message_is_a_surprise(message: object) -> None:
    try:
        found = parse_event(json.dumps(message), "landing", "in/")
    except UnreadableEvent:
        return
    assert all(isinstance(key, str) for key in found.keys)
