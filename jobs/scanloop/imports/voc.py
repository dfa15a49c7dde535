"""Pascal VOC XML: one file an image, with its objects.

Source: The PASCAL VOC development kit, section 4 (annotation format). No document type, no entities: a file that has them is refused.
"""

from __future__ import annotations

from xml.parsers import expat

from scanloop.imports.records import MAX_BOXES_AN_IMAGE, MAX_NAME, IndexBox, IndexImage, IndexRefused, number_of, side, words

MAX_XML_BYTES = 4 << 20
"""Of one file; the known ones have some kilobytes."""
MAX_DEPTH = 12
"""Elements inside each other; the format needs 5."""
MAX_ELEMENTS = 50_000
"""Elements of one file."""
_KEPT = {
    ("annotation", "filename"): "filename",
    ("annotation", "size", "width"): "width",
    ("annotation", "size", "height"): "height",
    ("annotation", "object", "name"): "name",
    ("annotation", "object", "bndbox", "xmin"): "xmin",
    ("annotation", "object", "bndbox", "ymin"): "ymin",
    ("annotation", "object", "bndbox", "xmax"): "xmax",
    ("annotation", "object", "bndbox", "ymax"): "ymax",
}
"""Elements that are read; parts of objects, which have boxes too, are not."""
_OBJECT = ("annotation", "object")


class _Reading:
    """State while one file is read."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.texts: list[str] = []
        self.facts: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self.elements = 0

    def start(self, name: str, _: dict[str, str]) -> None:
        self.elements += 1
        if len(self.path) >= MAX_DEPTH or self.elements > MAX_ELEMENTS:
            raise IndexRefused(f"at most {MAX_DEPTH} levels and {MAX_ELEMENTS} elements expected, more found")
        self.path.append(name)
        self.texts.clear()
        if len(self.path) == 1 and name != "annotation":
            raise IndexRefused(words(f"no VOC file: the root element annotation expected, {name} found"))
        if tuple(self.path) == _OBJECT:
            self.objects.append({})

    def text(self, text: str) -> None:
        if sum(map(len, self.texts)) <= MAX_NAME:
            self.texts.append(text)

    def end(self, _: str) -> None:
        field = _KEPT.get(tuple(self.path))
        if field is not None:
            (self.objects[-1] if self.path[1:2] == ["object"] else self.facts).setdefault(field, "".join(self.texts).strip())
        self.path.pop()
        self.texts.clear()


def _refuse(*_: object) -> None:
    raise IndexRefused("no VOC file: a document type or an entity is declared in it")


def parse_voc(content: bytes, stem: str, first_pixel: int = 1) -> IndexImage:
    """Read one file; `stem` is its name without suffix, which is also its image's.

    Corners of VOC are the first and last pixel inside, counted from `first_pixel`; where it is 0 they are taken as they stand.

    Raises:
        IndexRefused: it is no VOC file, or larger or deeper than one needs to be.
    """
    if len(content) > MAX_XML_BYTES:
        raise IndexRefused(f"at most {MAX_XML_BYTES} bytes expected, {len(content)} found")
    reading, parser = _Reading(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = reading.start, reading.end, reading.text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = _refuse  # type: ignore[assignment]
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise IndexRefused(words(f"no XML: {error}")) from None
    except (LookupError, ValueError) as error:
        raise IndexRefused(words(f"no XML: an encoding that is not read ({error})")) from None
    if len(reading.objects) > MAX_BOXES_AN_IMAGE:
        raise IndexRefused(f"at most {MAX_BOXES_AN_IMAGE} objects in an image expected, {len(reading.objects)} found")
    width_px, height_px = (side(number_of(reading.facts.get(name, ""))) for name in ("width", "height"))
    boxes = tuple(_box(place, found, first_pixel) for place, found in enumerate(reading.objects, start=1))
    return IndexImage(words(reading.facts.get("filename") or stem), stem[:MAX_NAME], width_px, height_px, boxes)


def _box(place: int, found: dict[str, str], first_pixel: int) -> IndexBox:
    left, top, right, bottom = (number_of(found.get(name, "")) for name in ("xmin", "ymin", "xmax", "ymax"))
    first = (left - first_pixel if left is not None else None, top - first_pixel if top is not None else None)
    width = None if left is None or right is None else right - left + first_pixel
    height = None if top is None or bottom is None else bottom - top + first_pixel
    return IndexBox(f"object {place}", words(found.get("name", "")), (*first, width, height))
