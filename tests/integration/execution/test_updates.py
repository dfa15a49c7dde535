"""A change of one row costs one look into an index, however large its table is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import quarantine
from scanloop.cli.options import World


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
