"""`scanloop trace`: from any noun to every other, over a catalog in which one history is known by heart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of, scan_id_of

from scanloop.catalog.trace import NOUNS, RULES, Node, find, follow
from scanloop.catalog.trace_snapshots import membership
from scanloop.cli.options import World
from scanloop.errors import WrongArguments
from scanloop.execution import JobRun

SCANLOOP = str(Path(sys.executable).with_name("scanloop"))
BAGS = [f"bag-{number:02}" for number in range(12)]
RunBody = Callable[..., dict[str, Any]]


DELIVERY = {"delivery_id": "delivery-1", "landing_key": "ams/a/x.dcs", "site_id": "ams", "size_bytes": 3, "outcome": "scan"}
MODEL = {"model_id": "model-1", "config_key": "k", "weights_key": "k", "recipe": "rtmdet_tiny", "state": "champion"}
EVALUATION = {"evaluation_id": "evaluation-1", "model_id": "model-1", "results_key": "k", "outcomes_key": "k", "report_key": "k"}
EVIDENCE = {"evidence_key": "k", "evidence_sha256": "0"}
DECISION = {
    "decision_id": "decision-1",
    "candidate_id": "model-1",
    "verdict": "promote",
    "needs_approval": False,
    "reasons": [],
    **EVIDENCE,
}
BUNDLE = {"bundle_key": "k", "bundle_sha256": "0"}
RELEASE = {"release_id": "release-1", "model_id": "model-1", "version": 1, "channel": "stable", "state": "released", **BUNDLE}
DEVICE = {
    "device_id": "device-1",
    "site_id": "ams",
    "product_lines": ["cabin"],
    "channel": "stable",
    "public_key": "p",
    "state": "enrolled",
}


def _adding(table: str, row: dict[str, Any]) -> Callable[[JobRun], dict[str, Any]]:
    def body(run: JobRun) -> dict[str, Any]:
        run.publication.insert(table, [row], action=f"{table}.added", subject=next(iter(row)))
        return {}

    return body


@pytest.fixture
def history(world: World, run_body: RunBody) -> dict[str, str]:
    """Twelve bags, received, labelled, frozen, trained on, evaluated, promoted, released and installed; ids by noun."""
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "round")
    snapshot = run_job_of(run_body, "snapshot.create", "run-snapshot")["snapshot_id"]
    scan = scan_id_of(BAGS[0], "side")
    line = {"product_line": "cabin"}
    for run_id, table, row in (
        ("run-ingest", "deliveries", {**DELIVERY, "scan_id": scan, "content_sha256": scan}),
        ("run-train", "models", {**MODEL, **line, "snapshot_id": snapshot}),
        ("run-evaluate", "evaluations", {**EVALUATION, **line, "snapshot_id": snapshot}),
        ("run-compare", "decisions", {**DECISION, **line, "snapshot_id": snapshot}),
        ("run-promote", "champion_history", {**line, "sequence": 1, "model_id": "model-1", "decision_id": "decision-1"}),
        ("run-release", "releases", {**RELEASE, **line}),
        ("run-enrol", "devices", DEVICE),
        ("run-report", "device_reports", {"report_id": "report-1", "device_id": "device-1", "release_version": 1, "model_id": "model-1"}),
    ):
        run_body("test.note", _adding(table, row), run_id=run_id)
    task = rows_of(world, "labelling_tasks", scan_id=scan, round=1)
    review = rows_of(world, "reviews", scan_id=scan, verdict="accepted")
    return {
        "site": "ams", "scanner": rows_of(world, "scans", scan_id=scan)[0]["scanner_id"], "bag": BAGS[0], "delivery": "delivery-1", "scan": scan,
        "selection": rows_of(world, "selections")[0]["selection_id"], "task": task[0]["task_id"], "review": review[0]["review_id"],
        "annotation": review[0]["annotation_id"], "snapshot": snapshot, "model": "model-1", "evaluation": "evaluation-1",
        "decision": "decision-1", "champion": "cabin/1", "release": "release-1", "device": "device-1",
    }  # fmt: skip


def _around(world: World, origin: Node, limit: int = 1000) -> tuple[set[Node], set[Node]]:
    """Everything upstream and everything downstream of `origin`."""

    def below(branch: Any) -> set[Node]:
        return {branch.node}.union(*map(below, branch.branches))

    with world.catalog.read() as connection:
        found = follow(connection, origin, membership(world.store, connection), limit=limit)
    return below(found.upstream) - {origin}, below(found.downstream) - {origin}


CHAIN = (
    "site",
    "bag",
    "scan",
    "task",
    "review",
    "annotation",
    "snapshot",
    "model",
    "evaluation",
    "decision",
    "champion",
    "release",
    "device",
)


def test_every_noun_leads_to_every_other_of_its_history(world: World, history: dict[str, str], subtests: pytest.Subtests) -> None:
    place = {**{name: number for number, name in enumerate(CHAIN)}, "delivery": 1, "scanner": 1}
    apart = ({"delivery", "bag"}, {"delivery", "site"}, {"scanner", "bag"})
    for noun, here in place.items():
        upstream, downstream = _around(world, Node(noun, history[noun]))
        for other in CHAIN:
            node = Node(other, history[other])
            if other == noun or {noun, other} in apart:
                continue
            with subtests.test(noun=noun, other=other):
                assert (node in upstream) == (place[other] < here)
                assert (node in downstream) == (place[other] > here)


def test_a_scan_did_not_come_from_the_scans_that_were_chosen_with_it(world: World, history: dict[str, str]) -> None:
    for noun in ("scan", "task", "annotation", "review"):
        upstream, _ = _around(world, Node(noun, history[noun]))
        assert {node.id for node in upstream if node.noun == "bag"} <= {history["bag"]}, noun
    _, downstream = _around(world, Node("scan", history["scan"]))
    assert Node("selection", history["selection"]) in downstream
    assert {node.id for node in downstream if node.noun == "task"} == {
        row["task_id"] for row in rows_of(world, "labelling_tasks", scan_id=history["scan"])
    }


def test_a_selection_leads_both_ways_when_it_is_what_was_asked_for(world: World, history: dict[str, str]) -> None:
    upstream, downstream = _around(world, Node("selection", history["selection"]))
    chosen = {row["scan_id"] for row in rows_of(world, "selection_items", is_chosen=True)}
    assert {node.id for node in upstream if node.noun == "scan"} == chosen
    assert {Node("task", history["task"]), Node("snapshot", history["snapshot"]), Node("device", "device-1")} <= downstream


def test_a_snapshot_came_from_exactly_what_its_manifest_names(world: World, history: dict[str, str]) -> None:
    from scanloop.snapshots.manifest import load_snapshot

    upstream, _ = _around(world, Node("snapshot", history["snapshot"]))
    rows = list(load_snapshot(world.store, history["snapshot"]).rows())
    assert {node.id for node in upstream if node.noun == "scan"} == {row.scan_id for row in rows}
    consensus = {row["annotation_id"] for row in rows_of(world, "annotations", author_kind="consensus")}
    assert {node.id for node in upstream if node.noun == "annotation"} & consensus == {each for row in rows for each in row.annotation_ids}


def test_a_run_leads_to_what_it_made_and_to_the_runs_before_it(world: World, history: dict[str, str]) -> None:
    from scanloop.execution import RunIdentity, execute

    identity = RunIdentity("run-after", "test.note", actor="test", consumed=("run-train",))
    execute(lambda run: {}, identity, settings=world.settings, store=world.store, catalog=world.catalog)
    upstream, downstream = _around(world, Node("run", "run-train"))
    assert upstream == set()
    assert {Node("model", "model-1"), Node("device", "device-1"), Node("run", "run-after")} <= downstream
    assert _around(world, Node("run", "run-after"))[0] == {Node("run", "run-train")}
    assert Node("run", "run-train") in _around(world, Node("evaluation", "evaluation-1"))[0]


def test_what_is_left_out_is_counted(world: World, history: dict[str, str]) -> None:
    with world.catalog.read() as connection:
        found = follow(connection, Node("site", "ams"), limit=5)
    assert [each.node.noun for each in found.downstream.branches].count("bag") == 5
    assert found.downstream.left_out["bag"] == len(BAGS) - 5


def test_every_noun_has_rules_and_every_rule_reads(world: World) -> None:
    with world.catalog.read() as connection:
        for rule in RULES:
            assert rule.on(connection).neighbours("nothing", "upstream", 3) == ([], 0)
            assert rule.on(connection).neighbours("nothing", "downstream", 3) == ([], 0)
    assert {rule.upstream for rule in RULES} | {rule.downstream for rule in RULES} == set(NOUNS)


def test_the_first_characters_of_an_id_are_enough(world: World, history: dict[str, str]) -> None:
    with world.catalog.read() as connection:
        for length in (6, 12, 64):
            assert find(connection, history["scan"][:length]) == Node("scan", history["scan"])
        assert find(connection, f"scan:{history['scan'][:3]}") == Node("scan", history["scan"])
        assert find(connection, "site:ams") == Node("site", "ams")


def test_what_cannot_be_found_is_said(world: World, history: dict[str, str], subtests: pytest.Subtests) -> None:
    for wanted, said in (
        ("bag-0", "'bag-0' is too short: give at least 6 characters"),
        ("bag:bag-", "names more than one thing: bag:bag-00, bag:bag-01, .*, …"),
        ("ffffff_nothing", "Nothing in the catalog has an id that starts with 'ffffff_nothing'"),
        ("model:device-1", "Nothing in the catalog has an id that starts with 'device-1' among models"),
        ("device%", "Nothing in the catalog has an id"),
    ):
        with subtests.test(wanted=wanted), world.catalog.read() as connection, pytest.raises(WrongArguments, match=said):
            find(connection, wanted)


def test_the_command_prints_a_tree_and_json(world: World, history: dict[str, str], environment: dict[str, str]) -> None:
    wide = environment | {"COLUMNS": "200", "NO_COLOR": "1"}
    tree = subprocess.run([SCANLOOP, "trace", "model-1"], env=wide, capture_output=True, text=True, check=True).stdout
    came, went = tree.split("went into")
    assert "model model-1 product_line cabin, recipe rtmdet_tiny, state champion" in came
    assert "came from" in came
    assert history["snapshot"][:12] in came
    assert "device device-1" in went
    assert " more of scan" in came
    as_json = subprocess.run([SCANLOOP, "trace", "model-1", "--json", "--limit=100"], env=wide, capture_output=True, text=True, check=True)
    content = json.loads(as_json.stdout)
    assert content["origin"] == "model:model-1"
    assert content["left_out"] == []
    assert {"from": f"snapshot:{history['snapshot']}", "to": "model:model-1"} in content["edges"]
    assert {"from": "release:release-1", "to": "device:device-1"} in content["edges"]
    named = {f"{node['noun']}:{node['id']}" for node in content["nodes"]}
    assert {end for edge in content["edges"] for end in edge.values()} <= named
