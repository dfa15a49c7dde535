"""Selections on a real catalog and store: replayable, explained, and never the same scan twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from small_world import add_bags, define, label_chosen, label_everything, rows_of, run_job_of, scan_id_of

from scanloop.curation.explain import explain, replay
from scanloop.curation.select import plan_backfill
from scanloop.errors import NothingToDo, WrongArguments

BAGS = [f"bag-{number}" for number in range(20)]


@pytest.fixture
def ready(run_body, world):
    define(run_body, selection={"budget_scans": 12})
    add_bags(run_body, world, BAGS)
    return world


def select(run_body, run_id):
    return run_job_of(run_body, "selection.create", run_id)


def backfill(run_body, run_id, category="grenade", budget=None, since=None, until=None):
    return run_body(
        "backfill.plan",
        lambda run: plan_backfill(run, category, budget, since, until),
        run_id=run_id,
        product_line="cabin",
        lease="cabin/selection",
    )


def chosen_in(world, selection_id):
    return {row["scan_id"] for row in rows_of(world, "selection_items", selection_id=selection_id, is_chosen=True)}


def test_the_budget_is_kept_and_every_candidate_has_a_reason(ready, run_body):
    result = select(run_body, "s1")
    assert result["chosen"] == 12
    items = rows_of(ready, "selection_items", selection_id=result["selection_id"])
    assert len(items) == 40
    assert all(item["reason"] for item in items)
    bags = {row["scan_id"]: row["bag_id"] for row in rows_of(ready, "scans")}
    fates = {(bags[item["scan_id"]], item["is_chosen"]) for item in items}
    assert len(fates) == 20, "the views of a bag are chosen together"


def test_selections_go_on_until_everything_was_chosen_once(ready, run_body):
    seen: set[str] = set()
    for number in range(4):
        result = select(run_body, f"s{number}")
        chosen = chosen_in(ready, result["selection_id"])
        assert not chosen & seen
        seen |= chosen
    assert len(seen) == 40
    with pytest.raises(NothingToDo, match="was chosen before"):
        select(run_body, "s9")


def test_a_selection_replays_to_the_same_choice(ready, run_body):
    ids = [select(run_body, f"s{number}")["selection_id"] for number in range(3)]
    add_bags(run_body, ready, ["later"], run_id="ingest-2")
    for selection_id in ids:
        found = replay(ready.catalog, ready.store, selection_id)
        assert (found.has_same_inputs, found.differences) == (True, [])


def test_a_replay_notices_that_an_input_changed(ready, run_body):
    selection_id = select(run_body, "s1")["selection_id"]

    def change(run):
        run.publication.update(
            "scans", key={"scan_id": scan_id_of("bag-1", "top")}, expect={}, set={"phash": "0" * 16}, action="scan.changed"
        )
        return {}

    run_body("test.change", change, run_id="change")
    assert not replay(ready.catalog, ready.store, selection_id).has_same_inputs


def test_near_copies_of_what_was_chosen_are_left_out_in_every_later_selection(ready, run_body):
    for number in range(4):
        select(run_body, f"s{number}")
    original = next(row for row in rows_of(ready, "scans") if row["scan_id"] == scan_id_of("bag-3", "top"))
    copy = f"{int(original['phash'], 16) ^ 0b11:016x}"
    add_bags(run_body, ready, ["copy"], views=["top"], phashes={"copy": copy}, run_id="ingest-2")
    with pytest.raises(NothingToDo, match="1 near duplicate"):
        select(run_body, "s9")
    add_bags(run_body, ready, ["new"], run_id="ingest-3")
    result = select(run_body, "s10")
    assert (result["chosen"], result["near_duplicates"]) == (2, 1)
    reason = rows_of(ready, "selection_items", scan_id=scan_id_of("copy", "top"))[0]["reason"]
    assert original["scan_id"][:12] in reason
    assert "2 of 64 bits" in reason


def test_a_late_view_follows_its_bag(ready, run_body):
    for number in range(4):
        select(run_body, f"s{number}")
    add_bags(run_body, ready, ["bag-3"], views=["oblique"], run_id="ingest-2")
    selection_id = select(run_body, "s9")["selection_id"]
    assert chosen_in(ready, selection_id) == {scan_id_of("bag-3", "oblique")}
    assert "another view of a bag" in rows_of(ready, "selection_items", selection_id=selection_id)[0]["reason"]


@pytest.mark.parametrize(
    "columns",
    [{"state": "quarantined"}, {"is_projected": True}, {"scan_type": "test"}, {"modality": "CT"}],
    ids=lambda columns: next(iter(columns)),
)
def test_what_is_not_a_validated_real_operational_view_is_no_candidate(run_body, world, columns):
    define(run_body)
    add_bags(run_body, world, BAGS[:2], columns=columns)
    with pytest.raises(NothingToDo):
        select(run_body, "s1")


def test_scanners_of_other_product_lines_are_no_candidates(run_body, world):
    define(run_body, scanners={"include": ["acme-one-a"]})
    add_bags(run_body, world, BAGS)
    result = select(run_body, "s1")
    scanners = {row["scan_id"]: row["scanner_id"] for row in rows_of(world, "scans")}
    assert {scanners[scan_id] for scan_id in chosen_in(world, result["selection_id"])} == {"acme-one-a"}


def test_an_unknown_selection_is_named(ready):
    with pytest.raises(WrongArguments, match="No selection begins with 'nope'"):
        explain(ready.catalog, "nope")


def test_a_backfill_needs_the_category_in_the_definition(ready, run_body):
    with pytest.raises(WrongArguments, match=r"Add it to categories in product_lines/cabin\.yaml"):
        backfill(run_body, "b1")


def test_a_backfill_asks_labelled_and_unlabelled_history_about_the_new_category_only(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    add_bags(run_body, world, ["new-1", "new-2"], run_id="ingest-2")
    define(run_body, "define-2", categories=["handgun", "knife", "grenade"])
    result = backfill(run_body, "b1", budget=30)
    chosen = chosen_in(world, result["selection_id"])
    assert result["candidates"] == 44
    assert len(chosen) == 30
    label_chosen(run_body, "two")
    tasks = [row for row in rows_of(world, "labelling_tasks") if row["schema_version"] == "1+grenade@t-1"]
    assert {task["scan_id"] for task in tasks} == chosen
    notes = [row for row in rows_of(world, "annotations") if row["task_id"] in {task["task_id"] for task in tasks}]
    assert notes
    assert all(note["looked_for"] == ["grenade"] for note in notes)
    rest = backfill(run_body, "b2", budget=100)
    assert not chosen & chosen_in(world, rest["selection_id"]), "nobody is asked the same twice"
    label_chosen(run_body, "three")
    with pytest.raises(NothingToDo, match="'grenade' was looked for"):
        backfill(run_body, "b3")
    assert select(run_body, "s2")["chosen"] == 4, "what only a backfill chose is still new to ordinary selection"


def test_a_backfill_merges_into_the_next_snapshot(run_body, world):
    from scanloop.snapshots.manifest import load_snapshot

    define(run_body)
    bags = [f"bag-{number}" for number in range(24)]
    add_bags(run_body, world, bags)
    label_everything(run_body, "one")
    before = {
        row.scan_id: row for row in load_snapshot(world.store, run_job_of(run_body, "snapshot.create", "snap-1")["snapshot_id"]).rows()
    }
    define(run_body, "define-2", categories=["handgun", "knife", "grenade"])
    chosen = chosen_in(world, backfill(run_body, "b1", budget=30)["selection_id"])
    label_chosen(run_body, "two")
    after = {
        row.scan_id: row for row in load_snapshot(world.store, run_job_of(run_body, "snapshot.create", "snap-2")["snapshot_id"]).rows()
    }
    asked = [row for row in after.values() if "grenade" in row.looked_for]
    assert 0 < len(asked) <= 30
    assert {row.scan_id for row in asked} <= chosen
    for scan_id, row in before.items():
        assert [box for box in after[scan_id].boxes if box.category != "grenade"] == list(row.boxes)
        assert after[scan_id].split == row.split


def test_a_backfill_keeps_to_its_interval(run_body, world):
    define(run_body, categories=["handgun", "grenade"])
    add_bags(run_body, world, ["old"], columns={"acquired_at": "2026-01-01T00:00:00+00:00"})
    add_bags(run_body, world, ["young"], columns={"acquired_at": "2026-05-01T00:00:00+00:00"}, run_id="ingest-2")
    march = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(WrongArguments, match="must be before"):
        backfill(run_body, "b0", since=march, until=march)
    assert chosen_in(world, backfill(run_body, "b1", until=march)["selection_id"]) == {scan_id_of("old", view) for view in ("side", "top")}
    assert chosen_in(world, backfill(run_body, "b2", since=march)["selection_id"]) == {
        scan_id_of("young", view) for view in ("side", "top")
    }
