"""What an index of a research set says, once it has been read: the same few records for every format.

The confined reader writes them as JSON, and the importer checks them again as it reads them: every text is bounded, and a number that is none is
None.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from scanloop.scans.content import clean_text

MAX_INDEX_BYTES = 256 << 20
"""Of one index file. The largest of the known sets has 100 MB."""
MAX_BOXES = 1_000_000
"""Boxes of one index file; a file with more is refused. The largest of the known sets has 103,000."""
MAX_BOXES_AN_IMAGE = 500
"""More than this in one picture of a bag are no annotation. The known sets have some 20 at most."""
MAX_IMAGES = 2_000_000
"""Images, or lines of a list, of one index file."""
MAX_NAME = 512
"""Characters of a file name in an index."""
MAX_WORDS = 160
"""Characters of a text that is shown to people."""

Words = Annotated[str, Meta(max_length=MAX_WORDS)]
Name = Annotated[str, Meta(max_length=MAX_NAME)]
Side = Annotated[int, Meta(ge=1, le=1 << 20)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]


class IndexBox(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One box as an index has it."""

    entry: Words
    """Where in the index it stands."""
    category: Words
    """The set's own name of its category; empty: it names none that the index declares."""
    bbox_xywh: tuple[Number | None, Number | None, Number | None, Number | None]
    """Left, top, width, height in px, not checked for anything but being numbers; None: it is no finite number."""
    is_crowd: bool = False
    """Whether it surrounds several objects, or one to be ignored, rather than one."""


class IndexImage(Struct, frozen=True, forbid_unknown_fields=True):
    """One image as an index has it."""

    entry: Words
    """Where in the index it stands."""
    name: Name
    """Its file name, or the name without suffix, as the set's layout wants it."""
    width_px: Side | None = None
    """Its width as the index says."""
    height_px: Side | None = None
    """Its height as the index says."""
    boxes: tuple[IndexBox, ...] = ()
    """Its boxes; none: it is clean."""
    is_trusted: bool = True
    """False where the index contradicts itself about this image, so that nothing it says about boxes counts."""


class Listed(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a list of images."""

    entry: Words
    """Where in the list it stands."""
    name: Name
    """The image's name without suffix."""
    present: tuple[Words, ...] = ()
    """Categories that are said to be in it."""
    absent: tuple[Words, ...] = ()
    """Categories that are said not to be in it."""


class IndexProblem(Struct, frozen=True, forbid_unknown_fields=True):
    """Something in an index that is not as it should be."""

    kind: Annotated[str, Meta(pattern="^[a-z_]{1,32}$")]
    """A kind of `problems.KINDS`."""
    entry: Words
    """Where in the index."""
    expected: Words
    """What was expected there."""
    found: Words
    """What was found."""


class Index(Struct, forbid_unknown_fields=True):
    """What was read from one file, or a part of it."""

    images: list[IndexImage] = []
    listed: list[Listed] = []
    problems: list[IndexProblem] = []
    categories: list[Words] = []
    """Categories that the file declares, whether it uses them or not."""
    refused: Words | None = None
    """Why the whole file was refused; nothing else in it counts then."""
    is_last: bool = False
    """Whether the file ends here."""


class IndexRefused(Exception):
    """The whole file cannot be read as an index; the message says why."""


def words(value: object) -> str:
    """A value from outside as it may be shown: one printable line, cut where it is too long."""
    text = clean_text(value, MAX_WORDS + 1)
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"


def number(value: Any) -> float | None:
    """A coordinate, or None if it is no finite number of a sensible size."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and abs(found) <= 1e9 else None


def number_of(text: str) -> float | None:
    """The same from a text."""
    try:
        return number(float(text)) if len(text) <= 64 else None
    except ValueError:
        return None


def side(value: Any) -> int | None:
    """A width or height, or None if it is none."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and 1 <= found <= 1 << 20 else None


encode = msgspec.json.Encoder().encode
decode_index = msgspec.json.Decoder(Index).decode
