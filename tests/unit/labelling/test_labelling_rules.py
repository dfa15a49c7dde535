from __future__ import annotations

import pytest

from scanloop.errors import WrongArguments
from scanloop.labelling.checks import MAX_BOXES, clipped, problems_of
from scanloop.labelling.pull import Imported, judge, up_to_unknown
from scanloop.labelling.server import FinishedAnnotation, open_labelling
from scanloop.labelling.tasks import MAX_ROUNDS, WantedTask, next_tasks, verdict_of_failure

NOTHING = Imported(frozenset(), {})


def box(category="knife", bbox=(1, 2, 3, 4)):
    return {"category": category, "bbox_xywh": list(bbox)}


def wanted(scan="s", version="1", round_number=1):
    return WantedTask("cabin", scan, version, round_number, "sel", ("knife",), "t-1")


def finished(task="t", author="ann", version="1", boxes=(), cursor="0:1"):
    return FinishedAnnotation(task, author, version, tuple(boxes), 5.0, cursor)


def task_row(**changes):
    row = {"task_id": "t", "scan_id": "s", "product_line": "cabin", "round": 1, "assignees": 2, "state": "open"}
    return row | {"attributes": {"looked_for": ["knife"], "height_px": 50, "width_px": 80}} | changes


@pytest.mark.parametrize(
    ("boxes", "author", "says"),
    [
        ([box(bbox=(float("nan"), 0, 1, 1))], "ann", "four finite numbers"),
        ([box(bbox=(0, 0, float("inf"), 1))], "ann", "four finite numbers"),
        ([box(bbox=(0, 0, 1))], "ann", "four finite numbers"),
        ([box(bbox=("0", 0, 1, 1))], "ann", "four finite numbers"),
        ([box(bbox=(True, 0, 1, 1))], "ann", "four finite numbers"),
        ([box(bbox=(10**400, 0, 1, 1))], "ann", "four finite numbers"),
        ([{"category": "knife"}], "ann", "four finite numbers"),
        ([box(bbox=(0, 0, 0, 5))], "ann", "empty"),
        ([box(bbox=(5, 5, -2, 5))], "ann", "empty"),
        ([box(bbox=(-9, 0, 20, 5))], "ann", "outside"),
        ([box(bbox=(70, 0, 20, 5))], "ann", "outside"),
        ([box(bbox=(80, 0, 0.5, 5))], "ann", "outside"),
        ([box("grenade")], "ann", "nobody was asked"),
        ([box(None)], "ann", "nobody was asked"),
        ([box("<script>alert(1)</script>")], "ann", "nobody was asked"),
        ([box()] * (MAX_BOXES + 1), "ann", "boxes; at most"),
        ([], "<script>", "not a name"),
        ([], "", "not a name"),
        ([], "a\nb", "not a name"),
        ([], "x" * 101, "not a name"),
    ],
)
def test_what_is_no_annotation_is_named(boxes, author, says):
    assert says in "; ".join(problems_of(boxes, author, ["knife"], 50, 80))


def test_a_box_at_the_edge_is_cut_there():
    boxes = [box(bbox=(-0.5, 49, 80.9, 1.5))]
    assert problems_of(boxes, "Ann O. Tator", ["knife"], 50, 80) == []
    assert clipped(boxes, 50, 80)[0].bbox_xywh == (0.0, 49.0, 80.0, 1.0)


def test_next_tasks_are_first_rounds_and_returns_without_what_exists():
    returned = wanted("b", round_number=1)
    first = wanted("a")
    tasks = next_tasks([first, first, wanted("c")], [returned], {wanted("c").task_id})
    assert sorted((task.scan_id, task.round) for task in tasks) == [("a", 1), ("b", 2)]


def test_the_last_round_does_not_go_round_again():
    assert next_tasks([], [wanted(round_number=MAX_ROUNDS)], ()) == []
    assert [verdict_of_failure(number) for number in (1, 2, 3)] == ["returned", "returned", "escalated"]


def test_a_backfill_asks_another_question_about_the_same_scan():
    assert len({wanted().task_id, wanted(version="1+knife").task_id, wanted(round_number=2).task_id, wanted("other").task_id}) == 4


def test_a_task_is_submitted_when_everybody_is_in():
    one = judge([finished()], {"t": task_row()}, NOTHING, tool="x", taxonomy="t-1")
    assert (len(one.rows), one.submitted) == (1, [])
    earlier = Imported(frozenset({one.rows[0]["annotation_id"]}), {"t": {"ann": one.rows[0]["annotation_id"]}})
    two = judge([finished(), finished(author="bob")], {"t": task_row()}, earlier, tool="x", taxonomy="t-1")
    assert ([row["author"] for row in two.rows], two.submitted) == (["bob"], ["t"])


def test_the_same_author_twice_is_one_author_and_the_later_version_supersedes():
    found = judge([finished(), finished(version="2", boxes=[box()])], {"t": task_row()}, NOTHING, tool="x", taxonomy="t-1")
    assert found.submitted == []
    assert [row["supersedes"] for row in found.rows] == [None, found.rows[0]["annotation_id"]]


def test_an_old_version_that_is_read_again_changes_nothing():
    first = judge([finished(), finished(version="2")], {"t": task_row()}, NOTHING, tool="x", taxonomy="t-1").rows
    known = Imported(frozenset(row["annotation_id"] for row in first), {"t": {"ann": first[1]["annotation_id"]}})
    assert judge([finished()], {"t": task_row()}, known, tool="x", taxonomy="t-1").rows == []


def test_a_broken_annotation_sends_an_open_task_back_and_leaves_a_decided_one():
    broken = finished(boxes=[box("grenade")])
    assert list(judge([broken, finished(author="bob")], {"t": task_row()}, NOTHING, tool="x", taxonomy="t-1").refused) == ["t"]
    decided = judge([broken], {"t": task_row(state="accepted")}, NOTHING, tool="x", taxonomy="t-1")
    assert (decided.rows, decided.refused) == ([], {})


def test_reading_stops_before_a_task_that_the_catalog_does_not_know():
    found = [finished("t", cursor="1"), finished("unknown", cursor="2"), finished("t", author="bob", cursor="3")]
    assert [item.cursor for item in up_to_unknown(found, {"t": task_row()})] == ["1"]


@pytest.mark.parametrize(
    ("url", "says"), [("label-studio+https://host", "not available"), ("https://host", "must start with simulated:"), ("", "must start")]
)
def test_another_labelling_server_is_refused_in_one_sentence(store, url, says):
    with pytest.raises(WrongArguments, match=says):
        open_labelling(url, project="cabin", store=store, truth_url="file:///nowhere")
