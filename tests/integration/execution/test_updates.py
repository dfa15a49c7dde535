"""A change of one row costs one look into an index, however large its table is; many changes are one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from scanloop.catalog import Catalog
from scanloop.catalog.tables import audit_log, deliveries, marks, quarantine
from scanloop.cli.options import World
from scanloop.errors import Superseded
from scanloop.execution import publication
from scanloop.execution.publication import Publication, Update, apply
from scanloop.execution.replay import row_violations


def test_an_update_finds_its_row_by_the_primary_key(world: World, run_body: Callable[..., dict[str, Any]]) -> None:
    row = {
        "quarantine_id": "a" * 64,
        "raw_key": "x",
        "reason_code": "y",
        "reason": "z",
        "landing_key": "l",
        "stage": "intake",
        "state": "held",
    }

    def add(run: Any) -> dict[str, Any]:
        run.publication.insert("quarantine", [row], action="content.quarantined", subject="quarantine_id")
        return {}

    def change(run: Any) -> dict[str, Any]:
        key, expect = {"quarantine_id": "a" * 64}, {"state": "held"}
        run.publication.update("quarantine", key=key, expect=expect, set={"state": "released"}, action="content.released")
        return {}

    run_body("test.add", add, run_id="add")
    queries: list[tuple[str, Any]] = []
    sa.event.listen(world.catalog.engine, "before_cursor_execute", lambda c, cursor, text, given, *_: queries.append((text, given)))
    run_body("test.change", change, run_id="change")
    ((text, given),) = [(text, given) for text, given in queries if text.startswith("UPDATE quarantine")]
    with world.catalog.begin() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {text}", given).scalars())
        assert connection.scalars(sa.select(quarantine.c.state)).one() == "released"
    assert "Index Cond: (quarantine_id = " in plan, plan


SCANS = [f"{number:064x}" for number in range(6)]
VALUES = [1, 1.5, "a", True, ["x"], {"y": None}]


@st.composite
def histories(draw: st.DrawFn) -> list[Update]:
    """Changes of a few rows in runs of one kind; most expect what is there, some what was, some what never was."""
    holds: dict[str, Any] = {scan: {"value": 0, "is_set": True} for scan in SCANS}
    found = []
    for _ in range(draw(st.integers(1, 5))):
        names = draw(st.sampled_from([("value",), ("is_set",), ("value", "is_set")]))
        action = draw(st.sampled_from(["mark.a", "mark.b"]))
        for _ in range(draw(st.integers(1, 8))):
            scan = draw(st.sampled_from([*SCANS, "none"]) if draw(st.integers(0, 30)) == 0 else st.sampled_from(SCANS))
            now = {name: draw(st.sampled_from(VALUES) if name == "value" else st.booleans()) for name in names}
            was = {name: holds.get(scan, {}).get(name, 0) for name in names}
            if draw(st.integers(0, 20)) == 0:
                was = now if draw(st.booleans()) else dict.fromkeys(names, True)
            key = {"subject": "scan", "subject_id": scan, "kind": "tag", "name": "n"}
            found.append(Update("marks", key, was, now, action))
            holds[scan] = holds.get(scan, {}) | now
    return found


def _outcome(catalog: Catalog, changes: list[Update]) -> tuple[Any, list[Any]]:
    """What comes of changes: audit entries or the refusal, and the rows; undone afterwards."""
    with catalog.scratch() as connection:
        connection.execute(
            sa.insert(marks),
            [
                {"subject": "scan", "subject_id": scan, "kind": "tag", "name": "n", "value": 0, "is_set": True, "run_id": "r"}
                for scan in SCANS
            ],
        )
        try:
            told: Any = list(apply(connection, Publication(changes), run_id="r", actor="a"))
        except Superseded as error:
            return error.message, []
        rows = connection.execute(sa.select(marks.c.subject_id, marks.c.value, marks.c.is_set).order_by(marks.c.subject_id)).all()
        return told, [tuple(row) for row in rows]


def test_many_changes_at_once_are_the_changes_one_by_one(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, batched = 0, 0
    made = publication._update_many

    def counted(*given: Any) -> Any:
        nonlocal batched
        batched += 1
        return made(*given)

    monkeypatch.setattr(publication, "_update_many", counted)

    @settings(max_examples=150, deadline=None)
    @given(histories())
    def check(changes: list[Update]) -> None:
        nonlocal refused
        monkeypatch.setattr(publication, "COPY_FROM_ROWS", 10**9)
        one_by_one = _outcome(catalog, changes)
        monkeypatch.setattr(publication, "COPY_FROM_ROWS", 2)
        assert _outcome(catalog, changes) == one_by_one
        refused += isinstance(one_by_one[0], str)

    check()
    assert refused > 5
    assert batched > 10


def test_absent_values_are_expected_and_set_at_once_too(world: World, run_body: Callable[..., dict[str, Any]]) -> None:
    rows = [
        {"delivery_id": f"d-{number}", "site_id": "s", "landing_key": "l", "content_sha256": "c", "size_bytes": 1, "outcome": "quarantined"}
        | {"quarantine_id": None if number % 2 else "q"}
        for number in range(120)
    ]

    def add(run: Any) -> dict[str, Any]:
        run.publication.insert("deliveries", rows, action="delivery.received", subject="delivery_id")
        return {}

    def change(run: Any) -> dict[str, Any]:
        for row in rows:
            key, expect = {"delivery_id": row["delivery_id"]}, {"quarantine_id": row["quarantine_id"]}
            now = {"quarantine_id": "q" if row["quarantine_id"] is None else None}
            run.publication.update("deliveries", key=key, expect=expect, set=now, action="delivery.read_again")
        return {}

    run_body("test.add", add, run_id="add")
    run_body("test.change", change, run_id="change")
    with world.catalog.read() as connection:
        found = dict(connection.execute(sa.select(deliveries.c.delivery_id, deliveries.c.quarantine_id)).all())
        entries = connection.scalar(sa.select(sa.func.count()).where(audit_log.c.action == "delivery.read_again"))
    assert found == {row["delivery_id"]: "q" if row["quarantine_id"] is None else None for row in rows}
    assert entries == 120
    assert list(row_violations(world.catalog, world.store)) == []
