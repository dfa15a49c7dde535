"""The query of a product line."""

from __future__ import annotations

import pytest
from small_world import definition

from scanloop.errors import WrongArguments
from scanloop.product_lines import ProductLine, check


def test_a_wrong_query_is_named_by_file_field_and_character() -> None:
    with pytest.raises(WrongArguments, match=r"cabin\.yaml.*query.*character 15: a scan has no field 'vew'; did you mean view"):
        check(ProductLine, definition(query="tag = new and vew = top"), "cabin.yaml")


def test_a_definition_without_a_query_keeps_its_version_and_another_query_is_another_version() -> None:
    plain = ProductLine.model_validate(definition())
    assert plain.query == ""
    assert plain.version == ProductLine.model_validate(definition(query="")).version
    versions = {ProductLine.model_validate(definition(query=query)).version for query in ("", "tag = a", "tag = b")}
    assert len(versions) == 3
