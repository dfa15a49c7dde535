"""docs/queries.md says what can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scanloop.query.fields import SUBJECTS
from scanloop.query.language import parse
from scanloop.query.reference import filled

PAGE = Path(__file__).parents[3] / "docs" / "queries.md"


def test_the_page_is_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run: make docs"
    with pytest.raises(ValueError, match="no place for grammar"):
        filled("nothing")


def test_every_command_of_the_page_is_one() -> None:
    found = re.findall(r"scanloop (scan|annotation) (?:search|mark) '([^']+)'", PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 5
    for subject, query in found:
        parse(query, SUBJECTS[subject])
