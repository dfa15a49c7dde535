"""What is odd about a research set, said one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from scanloop.imports.records import words

KINDS = {
    "index_refused": ("an index, list or label file that cannot be read", "its images are left out"),
    "index_missing": ("a split of the set without its index or pictures", "the split is left out"),
    "id_odd": ("an id that is negative, a text, or none", "used where it is clear"),
    "id_twice": ("an id that two things have", "images: kept without annotation; annotations: both kept"),
    "id_order": ("ids that do not grow", "noted"),
    "annotation_without_image": ("an annotation of an image that the index does not have", "the box is left out"),
    "category_unknown": ("a box of a category that the index does not declare", "the image is kept without annotation"),
    "line_malformed": ("a line that is not as the format wants it", "left out; of labels: the image is kept without annotation"),
    "too_many_boxes": ("more boxes than a picture can hold", "the image is kept without annotation"),
    "box_unreadable": ("a box with a corner that is no finite number", "the box is left out, its category not counted as looked for"),
    "box_without_area": ("a box of no or negative width or height", "the box is left out, its category not counted as looked for"),
    "box_outside": ("a box outside the picture", "the box is left out, its category not counted as looked for"),
    "box_clipped": ("a box that reaches beyond the picture", "the box is cut at the edge"),
    "box_crowd": ("a box around several objects, or one to be ignored", "the box is left out, its category not counted as looked for"),
    "box_twice": ("the same box twice", "kept once"),
    "name_odd": ("a name that is empty, too long or not printable", "cleaned; an image without a usable name is left out"),
    "name_outside": ("a name that leads out of the folder", "the image is left out"),
    "picture_missing": ("an image of the index without its picture", "the image is left out"),
    "picture_unlisted": ("a picture that no index names", "the picture is left out"),
    "picture_twice": ("two pictures with the same bytes", "the first is kept"),
    "entry_twice": ("two entries for one picture", "the first is kept"),
    "labels_missing": ("a listed image without labels that is not said to be clean", "the image is left out"),
    "listed_without_box": ("an image said to hold a category, without a box of it", "kept; the category is not counted as looked for"),
    "list_contradicted": ("a box of a category that the list says is not there", "the box is kept"),
    "size_differs": ("a picture of another size than its index says", "the image is kept without annotation"),
    "picture_unreadable": ("a picture that cannot be read", "kept in quarantine with the reason, without annotation"),
    "picture_changed": ("a picture that changed while it was imported", "the image is left out"),
    "picture_erased": ("a picture whose scan was erased before", "the image is left out"),
}
"""Kind to what it means and what is done about it."""
MAX_KEPT = 200_000
"""Problems kept one by one; more are only counted. A set that has so many is not the set it says it is."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    kind: str
    """One of KINDS."""
    file: str
    """The index or picture, relative to the set's folder."""
    entry: str
    """Where in the index; empty: the file itself."""
    expected: str
    """What was expected."""
    found: str
    """What was found."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise KeyError(self.kind)
        for name in ("file", "entry", "expected", "found"):
            object.__setattr__(self, name, words(getattr(self, name)))

    @property
    def line(self) -> str:
        """The same for people."""
        where = f"{self.file}, {self.entry}" if self.entry else self.file
        return f"{where}: expected {self.expected}, found {self.found} ({self.kind}: {KINDS[self.kind][1]})"


class Problems:
    """Collects problems: all are counted, the first MAX_KEPT kept."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[Problem] = []
        for problem in found:
            self.add(problem)

    def add(self, problem: Problem) -> None:
        """Count one, and keep it."""
        self.counts[problem.kind] += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(problem)

    def report(self, kind: str, file: str, entry: str, expected: str, found: str) -> None:
        """Add one from its parts."""
        self.add(Problem(kind, file, entry, expected, found))


def encode_problems(problems: Iterable[Problem]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(asdict(problem), sort_keys=True) + "\n" for problem in problems).encode()


def decode_problems(content: bytes) -> Iterator[Problem]:
    """The inverse."""
    return (Problem(**json.loads(line)) for line in content.splitlines())
