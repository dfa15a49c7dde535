"""docs/training.md says what recipes and options are."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanloop.training.options import TrainingOptions
from scanloop.training.recipes import RECIPES
from scanloop.training.reference import filled, options_table

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def test_the_committed_tables_are_what_the_code_says():
    assert PAGE.read_text() == filled(PAGE.read_text()), "run: make docs"


def test_every_option_and_recipe_is_explained():
    assert all(field.description for field in TrainingOptions.model_fields.values())
    assert all(known.purpose for known in RECIPES.values())
    assert len(options_table().splitlines()) == len(TrainingOptions.model_fields) + 2


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="no place for the table of recipes"):
        filled("# Training\n")
