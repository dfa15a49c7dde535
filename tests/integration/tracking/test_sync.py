"""The sync against a server: everything told once, and found again."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from small_world import rows_of
from tracked_world import LOSSES, begin_of, keep_spool, mark, tracked_line

from scanloop.catalog.tables import tracked
from scanloop.errors import NothingToDo
from scanloop.tracking import outbox


@pytest.fixture
def line(run_body, world):
    return tracked_line(run_body, world)


@pytest.fixture
def told(line, told_datasets):
    told_datasets()
    return line


def by_tag(clearml, subject, type_="training"):
    (found,) = [task for task in clearml.tasks(type_) if f"scanloop:{subject}" in task["tags"]]
    return found


def model_of(clearml, model_id):
    (found,) = [model for model in clearml.state.models.values() if f"scanloop:{model_id}" in model["tags"]]
    return found


def tracked_as(world, model_id):
    return rows_of(world, "models", model_id=model_id)[0]["tracking_id"]


def test_everything_is_told_once(clearml, world, line, sync):
    told = sync()
    assert told == {
        "told": {"dataset": 1, "experiment": 2, "model": 2, "evaluation": 2, "decision": 2, "report": 1},
        "refused": {},
        "postponed": {},
    }
    assert clearml.refused == []
    before = clearml.state.outline()
    with pytest.raises(NothingToDo, match="told everything"):
        sync()
    assert clearml.state.outline() == before

    task = by_tag(clearml, tracked_as(world, line["good"]))
    assert task["status"] == "completed"
    assert clearml.scalars(task["id"], "loss") == LOSSES
    assert task["hyperparams"]["options"]["iterations"]["value"] == "3"
    assert task["hyperparams"]["links"]["task_url"]["value"] == "http://airflow.test/task"
    assert task["hyperparams"]["properties"]["model_id"]["value"] == line["good"]
    assert task["hyperparams"]["properties"]["verdict"]["value"] == "promote"
    assert task["script"]["version_num"] == "c0ffee"
    assert "mmdet==3" in task["script"]["requirements"]["pip"]
    assert "RTMDet" in task["configuration"]["config"]["value"]
    assert [item["key"] for item in task["execution"]["artifacts"]] == ["snapshot"]
    events = [event for event in clearml.state.events.values() if event["task"] == task["id"]]
    plots = {event["variant"]: json.loads(event["plot_str"]) for event in events if event["type"] == "plot"}
    assert set(plots) == {"by category", "by scanner", "operating curve", "precision and recall", "decision", "findings"}
    assert plots["by category"]["data"][0]["header"]["values"] == ["category", "boxes", "AP", "AP50", "Pd", "Pd lower", "Pfa", "Pfa upper"]
    pictures = [event["url"].removeprefix(clearml.url + "/") for event in events if event["type"] == "training_debug_image"]
    assert len(pictures) > 1
    assert set(pictures) <= set(clearml.files)

    good, poor = model_of(clearml, line["good"]), model_of(clearml, line["poor"])
    assert (good["ready"], poor["ready"]) == (True, False)
    assert (good["framework"], good["task"]) == ("PyTorch", task["id"])
    assert good["labels"] == {"handgun": 1, "knife": 2, "grenade": 3}
    assert {"champion", "cabin", "none"} <= set(good["tags"])
    assert poor["parent"] == good["id"]
    dataset = by_tag(clearml, line["snapshot"], "data_processing")
    assert dataset["status"] == "completed"
    assert {"product line: cabin", "taxonomy: t-1"} <= set(dataset["tags"])
    (preview,) = [
        event["url"].removeprefix(clearml.url + "/")
        for event in clearml.state.events.values()
        if event["task"] == dataset["id"] and event["type"] == "training_debug_image"
    ]
    assert clearml.files[preview].startswith(b"\x89PNG")
    assert good["metadata"]["dataset"]["value"] == dataset["id"]
    (report,) = clearml.tasks("report")
    assert f"Champion: **{line['good'][:12]}**" in report["report"]
    assert f"[{line['poor'][:12]}](http://web.test/projects/" in report["report"]
    ids = {(row["kind"], row["subject_id"]): row["external_id"] for row in rows_of(world, "tracked")}
    assert ids["experiment", tracked_as(world, line["good"])] == task["id"]
    assert list(world.store.list("tracking/open/")) == []

    task, model, dataset = read_by_the_sdk(clearml, world, line)
    assert task.get_reported_scalars()["loss"]["loss"] == {"name": "loss", "x": list(LOSSES), "y": list(LOSSES.values())}
    assert task.get_parameters()["options/iterations"] == "3"
    assert (model.published, model.framework, model.labels) == (True, "PyTorch", {"handgun": 1, "knife": 2, "grenade": 3})
    assert (dataset.is_final(), dataset.list_files(), dataset.version) == (True, ["root.json"], "1.0.0")


def read_by_the_sdk(clearml, world, line):
    """What the SDK's own classes find on the server."""
    from clearml import Dataset, Model, Task

    task = Task.get_task(task_id=by_tag(clearml, tracked_as(world, line["good"]))["id"])
    model = Model(model_id=model_of(clearml, line["good"])["id"])
    dataset = Dataset.get(dataset_id=by_tag(clearml, line["snapshot"], "data_processing")["id"])
    return task, model, dataset


