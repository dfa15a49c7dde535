"""docs/DAGS.md says what the DAGs are."""

from __future__ import annotations

import airflow_here

from scanloop_dags.document import ORDER, document, load_dags


def test_page_is_up_to_date() -> None:
    assert (airflow_here.ROOT / "docs" / "DAGS.md").read_text() == document(load_dags()), "run: make docs"


def test_every_dag_has_its_place_in_the_order(dags) -> None:
    assert set(ORDER) == set(dags)
