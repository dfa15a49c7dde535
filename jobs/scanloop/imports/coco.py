"""COCO JSON: images, annotations and categories that name each other by id.

Source: COCO data format, cocodataset.org, object detection. Fields that are not used (polygons above all) are passed over without being kept.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Any

import msgspec
from msgspec import Struct

from scanloop.imports.records import (
    MAX_BOXES,
    MAX_BOXES_AN_IMAGE,
    MAX_IMAGES,
    MAX_NAME,
    Index,
    IndexBox,
    IndexImage,
    IndexProblem,
    IndexRefused,
    number,
    side,
    words,
)


class _Image(Struct, gc=False):
    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class _Annotation(Struct, gc=False):
    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    iscrowd: Any = 0
    ignore: Any = 0


class _Category(Struct):
    id: Any = None
    name: Any = None


class _Coco(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_DECODE = msgspec.json.Decoder(_Coco).decode
_STRINGS_AND_NOT_NUMBERS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')
"""What JSON has no word for but Python and JavaScript write; inside strings it is text."""


def parse_coco(content: bytes) -> Index:
    """Read one index. What is odd about it is a problem in the result.

    Raises:
        IndexRefused: it is no JSON object with images, annotations and categories, or has more of them than any set.
    """
    coco = _decoded(content)
    if len(coco.images) > MAX_IMAGES or len(coco.annotations) > MAX_BOXES:
        raise IndexRefused(
            f"at most {MAX_IMAGES} images and {MAX_BOXES} boxes expected, {len(coco.images)} and {len(coco.annotations)} found"
        )
    problems: list[IndexProblem] = []
    names = _category_names(coco.categories, problems)
    ids, twice = _image_ids(coco.images, problems)
    boxes: dict[Hashable, list[IndexBox]] = defaultdict(list)
    seen: Counter[Hashable] = Counter()
    known = set(ids)
    for position, annotation in enumerate(coco.annotations):
        own = _usable(annotation.id)
        entry = words(f"annotation {annotation.id}") if own is not None else f"annotation at place {position}"
        if _is_odd(annotation.id):
            problems.append(IndexProblem("id_odd", entry, "a whole number from 0", words(repr(annotation.id))))
        seen[own] += own is not None
        if own is not None and seen[own] == 2:
            problems.append(IndexProblem("id_twice", entry, "an id of its own", "another annotation with it"))
        image = _usable(annotation.image_id)
        if image is None or image not in known:
            found = words(f"image_id {annotation.image_id}")
            problems.append(IndexProblem("annotation_without_image", entry, "the id of an image of this index", found))
            continue
        category = _usable(annotation.category_id)
        name = names.get(category, "") if category is not None else ""
        if not name:
            found = words(f"category_id {annotation.category_id}")
            problems.append(IndexProblem("category_unknown", entry, "the id of a category of this index", found))
        boxes[image].append(IndexBox(entry, name, _xywh(annotation.bbox), bool(annotation.iscrowd) or bool(annotation.ignore)))
    images = []
    for position, (image, own) in enumerate(zip(coco.images, ids, strict=True)):
        entry = words(f"image {image.id}") if own is not None else f"image at place {position}"
        if not isinstance(image.file_name, str) or not image.file_name or len(image.file_name) > MAX_NAME:
            problems.append(IndexProblem("name_odd", entry, f"a file name of 1 to {MAX_NAME} characters", words(image.file_name)))
            continue
        own_boxes = tuple(boxes.get(own, ())) if own is not None else ()
        is_trusted = own is not None and own not in twice
        if len(own_boxes) > MAX_BOXES_AN_IMAGE:
            expected = f"at most {MAX_BOXES_AN_IMAGE} boxes in an image"
            problems.append(IndexProblem("too_many_boxes", entry, expected, f"{len(own_boxes)}"))
            own_boxes, is_trusted = (), False
        kept = own_boxes if is_trusted else ()
        images.append(IndexImage(entry, image.file_name, side(image.width), side(image.height), kept, is_trusted))
    return Index(images, problems=problems, categories=sorted({name for name in names.values() if name}))


def _decoded(content: bytes) -> _Coco:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            return _DECODE(content)
        except msgspec.DecodeError as error:
            if isinstance(error, msgspec.ValidationError) or not (b"NaN" in content or b"Infinity" in content):
                raise
        return _DECODE(_STRINGS_AND_NOT_NUMBERS.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", content))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexRefused(words(f"no COCO index: {error}")) from None
    except RecursionError:
        raise IndexRefused("no COCO index: it is nested too deeply") from None


def _usable(value: Any) -> Hashable | None:
    """An id as it is compared; None if it is none. A number in quotes, or with a point, is the number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text[:MAX_NAME] or None
    return value


def _is_odd(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int) or value < 0


def _category_names(categories: list[_Category], problems: list[IndexProblem]) -> dict[Hashable, str]:
    """Id to name; an id that stands for two names stands for none."""
    names: dict[Hashable, str] = {}
    for position, category in enumerate(categories):
        own, name = _usable(category.id), words(category.name) if isinstance(category.name, str) else ""
        entry = f"category at place {position}"
        if own is None or not name:
            problems.append(IndexProblem("id_odd", entry, "an id and a name", words(f"id {category.id}, name {category.name}")))
        elif own in names and names[own] != name:
            problems.append(IndexProblem("id_twice", entry, "an id of its own", words(f"id {category.id} stands for two names")))
            names[own] = ""
        else:
            names[own] = name
            if _is_odd(category.id):
                problems.append(IndexProblem("id_odd", entry, "a whole number from 0", words(repr(category.id))))
    return names


def _image_ids(images: list[_Image], problems: list[IndexProblem]) -> tuple[list[Hashable | None], set[Hashable]]:
    """The id of each image as it is compared, and those that more than one image has."""
    ids = [_usable(image.id) for image in images]
    counts = Counter(own for own in ids if own is not None)
    twice = {own for own, count in counts.items() if count > 1}
    before: int | None = None
    is_ordered = True
    for position, (image, own) in enumerate(zip(images, ids, strict=True)):
        entry = words(f"image {image.id}") if own is not None else f"image at place {position}"
        if _is_odd(image.id):
            problems.append(IndexProblem("id_odd", entry, "a whole number from 0", words(repr(image.id))))
        if own in twice:
            problems.append(IndexProblem("id_twice", entry, "an id of its own", f"{counts[own]} images with it"))
        if isinstance(own, int):
            if is_ordered and before is not None and own < before:
                is_ordered = False
                expected, found = words(f"ids that grow, so one from {before}"), words(f"{own}; others may follow")
                problems.append(IndexProblem("id_order", entry, expected, found))
            before = own
    return ids, twice


def _xywh(value: Any) -> tuple[float | None, float | None, float | None, float | None]:
    if not isinstance(value, list) or len(value) != 4:
        return (None, None, None, None)
    left, top, width, height = map(number, value)
    return (left, top, width, height)