def test_without_a_server_everything_waits(world, told, sync, clearml, monkeypatch):
    monkeypatch.delenv("CLEARML_API_HOST")
    with pytest.raises(NothingToDo, match="Waiting: 11"):
        sync()
    assert clearml.requests == []


def test_a_new_champion_is_told_and_the_old_one_is_no_champion_any_more(clearml, world, told, sync, run_body):
    from judged_world import GOOD, compare, evaluate_as, promote
    from tracked_world import add_tracked_model

    from scanloop.tracking.registry import find_champions
    from scanloop.tracking.server import Server

    sync()
    assert find_champions(Server(), "cabin") == [told["good"]]
    better = add_tracked_model(run_body, world, told["snapshot"], "better", parent_model_id=told["good"])
    evaluate_as(run_body, world, better, told["snapshot"], GOOD, 1)
    promote(run_body, compare(run_body, better, told["snapshot"])["decision_id"])
    now = sync()["told"]
    assert now == {"experiment": 1, "model": 2, "evaluation": 1, "decision": 1, "report": 1}
    assert find_champions(Server(), "cabin") == [better]
    assert model_of(clearml, told["good"])["ready"] is True
    assert len(clearml.tasks("report")) == 1


def test_the_experiment_that_a_tracker_left_half_told_is_completed(clearml, world, told, sync):
    from scanloop.tracking.experiments import open_experiment
    from scanloop.tracking.server import Server

    begun = open_experiment(Server(), begin_of("train-good", told["snapshot"]))
    Server().add_events(
        [{"type": "training_stats_scalar", "task": begun.task_id, "metric": "loss", "variant": "loss", "iter": 1, "value": 1.0}]
    )
    sync()
    assert by_tag(clearml, tracked_as(world, told["good"]))["id"] == begun.task_id
    assert clearml.scalars(begun.task_id, "loss") == LOSSES


def test_an_offline_session_becomes_an_experiment_and_its_id_is_kept(clearml, world, told, sync):
    tracking_id = tracked_as(world, told["good"])
    result = {"experiment_id": "offline-123", "mode": "offline", "session": "cache/offline/offline-123.zip"}
    world.store.put(f"tracking/{tracking_id}/result.json", json.dumps(result).encode())
    sync()
    (row,) = rows_of(world, "tracked", kind="experiment", subject_id=tracking_id)
    task = by_tag(clearml, tracking_id)
    assert (row["offline_id"], row["external_id"]) == ("offline-123", task["id"])
    assert task["hyperparams"]["properties"]["offline_session"]["value"] == "offline-123"
    assert row["url"] == f"http://web.test/projects/{task['project']}/experiments/{task['id']}/output/log"


def test_a_refused_thing_holds_up_nothing_else(clearml, world, told, sync):
    world.store.delete(f"{rows_of(world, 'evaluations', model_id=told['poor'])[0]['results_key']}")
    now = sync()
    assert now["refused"] == {"evaluation": 1}
    assert now["told"]["report"] == 1
    (row,) = rows_of(world, "tracked", state="refused")
    assert (row["kind"], row["attempts"]) == ("evaluation", 1)


