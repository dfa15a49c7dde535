"""How attempts ended is counted once an end, apart for every job of every run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scanloop.catalog import Catalog
from scanloop.errors import CatalogUnavailable
from scanloop.execution.ends import MAX_MESSAGE_LENGTH, JobEnd, known_ends, record_end

END = JobEnd("run-1", "model.train", "", "uid-1", 1, "preempted", None, "the node was wanted by others")


def test_ends_are_counted_by_cause(catalog: Catalog) -> None:
    record_end(catalog, END)
    record_end(catalog, replace(END, end_id="uid-2"))
    counted = record_end(catalog, replace(END, end_id="uid-3", cause="out_of_memory", exit_code=137))
    assert counted == {"preempted": 2, "out_of_memory": 1}


def test_a_person_who_clears_the_task_begins_a_new_count(catalog: Catalog) -> None:
    record_end(catalog, END)
    assert record_end(catalog, replace(END, end_id="uid-2", attempt=4), since_attempt=4) == {"preempted": 1}
    assert known_ends(catalog, "run-1", "model.train", "") == {"uid-1": "preempted", "uid-2": "preempted"}


def test_an_end_told_twice_counts_once(catalog: Catalog) -> None:
    record_end(catalog, END)
    assert record_end(catalog, replace(END, message="again")) == {"preempted": 1}


@pytest.mark.parametrize("other", [{"run_id": "run-2"}, {"job": "evaluation.run"}, {"part": "01/02"}], ids=lambda other: next(iter(other)))
def test_other_work_counts_apart(catalog: Catalog, other: dict[str, str]) -> None:
    record_end(catalog, END)
    assert record_end(catalog, replace(END, **other)) == {"preempted": 1}


def test_a_long_message_is_cut(catalog: Catalog) -> None:
    assert record_end(catalog, replace(END, message="x" * (MAX_MESSAGE_LENGTH + 1))) == {"preempted": 1}


def test_a_catalog_that_is_away_is_said(catalog: Catalog) -> None:
    away = Catalog("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(CatalogUnavailable):
        record_end(away, END)
    away.close()
