"""The audit chain: whoever changes the log behind Scanloop's back is found out, superuser or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanloop.catalog import Catalog, audit
from scanloop.cli.options import World
from scanloop.execution import JobRun
from scanloop.execution.anchors import audit_violations
from scanloop.execution.receipts import receipt_key

RunBody = Callable[..., dict[str, object]]


def _add_sites(*names: str) -> Callable[[JobRun], dict[str, object]]:
    def body(run: JobRun) -> dict[str, object]:
        run.publication.insert("sites", [{"site_id": name, "name": name} for name in names], action="site.added", subject="site_id")
        return {"added": len(names)}

    return body


@pytest.fixture
def logged(world: World, run_body: RunBody) -> World:
    """A deployment after three runs: entries 1–3, 4–6 and 7–8."""
    run_body("test.add", _add_sites("a", "b"), run_id="run-1")
    run_body("test.add", _add_sites("c", "d"), run_id="run-2")
    run_body("test.add", _add_sites("e"), run_id="run-3")
    assert list(audit_violations(world.catalog, world.store)) == []
    return world


def _tamper(world: World, *statements: str) -> list[str]:
    """Change the database as its owner could, triggers off, and return what the check then says."""
    with world.catalog.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(sa.text(statement))
    return list(audit_violations(world.catalog, world.store))


def test_the_log_says_who_did_what_to_what_for_which_run(logged: World) -> None:
    with logged.catalog.read() as connection:
        rows = connection.execute(sa.text("SELECT seq, actor, action, subject_kind, subject_id, run_id FROM audit_log ORDER BY seq")).all()
    assert [row.seq for row in rows] == list(range(1, 9))
    assert tuple(rows[0])[1:] == ("test", "site.added", "sites", "a", "run-1")
    assert tuple(rows[2])[1:] == ("test", "run.finished", "runs", "run-1/test.add", "run-1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("SET actor = 'nobody'", "Entry 4 (site.added c) was changed"),
        ("SET action = 'site.removed'", "Entry 4 (site.removed c) was changed"),
        ("SET subject_id = 'z'", "Entry 4 (site.added z) was changed"),
        ("SET run_id = 'run-1'", "Entry 4 (site.added c) was changed"),
        ("SET at = at - interval '1 microsecond'", "Entry 4 (site.added c) was changed"),
        ("""SET details = details || '{"extra": 1}'""", "Entry 4 (site.added c) was changed"),
        ("SET previous_hash = repeat('0', 64)", "Entry 4 does not continue the entry before it."),
        ("SET hash = repeat('0', 64)", "Entry 5 does not continue the entry before it."),
    ],
)
def test_an_edited_entry_is_found(logged: World, change: str, said: str) -> None:
    found = _tamper(logged, f"UPDATE audit_log {change} WHERE seq = 4")
    assert any(said in violation for violation in found), found


def test_a_deleted_entry_is_found(logged: World) -> None:
    found = _tamper(logged, "DELETE FROM audit_log WHERE seq = 4")
    assert found[0] == "Entry 4 is missing; 5 follows 3."


def test_reordered_entries_are_found(logged: World) -> None:
    found = _tamper(
        logged,
        "UPDATE audit_log SET seq = 100 WHERE seq = 4",
        "UPDATE audit_log SET seq = 4 WHERE seq = 5",
        "UPDATE audit_log SET seq = 5 WHERE seq = 100",
    )
    assert "Entry 4 does not continue the entry before it." in found


def test_an_inserted_entry_is_found(logged: World) -> None:
    found = _tamper(
        logged,
        "INSERT INTO audit_log SELECT 9, at, actor, action, subject_kind, 'forged', run_id, details, hash, hash FROM audit_log WHERE seq = 8",
    )
    assert any("Entry 9 (run.finished forged) was changed" in violation for violation in found), found
    assert any("its head says 8" in violation for violation in found), found


@pytest.mark.parametrize("kept", [0, 2, 6, 7])
def test_a_log_cut_together_with_its_head_is_found_by_the_receipts(logged: World, kept: int) -> None:
    found = _tamper(
        logged,
        f"DELETE FROM audit_log WHERE seq > {kept}",
        f"UPDATE audit_head SET seq = {kept}, hash = COALESCE((SELECT hash FROM audit_log WHERE seq = {kept}), repeat('0', 64))",
    )
    lost = receipt_key("run-3", "test.add")
    assert any(violation.startswith(f"The receipt {lost} is not in the log") for violation in found), found
    if kept < 6:
        assert any("it was cut" in violation for violation in found), found


def test_a_log_rewritten_from_its_beginning_is_found_by_the_receipts(logged: World) -> None:
    """The strongest attacker: every entry anew, every hash right."""
    with logged.catalog.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        rows = connection.execute(sa.text("SELECT * FROM audit_log ORDER BY seq")).mappings().all()
        connection.execute(sa.text("DELETE FROM audit_log"))
        connection.execute(sa.text("UPDATE audit_head SET seq = 0, hash = repeat('0', 64)"))
        names = ("actor", "action", "subject_kind", "subject_id", "run_id", "details")
        entries = [audit.Entry(**{**{name: row[name] for name in names}, "actor": "somebody else"}) for row in rows]
        audit.append(connection, entries)
        assert list(audit.violations(connection)) == []
    found = list(audit_violations(logged.catalog, logged.store))
    assert "Entry 3 differs from what a receipt remembers: the log was rewritten." in found


def test_a_fork_is_found(logged: World, run_body: RunBody) -> None:
    """Two databases that go on from one past: each is whole in itself, the receipts of both tell."""
    _tamper(
        logged,
        "DELETE FROM audit_log WHERE seq > 3",
        "UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit_log WHERE seq = 3)",
        "DELETE FROM runs WHERE run_id <> 'run-1'",
        "DELETE FROM sites WHERE run_id <> 'run-1'",
    )
    for run_id in ("fork-2", "fork-3", "fork-4"):
        run_body("test.add", _add_sites(run_id, f"{run_id} too"), run_id=run_id)
    found = list(audit_violations(logged.catalog, logged.store))
    assert any("Two receipts remember different entries 6: the log was forked." in violation for violation in found), found


def test_a_changed_and_a_lost_receipt_are_found(logged: World) -> None:
    key = receipt_key("run-2", "test.add")
    content = logged.store.get(key)
    logged.store.put(key, content.replace(b'"added": 2', b'"added": 3'))
    assert f"The receipt {key} is not the one that the log names: it was changed." in list(audit_violations(logged.catalog, logged.store))
    logged.store.delete(key)
    assert list(audit_violations(logged.catalog, logged.store)) == [f"The log names the receipt {key}, which is not in the store."]


NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
DETAILS = st.dictionaries(
    TEXT, st.recursive(st.none() | st.booleans() | NUMBERS | TEXT, lambda part: st.lists(part, max_size=3), max_leaves=5), max_size=4
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DETAILS, min_size=1, max_size=4))
def test_whatever_an_entry_holds_comes_back_as_it_was_hashed(catalog: Catalog, details: list[dict[str, object]]) -> None:
    with catalog.begin() as connection:
        audit.append(connection, [audit.Entry("a", "b.c", "d", "e", "f", each) for each in details])
    with catalog.read() as connection:
        assert list(audit.violations(connection)) == []