class TestRefused:
    """What is refused is tried again later, and at last only when a person asks."""

    @pytest.fixture
    def damaged(self, clearml, world, told, sync):
        """Results of one evaluation are gone, and a sync has noticed. Gives a function that puts them back."""
        key = rows_of(world, "evaluations", model_id=told["poor"])[0]["results_key"]
        content = world.store.get(key)
        world.store.delete(key)
        sync()
        return lambda: world.store.put(key, content)

    @staticmethod
    def _pass(world, seconds):
        """As if so much time had passed."""
        with world.catalog.begin() as connection:
            connection.execute(sa.update(tracked).values(changed_at=tracked.c.changed_at - timedelta(seconds=seconds)))

    def test_it_is_left_alone_for_a_while(self, world, damaged, sync):
        with pytest.raises(NothingToDo, match="everything but 1 refused before"):
            sync()
        self._pass(world, 601)
        assert sync()["refused"] == {"evaluation": 1}
        self._pass(world, 601)
        with pytest.raises(NothingToDo):
            sync()
        self._pass(world, 600)
        damaged()
        assert sync() == {"told": {"evaluation": 1}, "refused": {}, "postponed": {}}
        with pytest.raises(NothingToDo, match="told everything\\."):
            sync()

    def test_it_is_given_up_and_a_person_may_ask_for_it(self, world, damaged, sync):
        for _ in range(outbox.MOST_REFUSALS - 1):
            self._pass(world, 86_400)
            assert sync()["refused"] == {"evaluation": 1}
        self._pass(world, 10 * 86_400)
        with pytest.raises(NothingToDo):
            sync()
        (item,) = outbox.waiting(world.catalog)
        assert (item.attempts, item.is_given_up) == (outbox.MOST_REFUSALS, True)
        assert sync(retry_refused=True)["refused"] == {"evaluation": 1}
        damaged()
        assert sync(retry_refused=True)["told"] == {"evaluation": 1}

    def test_what_is_to_be_told_anew_is_tried_at_once(self, world, damaged):
        with world.catalog.begin() as connection:
            connection.execute(sa.update(tracked).where(tracked.c.state == "refused").values(digest="0", attempts=outbox.MOST_REFUSALS))
        (item,) = outbox.waiting(world.catalog)
        assert (item.attempts, item.is_due) == (0, True)


class TestDead:
    """Experiments of runs that ended without a receipt."""

    def test_is_closed_as_aborted_with_what_is_known(self, clearml, world, sync, run_body):
        begin = begin_of("killed")
        keep_spool(world, begin, {"kind": "abort", "end": "stopped", "reason": "The training was cancelled."})
        assert sync(settle_s=0)["told"] == {"experiment": 1}
        task = by_tag(clearml, begin["tracking_id"])
        assert (task["status"], task["status_reason"]) == ("stopped", "The training was cancelled.")
        assert clearml.scalars(task["id"], "loss") == LOSSES

    def test_one_that_is_refused_is_not_asked_for_ever(self, clearml, world, sync):
        keep_spool(world, begin_of("killed"), {"kind": "scalars", "iteration": 1, "values": {"loss": "much"}})
        assert sync(settle_s=0)["refused"] == {"experiment": 1}
        with pytest.raises(NothingToDo, match="everything but 1 refused before"):
            sync(settle_s=0)
        assert sync(settle_s=0, retry_refused=True)["refused"] == {"experiment": 1}
        (row,) = rows_of(world, "tracked")
        assert (row["state"], row["attempts"]) == ("refused", 2)
        assert len(clearml.invalid) == 2
        clearml.invalid.clear()

    def test_one_that_left_no_word_is_closed_too(self, clearml, world, sync):
        begin = begin_of("killed")
        mark(world, begin)
        sync(settle_s=0)
        assert by_tag(clearml, begin["tracking_id"])["status"] == "stopped"
        (row,) = rows_of(world, "tracked")
        assert row["state"] == "aborted"
        with pytest.raises(NothingToDo):
            sync(settle_s=0)

    def test_is_left_alone_while_it_may_come_back(self, clearml, world, sync):
        mark(world, begin_of("between-attempts"))
        with pytest.raises(NothingToDo):
            sync(settle_s=600)
        assert clearml.tasks() == []

    def test_is_left_alone_while_it_runs(self, clearml, world, sync):
        from scanloop.execution import leases

        begin = begin_of("running")
        mark(world, begin)
        lease = leases.acquire(world.catalog, "cabin/train", "running/model.train")
        try:
            with pytest.raises(NothingToDo):
                sync(settle_s=0)
        finally:
            lease.release()
        assert clearml.tasks() == []

    def test_goes_on_as_the_same_experiment_when_its_run_does(self, clearml, world, sync, run_body, told_datasets):
        from judged_world import add_model, make_snapshot

        begin = begin_of("train-again")
        keep_spool(world, begin, {"kind": "abort", "end": "failed", "reason": "StoreUnavailable: away"})
        sync(settle_s=0)
        aborted = by_tag(clearml, begin["tracking_id"])
        assert aborted["status"] == "failed"
        snapshot_id = make_snapshot(run_body, world, bags=8)
        told_datasets()
        world.store.put("models/none.json", b'{"categories": ["handgun"]}')
        keep_spool(world, begin)
        add_model(run_body, snapshot_id, "again", tracking_id=begin["tracking_id"])
        sync()
        assert by_tag(clearml, begin["tracking_id"])["status"] == "completed"
        assert [task["id"] for task in clearml.tasks()] == [aborted["id"]]


def test_the_catalog_still_is_what_its_record_says(clearml, world, told, sync):
    from scanloop.execution.replay import row_violations

    sync()
    assert list(row_violations(world.catalog, world.store)) == []
