"""Each format of index: what it says is what was written, and whatever else is in it is named."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import research_sets as sets
from hypothesis import given
from hypothesis import strategies as st

from scanloop.imports.coco import parse_coco
from scanloop.imports.problems import KINDS
from scanloop.imports.records import MAX_BOXES_AN_IMAGE, Index, IndexRefused, decode_index, encode
from scanloop.imports.text import parse_list, parse_text
from scanloop.imports.voc import parse_voc

CORNER = st.integers(-2000, 5000)
SIZE = st.floats(0.5, 3000, allow_nan=False).map(lambda value: round(value, 3))
CATEGORY = st.sampled_from(["Gun", "Knife", "Multi-tool_Knife", "Straight_Knife"])


def kinds(index: Index) -> list[str]:
    assert {problem.kind for problem in index.problems} <= KINDS.keys()
    return [problem.kind for problem in index.problems]


def as_bytes(index: dict[str, Any]) -> bytes:
    return json.dumps(index).encode()


@given(st.lists(st.lists(st.tuples(st.integers(1, 12), st.tuples(SIZE, SIZE, SIZE, SIZE)), max_size=4), min_size=1, max_size=5))
def test_a_coco_index_says_what_was_written(images: list[Any]) -> None:
    written = {f"xray_{number:05d}.png": boxes for number, boxes in enumerate(images)}
    read = parse_coco(as_bytes(sets.coco(written, sets.PIDRAY)))
    assert read.problems == []
    assert read.categories == sorted(sets.PIDRAY)
    assert [(image.name, image.width_px, image.height_px) for image in read.images] == [(name, 80, 64) for name in written]
    for image, boxes in zip(read.images, written.values(), strict=True):
        assert [(box.category, box.bbox_xywh) for box in image.boxes] == [(sets.PIDRAY[number - 1], bbox) for number, bbox in boxes]
    assert decode_index(encode(read)) == read


@given(st.lists(st.tuples(CATEGORY, st.tuples(CORNER, CORNER, CORNER, CORNER)), max_size=4))
def test_a_voc_file_says_what_was_written(objects: list[Any]) -> None:
    read = parse_voc(sets.voc_xml("P00001", objects).encode(), "P00001", 0)
    assert (read.name, read.entry, read.width_px, read.height_px) == ("P00001", "P00001.jpg", 80, 64)
    assert [box.category for box in read.boxes] == [category for category, _ in objects]
    assert [box.bbox_xywh for box in read.boxes] == [(x1, y1, x2 - x1, y2 - y1) for _, (x1, y1, x2, y2) in objects]


def test_corners_of_the_standard_are_pixels_counted_from_1() -> None:
    xml = sets.voc_xml("a", [("dog", (1, 1, 80, 64))]).encode()
    assert parse_voc(xml, "a", 1).boxes[0].bbox_xywh == (0, 0, 80, 64)


@given(st.lists(st.tuples(CATEGORY, st.tuples(CORNER, CORNER, CORNER, CORNER)), max_size=4))
def test_lines_say_what_was_written(boxes: list[Any]) -> None:
    read = parse_text(sets.lines("009001", boxes).encode(), "009001")
    assert read.problems == []
    assert [(box.category, box.bbox_xywh) for box in read.images[0].boxes] == [
        (category, (x1, y1, x2 - x1, y2 - y1)) for category, (x1, y1, x2, y2) in boxes
    ]


@given(st.lists(st.tuples(st.from_regex(r"[PN][0-9]{5}", fullmatch=True), st.tuples(st.booleans(), st.booleans())), max_size=5))
def test_a_list_with_columns_says_what_was_written(rows: list[Any]) -> None:
    text = "name,Gun,Knife\n" + "".join(f"{name},{1 if gun else -1},{1 if knife else -1}\n" for name, (gun, knife) in rows)
    read = parse_list(text.encode())
    assert read.problems == []
    assert [(said.name, "Gun" in said.present, "Knife" in said.present) for said in read.listed] == [(n, g, k) for n, (g, k) in rows]
    assert all(set(said.present) | set(said.absent) == {"Gun", "Knife"} for said in read.listed)


def test_a_plain_list_is_names_with_or_without_suffix_and_path() -> None:
    assert [said.name for said in parse_list(b"009001\r\n\n009002.jpg\ntrain_image/009003.JPG\n").listed] == ["009001", "009002", "009003"]


def change(path: str, value: Any) -> Any:
    """An index with one value changed: `images.0.id`."""
    images = {"a.png": [(7, (1, 1, 9, 9))], "b.png": [(11, (2, 2, 9, 9))], "c.png": []}
    index = sets.coco(images, sets.PIDRAY)
    *parts, last = path.split(".")
    place: Any = index
    for part in parts:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return index


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("images.0.id", -5, ["id_odd", "annotation_without_image"]),
        ("images.0.id", "0", ["id_odd"]),
        ("images.0.id", "xray/0", ["id_odd", "annotation_without_image"]),
        ("images.0.id", 1, ["id_twice", "id_twice", "annotation_without_image"]),
        ("images.0.id", 7, ["id_order", "annotation_without_image"]),
        ("images.0.id", None, ["id_odd", "annotation_without_image"]),
        ("images.0.id", True, ["id_odd", "annotation_without_image"]),
        ("images.0.file_name", 5, ["name_odd"]),
        ("images.0.file_name", "", ["name_odd"]),
        ("images.0.file_name", "x" * 4096, ["name_odd"]),
        ("annotations.0.id", 1, ["id_twice"]),
        ("annotations.0.id", "a", ["id_odd"]),
        ("annotations.0.id", -1, ["id_odd"]),
        ("annotations.0.id", None, ["id_odd"]),
        ("annotations.0.image_id", 99, ["annotation_without_image"]),
        ("annotations.0.image_id", {"$ne": 0}, ["annotation_without_image"]),
        ("annotations.0.category_id", 13, ["category_unknown"]),
        ("annotations.0.category_id", "<script>", ["category_unknown"]),
        ("categories.0.name", None, ["id_odd"]),
        ("categories.0.id", 2, ["id_twice"]),
    ],
)
def test_what_is_odd_about_an_index_is_named(path: str, value: Any, expected: list[str]) -> None:
    read = parse_coco(as_bytes(change(path, value)))
    assert kinds(read) == expected
    assert decode_index(encode(read)) == read


@pytest.mark.parametrize(
    ("value", "expected"), [("NaN", None), ("Infinity", None), ("-Infinity", None), ('"12"', None), ("null", None), ("true", None)]
)
@pytest.mark.parametrize("corner", range(4))
def test_a_corner_that_is_no_number_is_none(value: str, expected: None, corner: int) -> None:
    bbox = ["1", "2", "30", "40"]
    bbox[corner] = value
    index = json.dumps(change("images.1.file_name", "NaN, Infinity.png")).replace("[1, 1, 9, 9]", f"[{', '.join(bbox)}]")
    read = parse_coco(index.encode())
    assert read.images[0].boxes[0].bbox_xywh[corner] is expected
    assert read.images[1].name == "NaN, Infinity.png"


@pytest.mark.parametrize("bbox", [None, [], [1, 2, 3], [1, 2, 3, 4, 5], "1 2 3 4", {"x": 1}, [[1], 2, 3, 4], [10**400, 1, 1, 1]])
def test_what_is_no_box_has_no_corner(bbox: Any) -> None:
    read = parse_coco(as_bytes(change("annotations.0.bbox", bbox)))
    assert None in read.images[0].boxes[0].bbox_xywh
    assert decode_index(encode(read)) == read


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"images": []}',
        b'{"images": {}, "annotations": [], "categories": []}',
        b'{"images": [1], "annotations": [], "categories": []}',
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"images": [], "annotations": [], "categories": [], "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"images": [{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b'}], "annotations": [], "categories": []}',
    ],
    ids=["empty", "list", "null", "part", "kinds", "numbers", "utf-16", "deep", "deep-unused", "deep-used"],
)
def test_what_is_no_index_is_refused(content: bytes) -> None:
    with pytest.raises(IndexRefused, match="no COCO index"):
        parse_coco(content)


def test_a_million_boxes_are_refused() -> None:
    many = b",".join([b"{}"] * 1_000_001)
    with pytest.raises(IndexRefused, match="1000000 boxes expected, 1 and 1000001 found"):
        parse_coco(b'{"images":[{"id":1,"file_name":"a.png"}],"categories":[],"annotations":[' + many + b"]}")


def test_more_boxes_than_a_picture_can_hold_are_no_annotation() -> None:
    read = parse_coco(as_bytes(sets.coco({"a.png": [(7, (1, 1, 5, 5))] * (MAX_BOXES_AN_IMAGE + 1), "b.png": []}, sets.PIDRAY)))
    assert kinds(read) == ["too_many_boxes"]
    assert [(image.boxes, image.is_trusted) for image in read.images] == [((), False), ((), True)]


def test_the_annotation_of_an_image_whose_id_is_not_its_own_does_not_count() -> None:
    read = parse_coco(as_bytes(change("images.2.id", 0)))
    assert [(image.name, image.is_trusted) for image in read.images] == [("a.png", False), ("b.png", True), ("c.png", False)]


_XML = sets.voc_xml("a", [("Gun", (1, 2, 30, 40))])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no XML"),
        (b"\x00\x01", "no XML"),
        (_XML[:-5].encode(), "no XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + _XML.encode(), "a document type or an entity"),
        (b'<!DOCTYPE annotation SYSTEM "file:///etc/passwd">' + _XML.encode(), "a document type"),
        (b'<!DOCTYPE a [<!ENTITY x "x"><!ENTITY y "&x;&x;&x;&x;">]><annotation>&y;</annotation>', "a document type"),
        (b"<!DOCTYPE annotation>" + _XML.encode(), "a document type"),
        (b"<html></html>", "annotation expected, html found"),
        (b"<annotation>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</annotation>", "levels"),
        (b"<annotation>" + b"<a/>" * 60_000 + b"</annotation>", "elements"),
        (b"<annotation>" + b"<object/>" * 501 + b"</annotation>", "500 objects"),
        (b"<annotation>" + b"x" * (4 << 20) + b"</annotation>", "bytes expected"),
        (b'<?xml version="1.0" encoding="no-such"?>' + _XML.encode(), "no XML"),
    ],
    ids=["empty", "binary", "cut", "entity", "external", "laughs", "doctype", "html", "deep", "wide", "objects", "large", "encoding"],
)
def test_what_is_no_voc_file_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(IndexRefused, match=says):
        parse_voc(content, "a")


@pytest.mark.parametrize("value", ["NaN", "inf", "1e999", "", "12px", "١٢٣" * 40])
def test_a_corner_of_voc_that_is_no_number_is_none(value: str) -> None:
    assert None in parse_voc(_XML.replace("<xmin>1<", f"<xmin>{value}<").encode(), "a").boxes[0].bbox_xywh


def test_parts_of_a_voc_object_are_not_objects() -> None:
    part = "<part><name>trigger</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>11</xmax><ymax>11</ymax></bndbox></part>"
    (box,) = parse_voc(_XML.replace("</object>", f"{part}</object>").encode(), "a", 0).boxes
    assert (box.category, box.bbox_xywh) == ("Gun", (1, 2, 29, 38))


@pytest.mark.parametrize(
    "line",
    ["a.jpg Gun 1 2 3", "a.jpg Folding Knife 1 2 3 4", "b.jpg Gun 1 2 3 4", "../a.jpg Gun 1 2 3 4", "a.jpg", "\x00\x01\x02"],
)
def test_a_line_that_is_none_is_named_and_the_image_not_trusted(line: str) -> None:
    read = parse_text(f"a.jpg Gun 1 2 30 40\n{line}\n".encode(), "a")
    assert kinds(read) == ["line_malformed"]
    assert (read.images[0].boxes, read.images[0].is_trusted) == ((), False)


def test_more_lines_than_a_picture_can_hold_are_refused() -> None:
    with pytest.raises(IndexRefused, match="501 found"):
        parse_text(b"a Gun 1 2 3 4\n" * 501, "a")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name,Gun\nP1,2\n", ["line_malformed"]),
        (b"name,Gun\nP1\n", ["line_malformed"]),
        (b"name,Gun\n,1\n", ["name_odd"]),
        (b"name,Gun\nP1,1\n", []),
    ],
)
def test_a_row_that_is_none_is_named(content: bytes, expected: list[str]) -> None:
    assert kinds(parse_list(content)) == expected


def test_a_list_with_two_columns_of_a_name_is_refused() -> None:
    with pytest.raises(IndexRefused, match="different categories"):
        parse_list(b"name,Gun,Gun\nP1,1,1\n")


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for read in (parse_coco, lambda data: Index([parse_voc(data, "a")]), lambda data: parse_text(data, "a"), parse_list):
        try:
            index = read(content)
        except IndexRefused:
            continue
        assert decode_index(encode(index)) == index


def test_ids_of_any_length_are_told_in_few_words() -> None:
    index = sets.coco({"a.png": [], "b.png": []}, sets.PIDRAY[:7])
    index["images"][0]["id"] = 1e133
    read = parse_coco(as_bytes(index))
    assert "id_order" in kinds(read)
    assert kinds(decode_index(encode(read))) == kinds(read)


@given(st.data())
def test_any_change_to_an_index_is_read_or_refused(data: Any) -> None:
    """Structure-aware: a value of a valid index becomes any JSON value."""
    index = sets.coco({"a.png": [(7, (1, 1, 9, 9))], "b.png": []}, sets.PIDRAY[:7])
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300), lambda one: st.lists(one, max_size=4), max_leaves=6
    )
    section = data.draw(st.sampled_from(["images", "annotations", "categories"]))
    entry = index[section][0]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(values)
    try:
        read = parse_coco(as_bytes(index))
    except IndexRefused:
        return
    assert kinds(decode_index(encode(read))) == kinds(read)
    assert all(value is None or math.isfinite(value) for image in read.images for box in image.boxes for value in box.bbox_xywh)
