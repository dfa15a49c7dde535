"""Texts that name a person where a thing should be named are replaced by a word that stays the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_files import PEOPLE, dicos, picture, png, sidecar

from scanloop.scans.codestreams import huffman_tables
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused
from scanloop.scans.people import without_person

PLANES = picture(1, 40, 40)


@pytest.mark.parametrize("text", ["", "B000777", "south-terminal", "V 620", "top", "@", "a @ b", "Süd"])
def test_names_of_things_stay(text: str) -> None:
    assert without_person(text) == text


@given(st.text("ABC", min_size=1), st.text("abc", min_size=1))
def test_names_of_people_are_told_apart_and_not_told(family: str, given_name: str) -> None:
    for text in (f"{family}^{given_name}", f"{given_name}@{family}.example"):
        word = without_person(text)
        assert word.startswith("withheld-")
        assert len(word) == 17
        assert word == without_person(text) != without_person(text + "x")


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_bag_named_after_its_owner_is_a_bag_without_a_name() -> None:
    whole = read_scan(dicos(PLANES, PatientID=PEOPLE, SeriesDescription=PEOPLE, RescaleType=PEOPLE, PixelIntensityRelationship=PEOPLE[:16]))
    exported = read_scan(png(PLANES), sidecar(bag_id=PEOPLE, site="jane@example.org"))
    for scan in (whole, exported):
        about = scan.metadata
        assert about.bag == without_person(PEOPLE)
        assert "doe" not in f"{about.bag_id} {about.site_id} {about.view} {dict(about.attributes)} {scan.scales}".lower()
    other = read_scan(dicos(PLANES, PatientID="ROE^RICHARD"))
    assert other.metadata.bag_id != whole.metadata.bag_id


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        b"\0" * 17,
        b"\0\1" + b"\0" * 15,
        b"\0\3" + b"\0" * 15 + b"abc",
        b"\0" + b"\0" * 15 + b"\2" + b"a",
        b"\0\1" + b"\0" * 15 + b"a\1",
    ],
    ids=["cut", "empty", "no value", "too many codes", "a value short", "a second cut"],
)
def test_huffman_tables_that_are_none_are_refused(body: bytes) -> None:
    assert huffman_tables(b"\x10\1\1" + b"\0" * 14 + b"ab\0\2" + b"\0" * 15 + b"cd") == {0x10, 0x00}
    with pytest.raises(ScanRefused, match="Huffman"):
        huffman_tables(body)
