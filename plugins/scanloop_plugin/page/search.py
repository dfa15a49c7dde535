"""What the search page shows: the newest of what a query finds, or where the query is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanloop.catalog import Catalog

SHOWN = 50
"""Rows on the page."""
EXAMPLES = {
    "scan": (
        "state = validated and tag = checked",
        "category = knife and acquired >= 2026-03-01",
        'scanner ~ "okari-*" and statistics.high.air_mean < 0.9',
    ),
    "annotation": ("category = grenade and scan.view = top", "author_kind = person and not tag = hard"),
}


@dataclass(frozen=True)
class SearchView:
    """One search."""

    subject: str
    """scan or annotation."""
    query: str
    """As it was typed."""
    wrong: str = ""
    """What is wrong with it, or empty."""
    before: str = ""
    """The query up to the character that is wrong."""
    at: str = ""
    """From there on."""
    total: int | None = None
    """How many there are; None where nothing was asked."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    fields: tuple[tuple[str, str, str], ...] = ()
    """Name, type and meaning of what can be asked about."""

    @property
    def examples(self) -> tuple[str, ...]:
        """Queries to start from."""
        return EXAMPLES[self.subject]


def search_view(catalog: Catalog, subject: str, query: str) -> SearchView:
    """Ask the catalog. Raises CatalogUnavailable; what is wrong with the query is part of the view."""
    from scanloop.errors import WrongArguments
    from scanloop.query.fields import SUBJECTS
    from scanloop.query.language import QueryWrong
    from scanloop.query.search import search

    about = SUBJECTS[subject]
    fields = tuple((field.written(name), field.kind.value, field.says) for name, field in about.all_fields().items())
    if not query.strip():
        return SearchView(subject, "", fields=fields)
    try:
        found = search(catalog, query, about, limit=SHOWN)
    except QueryWrong as error:
        said = error.said[0].upper() + error.said[1:]
        return SearchView(subject, query, f"Character {error.at + 1}: {said}.", query[: error.at], query[error.at :], fields=fields)
    except WrongArguments as error:
        return SearchView(subject, query, error.message, fields=fields)
    columns = tuple(found.rows[0]) if found.rows else ()
    rows = tuple(tuple(_shown(row[name]) for name in columns) for row in found.rows)
    return SearchView(subject, query, total=found.total, columns=columns, rows=rows, fields=fields)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={part}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
