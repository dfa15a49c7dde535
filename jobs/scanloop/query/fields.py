"""What can be asked about a scan or an annotation: names and types, without any SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The type of a field, which decides its operators and what its values look like."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    TRUTH = "true or false"
    OPEN = "text, number, true or false"
    """Whatever was stored; the value asked for decides."""


@dataclass(frozen=True)
class Field:
    """One field of a subject."""

    kind: Kind
    """Its type."""
    says: str
    """What it is, for the docs."""
    is_optional: bool = False
    """Whether a subject may lack it."""
    is_set: bool = False
    """Whether a subject may have several; a comparison holds if it holds for one of them."""
    choices: tuple[str, ...] = ()
    """The only values there are; empty: any."""
    parts: tuple[str, ...] = ()
    """Names that follow after dots, such as the plane and the figure of `statistics.high.air_mean`."""

    def written(self, name: str) -> str:
        """How a field of this name is written, its free parts in capitals."""
        return ".".join((name, *(part.upper() for part in self.parts)))


_FIGURES = (
    "mean", "std", "minimum", "maximum", "air_mean", "air_share", "air_peak", "air_noise", "saturated_share", "dark_share", "dead_rows",
    "dead_columns",
)  # fmt: skip
"""Figures of a plane that are numbers; see scanloop.scans.statistics."""

SCAN: Mapping[str, Field] = {
    "id": Field(Kind.TEXT, "SHA-256 of the received bytes"),
    "bag": Field(Kind.TEXT, "the bag"),
    "site": Field(Kind.TEXT, "the site"),
    "scanner": Field(Kind.TEXT, "the scanner"),
    "manufacturer": Field(Kind.TEXT, "who made the scanner"),
    "model": Field(Kind.TEXT, "the scanner's model"),
    "serial": Field(Kind.TEXT, "the scanner's serial number"),
    "view": Field(Kind.TEXT, "the view, such as top or side"),
    "modality": Field(Kind.TEXT, "DX for projections, CT for volumes"),
    "format": Field(Kind.TEXT, "the format that was received"),
    "type": Field(Kind.TEXT, "operational, or what else the scan was made for"),
    "state": Field(Kind.TEXT, "where the scan stands", choices=("received", "validated", "quarantined", "erased")),
    "acquired": Field(Kind.TIME, "when it was scanned", is_optional=True),
    "received": Field(Kind.TIME, "when it reached the catalog"),
    "projected": Field(Kind.TRUTH, "whether a threat was laid into it"),
    "plane": Field(Kind.TEXT, "a plane that it has", is_set=True),
    "header": Field(Kind.OPEN, "what the file or its sidecar said, by name", is_optional=True, parts=("name",)),
    "statistics": Field(
        Kind.NUMBER, "a figure of a plane: " + ", ".join(_FIGURES), is_optional=True, parts=("plane", "figure"), choices=_FIGURES
    ),
    "tag": Field(Kind.TEXT, "a tag that was given to it", is_set=True),
    "attribute": Field(Kind.OPEN, "an attribute that was given to it, by name", is_optional=True, parts=("name",)),
    "category": Field(Kind.TEXT, "a category with a box in one of its annotations", is_set=True),
    "looked_for": Field(Kind.TEXT, "a category that one of its annotations speaks about, boxes or none", is_set=True),
    "author_kind": Field(
        Kind.TEXT, "who made one of its annotations", is_set=True, choices=("person", "model", "consensus", "projection", "report")
    ),
    "annotated_for": Field(Kind.TEXT, "a product line that it has an annotation for", is_set=True),
}
"""Fields of a scan. An annotation that a later one of its kind replaces does not count."""

ANNOTATION: Mapping[str, Field] = {
    "id": Field(Kind.TEXT, "its id"),
    "product_line": Field(Kind.TEXT, "the product line it was made for; empty for none"),
    "author": Field(Kind.TEXT, "who made it"),
    "author_kind": Field(Kind.TEXT, "what made it", choices=("person", "model", "consensus", "projection", "report")),
    "tool": Field(Kind.TEXT, "what it was made with"),
    "taxonomy": Field(Kind.TEXT, "the version of the taxonomy it was made under"),
    "created": Field(Kind.TIME, "when it reached the catalog"),
    "boxes": Field(Kind.NUMBER, "how many boxes it has"),
    "category": Field(Kind.TEXT, "a category with a box in it", is_set=True),
    "looked_for": Field(Kind.TEXT, "a category it speaks about, boxes or none", is_set=True),
    "replaced": Field(Kind.TRUTH, "whether a later one of its kind stands in its place"),
    "tag": Field(Kind.TEXT, "a tag that was given to it", is_set=True),
    "attribute": Field(Kind.OPEN, "an attribute that was given to it, by name", is_optional=True, parts=("name",)),
}
"""Fields of an annotation; those of its scan follow after `scan.`."""


@dataclass(frozen=True)
class Subject:
    """What is searched for."""

    name: str
    """scan or annotation."""
    fields: Mapping[str, Field]
    """Its own fields."""
    inner: tuple[str, Subject] | None = None
    """A prefix and the subject whose fields follow after it."""

    def all_fields(self) -> dict[str, Field]:
        """Every field by its full name, without the parts that are free."""
        found = dict(self.fields)
        if self.inner is not None:
            prefix, subject = self.inner
            found |= {f"{prefix}.{name}": field for name, field in subject.all_fields().items()}
        return found


SCANS = Subject("scan", SCAN)
ANNOTATIONS = Subject("annotation", ANNOTATION, ("scan", SCANS))
SUBJECTS: Mapping[str, Subject] = {subject.name: subject for subject in (SCANS, ANNOTATIONS)}
