"""Text of lines `image class x1 y1 x2 y2`, one file an image; and lists of images, plain or with a column for each category."""

from __future__ import annotations

import csv

from scanloop.imports.records import (
    MAX_BOXES_AN_IMAGE,
    MAX_IMAGES,
    MAX_NAME,
    Index,
    IndexBox,
    IndexImage,
    IndexProblem,
    IndexRefused,
    Listed,
    number_of,
    words,
)

MAX_TEXT_BYTES = 1 << 20
"""Of the lines of one image."""
MAX_COLUMNS = 64
"""Categories of a list."""
_SAYS = {"1": True, "-1": False, "0": False, "1.0": True, "-1.0": False, "0.0": False}
"""What a list writes for a category that is there, or is not."""


def parse_text(content: bytes, stem: str) -> Index:
    """Read the lines of one image; `stem` is the file's name without suffix. A file without a line is a clean image.

    Raises:
        IndexRefused: it is larger than such a file needs to be.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise IndexRefused(f"at most {MAX_TEXT_BYTES} bytes expected, {len(content)} found")
    boxes: list[IndexBox] = []
    problems: list[IndexProblem] = []
    is_trusted = True
    for place, line in enumerate(_lines(content), start=1):
        fields = line.split()
        if not fields:
            continue
        entry = f"line {place}"
        if len(fields) != 6:
            problems.append(IndexProblem("line_malformed", entry, "image, class and four corners", words(f"{len(fields)} words: {line}")))
            is_trusted = False
            continue
        name, category = fields[0], fields[1]
        if name != stem and name.rpartition(".")[0] != stem:
            problems.append(IndexProblem("line_malformed", entry, words(f"the image {stem}"), words(name)))
            is_trusted = False
            continue
        left, top, right, bottom = map(number_of, fields[2:])
        width = None if left is None or right is None else right - left
        height = None if top is None or bottom is None else bottom - top
        boxes.append(IndexBox(entry, words(category), (left, top, width, height)))
    if len(boxes) > MAX_BOXES_AN_IMAGE:
        raise IndexRefused(f"at most {MAX_BOXES_AN_IMAGE} boxes in an image expected, {len(boxes)} found")
    image = IndexImage(words(stem), stem[:MAX_NAME], boxes=tuple(boxes) if is_trusted else (), is_trusted=is_trusted)
    return Index([image], problems=problems)


def parse_list(content: bytes) -> Index:
    """Read a list of images: one name a line, or CSV with a header whose first column is `name` and whose others are categories.

    A column says 1 for a category that is in the image and -1 (or 0) for one that is not.

    Raises:
        IndexRefused: it has more lines or columns than a list needs.
    """
    lines = _lines(content)
    if len(lines) > MAX_IMAGES:
        raise IndexRefused(f"at most {MAX_IMAGES} lines expected, {len(lines)} found")
    header = [words(field.strip()) for field in lines[0].split(",")] if lines else []
    if len(header) > 1 and header[0].lower() in ("name", "image", "filename"):
        return _parse_columns(lines, header[1:])
    index = Index()
    for place, line in enumerate(lines, start=1):
        if name := line.strip():
            _add(index, Listed(f"line {place}", _without_suffix(name)[:MAX_NAME]))
    return index


def _parse_columns(lines: list[str], categories: list[str]) -> Index:
    if len(categories) > MAX_COLUMNS or len(set(categories)) != len(categories) or not all(categories):
        raise IndexRefused(f"a header of name and at most {MAX_COLUMNS} different categories expected")
    index = Index(categories=categories)
    csv.field_size_limit(MAX_NAME * 4)
    try:
        for place, fields in enumerate(csv.reader(lines[1:]), start=2):
            if not fields:
                continue
            entry, said = f"line {place}", [_SAYS.get(field.strip()) for field in fields[1:]]
            if len(said) != len(categories) or None in said:
                expected = f"a name and {len(categories)} times 1 or -1"
                index.problems.append(IndexProblem("line_malformed", entry, expected, words(",".join(fields))))
                continue
            present = tuple(name for name, is_there in zip(categories, said, strict=True) if is_there)
            absent = tuple(name for name, is_there in zip(categories, said, strict=True) if not is_there)
            _add(index, Listed(entry, _without_suffix(fields[0].strip())[:MAX_NAME], present, absent))
    except csv.Error as error:
        raise IndexRefused(words(f"no CSV: {error}")) from None
    return index


def _add(index: Index, listed: Listed) -> None:
    if not listed.name:
        index.problems.append(IndexProblem("name_odd", listed.entry, "the name of an image", "nothing"))
    else:
        index.listed.append(listed)


def _without_suffix(name: str) -> str:
    """A name without the suffix of a picture, and without the path before it."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] if name.lower().endswith((".jpg", ".jpeg", ".png", ".tif", ".tiff")) else name


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8-sig", "replace").replace("\0", "").splitlines()
