"""Tasks out, annotations back, on a real catalog and store: incremental and never twice."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from small_world import SIZE_PX, add_bags, define, rows_of, run_job_of, scan_id_of

from scanloop.errors import NothingToDo
from scanloop.labelling.annotators import ErrorRates
from scanloop.labelling.push import push_tasks
from scanloop.labelling.server import TaskRequest
from scanloop.labelling.simulated import SimulatedServer
from scanloop.store import open_store

BAGS = [f"bag-{number}" for number in range(12)]
TASK = TaskRequest("t0", "s0", "g", "top", "p.png", 48, 64, ("knife",), 1, 2)


@pytest.fixture
def chosen(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    run_job_of(run_body, "selection.create", "select")
    return world


def test_every_chosen_scan_gets_one_task_with_a_picture(chosen, run_body):
    from PIL import Image

    assert run_job_of(run_body, "labelling.push", "push-1") == {"tasks": 24, "first_rounds": 24, "later_rounds": 0}
    assert run_job_of(run_body, "labelling.push", "push-2")["tasks"] == 0
    tasks = rows_of(chosen, "labelling_tasks")
    assert {task["scan_id"] for task in tasks} == {scan_id_of(bag, view) for bag in BAGS for view in ("side", "top")}
    path = chosen.store.download(tasks[0]["attributes"]["picture_key"], chosen.settings.home / "picture.png")
    with Image.open(path) as picture:
        assert (picture.height, picture.width, picture.mode) == (*SIZE_PX, "RGB")
        assert np.asarray(picture).std() > 5


def test_the_server_is_not_told_whose_bag_it_is(chosen, run_body):
    run_job_of(run_body, "labelling.push", "push-1")
    said = b"".join(chosen.store.get(entry.key) for entry in chosen.store.list("labelling-sim/"))
    assert said
    assert not any(bag.encode() in said for bag in BAGS)


def test_two_pulls_bring_everything_once(chosen, run_body):
    run_job_of(run_body, "labelling.push", "push-1")
    first = run_job_of(run_body, "labelling.pull", "pull-1")
    assert (first["annotations"], first["submitted"], first["open"]) == (48, 24, 0)
    with pytest.raises(NothingToDo, match="Nobody finished anything new"):
        run_job_of(run_body, "labelling.pull", "pull-2")
    annotations = rows_of(chosen, "annotations")
    assert Counter(row["author"] for row in annotations) == {"annotator-1": 24, "annotator-2": 24}
    assert all(
        row["time_spent_s"] > 0 and row["looked_for"] == ["handgun", "knife"] and row["taxonomy_version"] == "t-1" for row in annotations
    )


def test_a_pull_that_overtakes_a_push_loses_nothing(chosen, run_body):
    """The server has tasks that the catalog does not know yet: the cursor waits for them."""

    class Killed(Exception):
        pass

    def dies_before_its_receipt(run):
        push_tasks(run)
        raise Killed

    with pytest.raises(Killed):
        run_body("labelling.push", dies_before_its_receipt, run_id="push-1", product_line="cabin")
    with pytest.raises(NothingToDo):
        run_job_of(run_body, "labelling.pull", "pull-1")
    add_bags(run_body, chosen, ["late"], run_id="ingest-2")
    run_job_of(run_body, "selection.create", "select-2")
    run_job_of(run_body, "labelling.push", "push-2")
    assert run_job_of(run_body, "labelling.pull", "pull-2")["annotations"] == 2 * 26
    assert len(rows_of(chosen, "labelling_tasks", state="submitted")) == 26


def test_work_that_is_half_done_stays_open(chosen, run_body, monkeypatch):
    run_job_of(run_body, "labelling.push", "push-1")
    finished = SimulatedServer.finished_since
    monkeypatch.setattr(SimulatedServer, "finished_since", lambda self, cursor, limit: replace(finished(self, cursor, 7), is_last=True))
    first = run_job_of(run_body, "labelling.pull", "pull-1")
    assert (first["annotations"], first["submitted"], first["open"]) == (7, 3, 21)
    monkeypatch.setattr(SimulatedServer, "finished_since", lambda self, cursor, limit: finished(self, cursor, 5))
    rest = run_job_of(run_body, "labelling.pull", "pull-2")
    assert (rest["annotations"], rest["submitted"], rest["open"]) == (41, 21, 0)


def test_a_broken_annotation_sends_its_scan_back_with_the_reason(chosen, run_body, monkeypatch):
    run_job_of(run_body, "labelling.push", "push-1")
    finished = SimulatedServer.finished_since
    bad = scan_id_of(BAGS[0], "top")
    task_id = rows_of(chosen, "labelling_tasks", scan_id=bad)[0]["task_id"]

    def spoiled(self, cursor, limit):
        page = finished(self, cursor, limit)
        nonsense = ({"category": "knife", "bbox_xywh": [float("nan"), 0, 1, 1]},)
        return replace(page, annotations=tuple(replace(one, boxes=nonsense) if one.task_id == task_id else one for one in page.annotations))

    monkeypatch.setattr(SimulatedServer, "finished_since", spoiled)
    assert run_job_of(run_body, "labelling.pull", "pull-1")["refused"] == 1
    assert rows_of(chosen, "annotations", scan_id=bad) == []
    review = rows_of(chosen, "reviews")[0]
    assert (review["scan_id"], review["verdict"]) == (bad, "returned")
    assert "box 1 is not four finite numbers" in review["reason"]
    assert run_job_of(run_body, "labelling.push", "push-2") == {"tasks": 1, "first_rounds": 0, "later_rounds": 1}


def test_a_scan_that_was_erased_after_being_chosen_is_not_sent(chosen, run_body):
    gone = scan_id_of(BAGS[0], "top")

    def erase(run):
        run.publication.update("scans", key={"scan_id": gone}, expect={"state": "validated"}, set={"state": "erased"}, action="scan.erased")
        return {}

    run_body("test.erase", erase, run_id="erase")
    assert run_job_of(run_body, "labelling.push", "push-1")["tasks"] == 23
    assert rows_of(chosen, "labelling_tasks", scan_id=gone) == []


@pytest.fixture(params=["folder", "s3"])
def server(request, tmp_path):
    url = request.getfixturevalue("s3_url") if request.param == "s3" else (tmp_path / "sim").as_uri()
    truth = open_store((tmp_path / "truth").as_uri())
    for number in range(30):
        truth.put(f"s{number}.json", b'{"boxes": [{"category": "knife", "bbox_xywh": [5, 5, 20, 10]}]}')
    return SimulatedServer(open_store(url), truth, "cabin", ErrorRates(), 0)


def requests_of(first, last):
    return [replace(TASK, task_id=f"t{number}", scan_id=f"s{number}") for number in range(first, last)]


def test_tasks_are_created_once_whoever_asks(server):
    ids = server.create_tasks(requests_of(0, 6))
    assert server.create_tasks(requests_of(3, 9)) | ids == server.create_tasks(requests_of(0, 9))
    assert len(set(server.create_tasks(requests_of(0, 9)).values())) == 9


def test_many_who_create_at_once_create_each_task_once(server):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda first: server.create_tasks(requests_of(first, first + 10)), (0, 5, 10, 15)))
    merged = {}
    for ids in answers:
        assert all(merged.setdefault(task, number) == number for task, number in ids.items())
    assert len(set(merged.values())) == 25
    assert len(server.finished_since(None).annotations) == 50


def test_a_chain_of_pages_gives_every_answer_once(server):
    server.create_tasks(requests_of(0, 4))
    server.create_tasks(requests_of(4, 7))
    whole = server.finished_since(None).annotations
    cursor, found = None, []
    for _ in range(20):
        page = server.finished_since(cursor, 3)
        found += page.annotations
        if page.is_last:
            break
        cursor = page.annotations[-1].cursor
    assert tuple(found) == whole
    assert len(whole) == 14
    assert server.finished_since(whole[-1].cursor).annotations == ()


def test_a_scan_without_truth_stays_unanswered(server, caplog):
    server.create_tasks([replace(TASK, task_id="x", scan_id="nobody-knows"), TASK])
    assert {one.task_id for one in server.finished_since(None).annotations} == {"t0"}
    assert "SCANLOOP_TRUTH_URL" in caplog.text


def test_answers_err_at_the_set_rate_through_the_whole_server(tmp_path):
    truth = open_store((tmp_path / "truth").as_uri())
    truth.put("s0.json", b'{"boxes": [{"category": "knife", "bbox_xywh": [5, 5, 20, 10]}]}')
    server = SimulatedServer(open_store((tmp_path / "sim").as_uri()), truth, "cabin", ErrorRates(miss=0.2, spurious=0, swap=0), 1)
    server.create_tasks([replace(TASK, task_id=f"t{number}", round=number) for number in range(400)])
    missed = sum(not one.boxes for one in server.finished_since(None, 1000).annotations)
    interval = binomtest(missed, 800).proportion_ci(0.9999)
    assert interval.low <= 0.2 <= interval.high
