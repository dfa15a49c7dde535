"""One job run: once, however often it is called, and never half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from scanloop.catalog.tables import audit_log, runs, sites
from scanloop.cli.options import World
from scanloop.errors import DataWrong, NothingToDo, Superseded
from scanloop.execution import JobRun
from scanloop.execution.anchors import audit_violations
from scanloop.execution.receipts import encode, load_receipt, receipt_key

RunBody = Callable[..., dict[str, object]]


def _add(*names: str, title: str = "") -> Callable[[JobRun], dict[str, object]]:
    def body(run: JobRun) -> dict[str, object]:
        rows = [{"site_id": name, "name": title or name} for name in names]
        run.publication.insert("sites", rows, action="site.added", subject="site_id")
        return {"added": list(names)}

    return body


def _rename(name: str, before: str, after: str) -> Callable[[JobRun], dict[str, object]]:
    def body(run: JobRun) -> dict[str, object]:
        run.publication.update("sites", key={"site_id": name}, expect={"name": before}, set={"name": after}, action="site.renamed")
        return {"name": after}

    return body


def _sites(world: World) -> dict[str, str]:
    with world.catalog.read() as connection:
        return {row.site_id: row.name for row in connection.execute(sa.select(sites))}


def _actions(world: World) -> list[str]:
    with world.catalog.read() as connection:
        return list(connection.execute(sa.select(audit_log.c.action).order_by(audit_log.c.seq)).scalars())


def test_a_job_leaves_rows_a_receipt_and_entries(world: World, run_body: RunBody) -> None:
    def body(run: JobRun) -> dict[str, object]:
        run.add_input("site", "earlier")
        run.add_output(run.store.put_content("evidence", b"hello", ".txt"))
        return _add("a", "b")(run)

    assert run_body("test.add", body, run_id="run-1", part="00/02") == {"added": ["a", "b"]}
    receipt = load_receipt(world.store, receipt_key("run-1", "test.add", "00/02"))
    assert receipt is not None
    assert receipt.inputs == [{"kind": "site", "id": "earlier"}]
    assert [output["size_bytes"] for output in receipt.outputs] == [5]
    assert world.store.verify(receipt.outputs[0]["key"], receipt.outputs[0]["sha256"])
    assert world.store.verify(receipt.publication["key"], receipt.publication["sha256"])
    assert (receipt.result, receipt.audit_head["seq"], receipt.fence) == ({"added": ["a", "b"]}, 0, None)
    assert _sites(world) == {"a": "a", "b": "b"}
    assert _actions(world) == ["site.added", "site.added", "run.finished"]
    with world.catalog.read() as connection:
        assert connection.execute(sa.select(runs.c.part, runs.c.result, runs.c.run_id)).all() == [("00/02", {"added": ["a", "b"]}, "run-1")]
        assert set(connection.execute(sa.select(sites.c.run_id)).scalars()) == {"run-1"}


def test_the_same_run_again_gives_the_first_result_and_changes_nothing(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a"), run_id="run-1")
    before = _actions(world)

    def never(run: JobRun) -> dict[str, object]:
        raise AssertionError("the body ran again")

    assert run_body("test.add", never, run_id="run-1", attempt=2) == {"added": ["a"]}
    assert _actions(world) == before


def test_another_run_another_job_and_another_part_are_other_work(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a"), run_id="run-1")
    run_body("test.add", _add("b"), run_id="run-2")
    run_body("test.more", _add("c"), run_id="run-1")
    run_body("test.add", _add("d"), run_id="run-1", part="1")
    assert set(_sites(world)) == {"a", "b", "c", "d"}


def test_a_row_whose_key_is_there_stays_as_it_is_and_is_not_logged(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a", title="first"), run_id="run-1")
    run_body("test.add", _add("a", "b", title="second"), run_id="run-2")
    assert _sites(world) == {"a": "first", "b": "second"}
    assert _actions(world) == ["site.added", "run.finished", "site.added", "run.finished"]


def test_more_rows_than_one_statement_takes_are_all_there_and_all_logged(world: World, run_body: RunBody) -> None:
    names = [f"site-{number:05}" for number in range(1203)]

    def body(run: JobRun) -> dict[str, object]:
        _add(*names[:700])(run)
        run.publication.update("sites", key={"site_id": names[0]}, expect={"name": names[0]}, set={"name": "first"}, action="site.renamed")
        _add(*names[600:])(run)
        return {}

    run_body("test.add", body)
    assert sorted(_sites(world)) == names
    assert _sites(world)[names[0]] == "first"
    actions = _actions(world)
    assert (actions.count("site.added"), actions.count("site.renamed"), len(actions)) == (1203, 1, 1205)
    assert list(audit_violations(world.catalog, world.store)) == []


def test_an_update_counts_once_and_is_logged_with_both_states(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a"), run_id="run-1")
    run_body("test.rename", _rename("a", "a", "A"), run_id="run-2")
    run_body("test.rename", _rename("a", "a", "A"), run_id="run-3")
    assert _sites(world) == {"a": "A"}
    assert _actions(world).count("site.renamed") == 1
    with world.catalog.read() as connection:
        details = connection.execute(sa.select(audit_log.c.details).where(audit_log.c.action == "site.renamed")).scalar_one()
    assert details == {"from": {"name": "a"}, "to": {"name": "A"}}


@pytest.mark.parametrize("missing", [False, True])
def test_who_comes_second_is_superseded_and_changes_nothing_at_all(world: World, run_body: RunBody, missing: bool) -> None:
    run_body("test.add", _add("a"), run_id="run-1")
    run_body("test.rename", _rename("a", "a", "B"), run_id="run-2")

    def late(run: JobRun) -> dict[str, object]:
        _add("never")(run)
        return _rename("nowhere" if missing else "a", "a", "C")(run)

    for _ in range(2):
        with pytest.raises(Superseded, match="Another run came first"):
            run_body("test.rename", late, run_id="run-3")
    assert _sites(world) == {"a": "B"}
    assert _actions(world).count("run.superseded") == 1
    assert list(audit_violations(world.catalog, world.store)) == []


def test_a_row_whose_unique_place_is_taken_is_superseded(world: World, run_body: RunBody) -> None:
    def snapshot(name: str) -> Callable[[JobRun], dict[str, object]]:
        def body(run: JobRun) -> dict[str, object]:
            row = {"snapshot_id": name, "product_line": "x", "definition_version": "v", "root_key": "k", "state": "ready", "sequence": 1}
            run.publication.insert("snapshots", [row], action="snapshot.created", subject="snapshot_id")
            return {}

        return body

    run_body("snapshot.create", snapshot("one"), run_id="run-1")
    with pytest.raises(Superseded, match="A row for snapshots cannot take its place"):
        run_body("snapshot.create", snapshot("two"), run_id="run-2")
    assert list(audit_violations(world.catalog, world.store)) == []


def test_nothing_to_do_and_failures_leave_no_receipt(world: World, run_body: RunBody) -> None:
    def idle(run: JobRun) -> dict[str, object]:
        raise NothingToDo("no work")

    def wrong(run: JobRun) -> dict[str, object]:
        _add("a")(run)
        raise DataWrong("wrong")

    for body, error in ((idle, NothingToDo), (wrong, DataWrong)):
        with pytest.raises(error):
            run_body("test.add", body, run_id="run-1", lease="test")
    assert (_sites(world), _actions(world), list(world.store.list("receipts/"))) == ({}, [], [])
    run_body("test.add", _add("a"), run_id="run-1", lease="test")
    assert _sites(world) == {"a": "a"}


def test_a_lost_catalog_transaction_is_made_up_from_the_receipt(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a", "b"), run_id="run-1")
    with world.catalog.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in (
            "DELETE FROM sites",
            "DELETE FROM runs",
            "DELETE FROM audit_log",
            "UPDATE audit_head SET seq = 0, hash = repeat('0', 64)",
        ):
            connection.execute(sa.text(statement))
    run_body("test.add", _add("c"), run_id="run-1")
    assert _sites(world) == {"a": "a", "b": "b"}
    assert list(audit_violations(world.catalog, world.store)) == []


def test_a_forged_receipt_is_refused_for_good(world: World, run_body: RunBody) -> None:
    run_body("test.add", _add("a"), run_id="run-1")
    key = receipt_key("run-1", "test.add")
    receipt = load_receipt(world.store, key)
    assert receipt is not None
    forged = world.store.put_content("publications/forged", b"", "")
    world.store.put(key, encode(replace(receipt, publication={"key": forged.key, "sha256": str(forged.sha256)})))
    with pytest.raises(DataWrong, match="one of them was forged"):
        run_body("test.add", _add("a"), run_id="run-1")
    assert any("it was changed" in violation for violation in audit_violations(world.catalog, world.store))


def test_a_publication_that_is_not_what_its_receipt_names_is_not_applied(world: World, run_body: RunBody) -> None:
    from scanloop.errors import ObjectCorrupt

    run_body("test.add", _add("a"), run_id="run-1")
    receipt = load_receipt(world.store, receipt_key("run-1", "test.add"))
    assert receipt is not None
    with world.catalog.begin() as connection:
        connection.execute(sa.delete(runs))
    world.store.put(receipt.publication["key"], b"something else")
    with pytest.raises(ObjectCorrupt, match="is not what its receipt names"):
        run_body("test.add", _add("a"), run_id="run-1")


def test_consumed_runs_are_linked(world: World) -> None:
    from scanloop.catalog.tables import run_links
    from scanloop.execution import RunIdentity, execute

    identity = RunIdentity("run-9", "test.add", actor="test", consumed=("run-1", "run-2", "run-1"))
    execute(_add("a"), identity, settings=world.settings, store=world.store, catalog=world.catalog)
    with world.catalog.read() as connection:
        assert sorted(connection.execute(sa.select(run_links))) == [("run-9", "run-1"), ("run-9", "run-2")]
