"""Orders that must hold over the whole loop, through tasks and assets."""

from __future__ import annotations

from dataclasses import replace

import airflow_here  # noqa: F401
import pytest
from loop_graph import WAITS_FOR_ALL, Loop, emitted_by, waited_for

from scanloop_dags import assets

ORDERS = [
    ("ingest before validate", "ingest_scans.ingest_shard", "validate_scans.run_suites"),
    ("validate before curate", "validate_scans.run_suites", "curate_scans.create_selection"),
    ("push before pull", "sync_annotations.push_tasks", "sync_annotations.pull_annotations"),
    ("pull before review", "sync_annotations.pull_annotations", "review_annotations.review"),
    ("review before snapshot", "review_annotations.review", "snapshot_datasets.create_snapshot"),
    ("snapshot before train", "snapshot_datasets.create_snapshot", "train_detector.train"),
    ("evaluate before compare", "train_detector.evaluate", "train_detector.compare"),
    ("compare before promote", "train_detector.compare", "train_detector.promote"),
    ("evaluate before promote", "train_detector.evaluate", "train_detector.promote"),
    ("approve before promote", "train_detector.approve", "train_detector.promote"),
    ("promote before export", "train_detector.promote", "publish_release.export"),
    ("export before publish", "publish_release.export", "publish_release.publish"),
    ("review before publish", "review_annotations.review", "publish_release.publish"),
    ("compare before publish", "train_detector.compare", "publish_release.publish"),
]


@pytest.fixture(scope="module")
def loop(dags) -> Loop:
    """The loop as deliveries and backfills drive it: without `due`, which lets a DAG take up what an earlier run left."""
    return Loop.of(dags).without("due")


@pytest.mark.parametrize(("first", "second"), [order[1:] for order in ORDERS], ids=[order[0] for order in ORDERS])
def test_order_holds(loop: Loop, first: str, second: str) -> None:
    assert first in loop.always_before(second)


def test_what_a_delivery_becomes_passed_every_step(dags) -> None:
    deliveries_alone = replace(
        Loop.of(dags).without("due"), emitters={**Loop.of(dags).emitters, "selections": frozenset({"curate_scans.create_selection"})}
    )
    before = deliveries_alone.always_before("publish_release.publish")
    assert {step.split(".")[0] for step in before} == set(dags) - {
        "wake_product_lines",
        "backfill_category",
        "watch_fleet",
        "sync_tracking",
    }


def test_waking_and_backfills_never_skip_a_judgement(dags) -> None:
    before = Loop.of(dags).always_before("publish_release.publish")
    assert {"train_detector.evaluate", "train_detector.compare", "train_detector.promote", "publish_release.export"} <= before


@pytest.mark.parametrize(
    ("cut", "first", "second"),
    [
        ("train_detector.compare", "train_detector.evaluate", "train_detector.compare"),
        ("publish_release.publish", "publish_release.export", "publish_release.publish"),
    ],
)
def test_the_check_notices_a_missing_dependency(loop: Loop, cut: str, first: str, second: str) -> None:
    loose = replace(loop, upstream={**loop.upstream, cut: loop.upstream[cut] - {first}}, _known={})
    assert first not in loose.always_before(second)


def test_the_check_notices_a_second_way_in(loop: Loop) -> None:
    looser = replace(loop, emitters={**loop.emitters, "snapshots": loop.emitters["snapshots"] | {"ingest_scans.plan"}}, _known={})
    assert "review_annotations.review" not in looser.always_before("train_detector.train")


def test_every_task_waits_for_all_before_it(dags) -> None:
    assert {task.trigger_rule.value for dag in dags.values() for task in dag.tasks} <= set(WAITS_FOR_ALL)


def test_landing_zone_is_emptied_after_every_shard(dags) -> None:
    acknowledge = dags["ingest_scans"].get_task("acknowledge")
    assert acknowledge.upstream_task_ids == {"ingest_shard"}
    assert acknowledge.trigger_rule == "all_done_min_one_success"


def test_reports_are_matched_after_every_shard_and_hold_nothing_up(dags) -> None:
    matching = dags["ingest_scans"].get_task("match_reports")
    assert matching.upstream_task_ids == {"ingest_shard"}
    assert matching.trigger_rule == "all_done_min_one_success"
    assert not matching.downstream_task_ids


def test_a_failed_shard_fails_its_run(dags) -> None:
    last = dags["ingest_scans"].get_task("every_shard")
    assert last.upstream_task_ids == {"ingest_shard"}
    assert last.trigger_rule == "all_success"
    assert not last.downstream_task_ids, "only the state of a leaf decides the state of a run"


def test_promotion_follows_an_approval_or_a_comparison_that_needs_none(dags) -> None:
    promote = dags["train_detector"].get_task("promote")
    assert promote.upstream_task_ids == {"compare", "approve"}
    assert promote.trigger_rule == "none_failed_min_one_success"


class TestAssets:
    def test_each_is_emitted_and_waited_for_as_its_table_says(self, dags) -> None:
        said = {}
        for line in assets.__doc__.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 3 and cells[0].startswith("`"):
                name, by, to = ({word.strip("`") for word in cell.split(", ")} - {"—"} for cell in cells)
                said[next(iter(name))] = (by, to)
        found = {
            name: (
                {dag.dag_id for dag in dags.values() if name in emitted_by(dag)},
                {dag.dag_id for dag in dags.values() if name in waited_for(dag)},
            )
            for name in said
        }
        assert found == said
        assert set(said) == {name for dag in dags.values() for name in emitted_by(dag) | waited_for(dag)}

    def test_none_is_emitted_twice_in_one_dag(self, dags) -> None:
        for dag in dags.values():
            emitted = [asset.name for task in dag.tasks for asset in task.outlets]
            assert len(emitted) == len(set(emitted)), dag.dag_id

    def test_every_asset_but_scans_is_keyed(self, dags) -> None:
        named = {name for dag in dags.values() for name in emitted_by(dag)}
        assert named - {asset.name for asset in assets.KEYED} == {"scans"}
