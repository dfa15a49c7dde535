"""A manifest is the only thing that names a bundle's files, and nothing in it is trusted to be a path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanloop.edge.manifest import MAX_FILE_BYTES, REQUIRED_FILES, BundleFile, Manifest, parse_manifest
from scanloop.errors import DataWrong

SHA = "ab" * 32
FILES = tuple(BundleFile(name, SHA, 10) for name in sorted(REQUIRED_FILES))
MANIFEST = Manifest("cabin", "stable", 3, "m", "s", "d", FILES)


def changed(**changes: Any) -> bytes:
    content = json.loads(MANIFEST.to_bytes())
    content.update(changes)
    return json.dumps(content).encode()


def with_file(name: str, entry: Any) -> bytes:
    return changed(files={**json.loads(MANIFEST.to_bytes())["files"], name: entry})


def test_round_trip():
    assert parse_manifest(MANIFEST.to_bytes()) == MANIFEST
    assert parse_manifest(MANIFEST.to_bytes()).sha256 == MANIFEST.sha256
    assert MANIFEST.file("labels.json").size_bytes == 10


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "exactly the fields"),
        (changed(extra=1), "exactly the fields"),
        (changed(schema=2), "Update the device's software"),
        (changed(version=0), "whole number"),
        (changed(version=True), "whole number"),
        (changed(version=1.5), "whole number"),
        (changed(version=1 << 31), "whole number"),
        (changed(product_line=""), "product_line must be a text"),
        (changed(channel=None), "channel must be a text"),
        (changed(files=[]), "must be a mapping"),
        (changed(files={f"f{number}.json": {} for number in range(40)}), "at most 32"),
        (changed(files={"labels.json": {"sha256": SHA, "size_bytes": 1}}), "lacks evidence.json"),
        (with_file("labels.json", {"sha256": SHA.upper(), "size_bytes": 1}), "no usable sha256"),
        (with_file("labels.json", {"sha256": SHA, "size_bytes": -1}), "no usable sha256"),
        (with_file("labels.json", {"sha256": SHA, "size_bytes": MAX_FILE_BYTES + 1}), "no usable sha256"),
        (with_file("labels.json", {"sha256": SHA, "size_bytes": True}), "no usable sha256"),
        (with_file("labels.json", {"sha256": SHA}), "exactly sha256 and size_bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_manifest_is_refused(data, because):
    with pytest.raises(DataWrong, match=because):
        parse_manifest(data)


@pytest.mark.parametrize(
    "name",
    [
        "../labels.json",
        "/etc/passwd.json",
        "a/b.json",
        "..",
        "weights.pkl",
        "model.pt",
        "x.zip",
        "Labels.json",
        "a\0.json",
        "a\n.json",
        "\u202ea.json",
        "a" * 60 + ".json",
    ],
)
def test_names_that_are_no_plain_file_of_a_bundle_are_refused(name):
    with pytest.raises(DataWrong, match="not a plain file name"):
        parse_manifest(with_file(name, {"sha256": SHA, "size_bytes": 1}))


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_json_is_refused_in_one_way(content):
    with pytest.raises(DataWrong):
        parse_manifest(json.dumps(content).encode())
