"""Annotations that count without a review, because a person's own, audited act brought them, or because a product line trusts the reports that they
are from: what says so is here and nowhere else.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import reviews
from scanloop.product_lines import ProductLine

REPORT = "report"
"""author_kind of an annotation that came with its scan."""
IMPORT = "import:"
"""How the tool of an imported annotation begins; the format follows."""

THREAT_REPORT = "dicos-tdr:"
"""How the tool of an annotation from a Threat Detection Report begins; the report's type follows."""


def is_import(notes: Any) -> sa.ColumnElement[bool]:
    """Whether an annotation came with a research set. `notes` is the table of annotations, or an alias of it."""
    return sa.and_(notes.c.author_kind == REPORT, notes.c.tool.startswith(IMPORT))


def is_trusted(notes: Any) -> sa.ColumnElement[bool]:
    """Whether an annotation counts as accepted as it is. One that another of its kind replaces still does; see `not_replaced`."""
    return is_import(notes)


def not_replaced(notes: Any) -> sa.ColumnElement[bool]:
    """Whether no later annotation of the same author kind stands in the place of this one."""
    later = sa.alias(notes)
    return ~sa.exists().where(later.c.supersedes == notes.c.annotation_id, later.c.author_kind == notes.c.author_kind)


def is_trusted_report(notes: Any, definition: ProductLine) -> sa.ColumnElement[bool]:
    """Whether an annotation is from a Threat Detection Report of a type that the product line trusts. Such annotations are of no product line."""
    return sa.and_(
        notes.c.author_kind == REPORT, notes.c.tool.in_([f"{THREAT_REPORT}{kind}" for kind in definition.labelling.trusted_reports])
    )


def is_believed(notes: Any, definition: ProductLine) -> sa.ColumnElement[bool]:
    """Whether an annotation counts for a product line, accepted by a review or as it came, under whatever version of the taxonomy."""
    accepted = sa.exists().where(
        reviews.c.annotation_id == notes.c.annotation_id,
        reviews.c.product_line == definition.product_line,
        reviews.c.verdict == "accepted",
    )
    as_it_came = sa.and_(notes.c.product_line == definition.product_line, is_trusted(notes), not_replaced(notes))
    return sa.or_(accepted, as_it_came, is_trusted_report(notes, definition))
