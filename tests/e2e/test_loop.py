"""Every job by its command, run in order as a person would type them: from a delivery to a device that answers a scan."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.invariants import check_all
from harness.loop import BAGS, KEY, Results, run_stage, stages
from harness.world import World
from harness.zygote import Done

SCANLOOP = str(Path(sys.executable).with_name("scanloop"))


def _type(arguments: list[str], environment: dict[str, str], folder: Path) -> Done:
    """Run the installed command in a process of its own."""
    done = subprocess.run([SCANLOOP, *arguments], env=environment, cwd=folder.parent, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def world(database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A deployment in which the whole loop was run once."""
    world = World(tmp_path_factory.mktemp("e2e") / "world", database_template, _type).create()
    for stage in stages():
        done = run_stage(world, stage)
        assert done.code != 0 or done.stdout.count("\n") == 1, f"{stage.name} prints more than its result: {done.stdout[:300]}"
    yield world
    world.destroy()


@pytest.fixture
def results(world: World) -> Results:
    """What each command printed."""
    return world.results


def test_everything_delivered_is_a_scan_a_duplicate_or_in_quarantine(results: Results) -> None:
    delivered, shards = results["simulate.deliver"], [results[f"ingest.shard.{number}"] for number in range(2)]
    assert delivered["bags"] == BAGS
    assert delivered["scans"] == 2 * BAGS == sum(shard["scans"] for shard in shards)
    assert sum(shard["duplicates"] for shard in shards) == delivered["duplicates"] == 1
    assert sum(shard["quarantined"] for shard in shards) == delivered["broken"] == 2
    assert sum(shard["reports"] for shard in shards) == delivered["reports"] == results["ingest.reports"]["matched"] > 0
    assert results["ingest.plan"]["deliveries"] == delivered["delivered"]
    assert results["ingest.acknowledge"] == {
        "acknowledged": delivered["delivered"] + delivered["sidecars"],
        "kept": 0,
        "waiting_sidecars": 0,
    }


def test_the_landing_zone_is_empty_afterwards(world: World) -> None:
    assert [path for path in (world.home / "landing").rglob("*") if path.is_file() and ".scanloop-aside" not in path.parts] == []


def test_labels_are_asked_for_given_checked_and_asked_for_again(results: Results) -> None:
    scans = results["validation.run"]["validated"]
    assert results["validation.run"]["product_lines"] == [KEY]
    assert results["selection.create"]["chosen"] == results["labelling.push"]["tasks"] == results["labelling.pull"]["submitted"] == scans
    assert results["labelling.pull"]["annotations"] == 2 * scans
    review = results["review.run"]
    assert review["accepted"] + review["returned"] + review["escalated"] == scans
    assert 0 < review["returned"] == results["labelling.push.again"]["later_rounds"] == results["labelling.pull.again"]["submitted"]


def test_the_snapshot_holds_what_was_accepted(results: Results) -> None:
    counts = results["snapshot.create"]["counts"]
    assert counts["accepted"] == results["review.run"]["accepted"] + results["review.run.again"]["accepted"]
    assert all(counts["splits"][split]["scans"] > 0 for split in ("train", "val", "test"))


def test_model_evaluation_decision_and_champion_are_of_one_another(results: Results) -> None:
    model, evaluation = results["model.train"], results["evaluation.run"]
    decision, champion = results["promotion.compare"], results["promotion.promote"]
    assert model["snapshot_id"] == evaluation["snapshot_id"] == results["snapshot.create"]["snapshot_id"]
    assert model["model_id"] == evaluation["model_id"] == decision["candidate_id"] == champion["champion"]
    assert (decision["verdict"], decision["champion_id"], champion["sequence"]) == ("promote", None, 1)
    assert evaluation["clean_bags"] > 0
    assert 0 <= evaluation["pfa"] <= evaluation["pfa_upper"] <= 1


def test_the_release_is_signed_and_the_device_runs_it(results: Results, world: World) -> None:
    assert results["release.export"]["parity"]["holds"] is True
    assert results["release.sign"]["released"] == [results["release.export"]["release_id"]]
    assert (results["release.publish"]["state"], results["release.publish"]["version"]) == ("released", 1)
    assert results["edge.update"]["model_id"] == results["model.train"]["model_id"]
    answer = results["edge.answer"]
    assert (answer["model_id"], answer["release_version"]) == (results["model.train"]["model_id"], 1)
    assert answer["decision"] in {"CLEAR", "THREAT", "UNKNOWN"}
    assert (world.home / "report.dcs").read_bytes()[128:132] == b"DICM"


def test_what_is_still_due_is_what_review_sent_back(results: Results) -> None:
    assert results["product-line.due"]["product_lines"] == [KEY]
    assert results["review.run.again"]["returned"] > 0


def test_the_answered_scan_is_traced_to_the_device_that_answered(world: World, results: Results) -> None:
    device = results["edge.enrol"]["device_id"]
    done = world.run(["trace", results["edge.answer"]["scan_id"], "--json", "--limit=200"])
    assert done.code == 0, done.stderr
    nouns = {node["noun"] for node in json.loads(done.stdout)["nodes"]}
    reached = {"site", "bag", "delivery", "scan", "selection", "task", "annotation", "review"}
    assert reached <= nouns
    trace = json.loads(world.run(["trace", results["release.export"]["release_id"], "--json", "--limit=500"]).stdout)
    nouns = {node["noun"] for node in trace["nodes"]}
    assert {*reached, "snapshot", "model", "evaluation", "decision", "champion", "run"} <= nouns
    found = json.loads(world.run(["trace", device, "--json"]).stdout)
    assert found["origin"] == f"device:{device}"


def test_the_audit_log_verifies_and_every_invariant_holds(world: World) -> None:
    done = world.run(["audit", "verify"])
    assert done.code == 0, done.stderr
    assert done.result["violations"] == 0
    assert done.result["entries"] > 300
    assert check_all(world) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "plan"], "nothing new lies in the landing zone"),
        (["validation", "run"], ""),
        (["snapshot", "create", f"--product-line={KEY}"], ""),
        (["release", "export", f"--product-line={KEY}"], "already"),
        (["definitions", "apply"], "every definition is already active"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_second_round_with_nothing_new_has_nothing_to_do(world: World, arguments: list[str], said: str) -> None:
    if arguments[:2] == ["definitions", "apply"]:
        arguments = [*arguments, f"--folder={world.folder / 'product_lines'}"]
    done = world.run(arguments)
    assert done.code == 99, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Nothing to do: ")
    assert said in last
