"""Review on a real catalog: every submitted task gets one verdict, and what is disputed goes round until it is agreed or given up."""

from __future__ import annotations

import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of, scan_id_of

from scanloop.labelling.tasks import MAX_ROUNDS

BAGS = [f"bag-{number}" for number in range(24)]


@pytest.fixture
def sloppy(settings):
    """Annotators who miss a third of all threats."""
    return settings.model_copy(update={"labelling_url": "simulated:?miss=.34&spurious=0&swap=.1&jitter_px=1&seed=2"})


@pytest.fixture
def world(sloppy, catalog):
    from scanloop.cli.options import World
    from scanloop.store import open_store

    return World(sloppy, open_store(sloppy.store_url), catalog)


@pytest.fixture
def reviewed(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one", rounds=MAX_ROUNDS)
    return world


def test_rounds_end_accepted_or_escalated(reviewed):
    tasks = rows_of(reviewed, "labelling_tasks")
    rounds = {}
    for task in tasks:
        rounds.setdefault(task["scan_id"], []).append((task["round"], task["state"]))
    assert len(rounds) == 48
    seen = set()
    for history in rounds.values():
        history.sort()
        assert [number for number, _ in history] == list(range(1, len(history) + 1))
        assert all(state == "returned" for _, state in history[:-1])
        assert history[-1][1] in ("accepted", "escalated")
        assert history[-1][1] == "accepted" or len(history) == MAX_ROUNDS
        seen.add((len(history), history[-1][1]))
    assert {(1, "accepted"), (2, "accepted"), (3, "escalated")} <= seen


def test_each_task_has_one_review_that_names_what_is_disputed(reviewed):
    tasks = {task["task_id"]: task for task in rows_of(reviewed, "labelling_tasks")}
    reviews = rows_of(reviewed, "reviews")
    assert sorted(review["task_id"] for review in reviews) == sorted(tasks)
    for review in reviews:
        assert review["verdict"] == tasks[review["task_id"]]["state"]
        assert (review["annotation_id"] is not None) == (review["verdict"] == "accepted")
        assert review["verdict"] == "accepted" or ("marked by annotator-" in review["reason"] and review["details"]["disputed"])


def test_consensus_is_kept_beside_what_people_marked(reviewed):
    accepted = {review["annotation_id"] for review in rows_of(reviewed, "reviews", verdict="accepted")}
    consensus = {note["annotation_id"]: note for note in rows_of(reviewed, "annotations", author_kind="consensus")}
    assert set(consensus) == accepted
    assert len(rows_of(reviewed, "annotations", author_kind="person")) == 2 * len(rows_of(reviewed, "labelling_tasks"))
    assert any(note["boxes"] for note in consensus.values())


def test_nothing_submitted_is_no_failure(reviewed, run_body):
    assert run_job_of(run_body, "review.run", "again") == {"accepted": 0, "returned": 0, "escalated": 0}


def test_a_bag_with_an_escalated_view_never_reaches_val_or_test(reviewed, run_body):
    from scanloop.snapshots.manifest import load_snapshot

    result = run_job_of(run_body, "snapshot.create", "snap")
    lost = {task["bag_id"] for task in rows_of(reviewed, "labelling_tasks", state="escalated")}
    used = {(record.bag_id, record.split) for record in load_snapshot(reviewed.store, result["snapshot_id"]).records()}
    assert lost
    assert not {bag for bag, split in used if split != "train"} & lost
    assert result["counts"]["left_out"] == {"bag not finished": sum(1 for _ in _accepted_outside_train(reviewed, lost))}


def _accepted_outside_train(world, bags):
    from small_world import definition

    from scanloop.snapshots.splits import drawn_split

    rules = definition()["snapshot"]
    accepted = {task["scan_id"] for task in rows_of(world, "labelling_tasks", state="accepted")}
    for bag in bags:
        if drawn_split(rules["seed"], bag, rules["splits"]) != "train":
            yield from accepted & {scan_id_of(bag, view) for view in ("side", "top")}


def test_a_task_without_its_annotations_is_never_accepted(reviewed, run_body):
    from scanloop.errors import DataWrong

    add_bags(run_body, reviewed, ["late"], run_id="ingest-2")
    run_job_of(run_body, "selection.create", "select-2")
    run_job_of(run_body, "labelling.push", "push-late")
    task_id = rows_of(reviewed, "labelling_tasks", state="open")[0]["task_id"]

    def claim(run):
        run.publication.update(
            "labelling_tasks", key={"task_id": task_id}, expect={"state": "open"}, set={"state": "submitted"}, action="test.claim"
        )
        return {}

    run_body("test.claim", claim, run_id="claim")
    with pytest.raises(DataWrong, match="only 0 of 2 annotators"):
        run_job_of(run_body, "review.run", "review-late")
