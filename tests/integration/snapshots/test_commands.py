"""The commands of these rooms: exit codes, one JSON line on standard output, one sentence on standard error."""

from __future__ import annotations

import json

import pytest
from small_world import add_bags, define, label_everything, rows_of

from scanloop.cli.main import run

BAGS = [f"bag-{number}" for number in range(24)]


@pytest.fixture
def command(environment, monkeypatch, capsys):
    """Run a command line; gives the exit code, standard output and standard error."""
    for name, value in environment.items():
        if name.startswith("SCANLOOP_"):
            monkeypatch.setenv(name, value)

    def invoke(*arguments):
        code = run(list(arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return invoke


@pytest.fixture
def ready(run_body, world):
    define(run_body)
    add_bags(run_body, world, BAGS)
    return world


def keyed(*arguments):
    return (*arguments, "--product-line", "cabin")


def test_the_loop_from_selection_to_snapshot_by_its_commands(ready, command, tmp_path):
    results = {}
    for group, verb in (("selection", "create"), ("labelling", "push"), ("labelling", "pull"), ("review", "run"), ("snapshot", "create")):
        code, out, _ = command(*keyed(group, verb), "--run-id", "dag-run-1")
        assert code == 0
        (line,) = out.splitlines()
        results[f"{group} {verb}"] = json.loads(line)
        again, out_again, _ = command(*keyed(group, verb), "--run-id", "dag-run-1")
        assert (again, out_again) == (0, out), "the same run gives the same result"
    assert results["selection create"]["chosen"] == results["labelling push"]["tasks"] == 48
    assert results["labelling pull"] | {"annotations": 96, "open": 0} == results["labelling pull"]
    assert sum(results["review run"].values()) == 48

    snapshot_id = results["snapshot create"]["snapshot_id"]
    code, out, _ = command("snapshot", "show", snapshot_id[:10])
    assert code == 0
    assert "clean bags" in out
    code, out, _ = command("snapshot", "show", snapshot_id, "--json")
    assert json.loads(out)["counts"] == results["snapshot create"]["counts"]
    code, out, _ = command("snapshot", "verify", snapshot_id)
    assert json.loads(out) == {
        "snapshot_id": snapshot_id,
        "scans": results["snapshot create"]["counts"]["scans"],
        "shards": 4,
        "violations": 0,
    }
    code, out, _ = command("snapshot", "export", snapshot_id, "--out", str(tmp_path / "coco"))
    exported = json.loads((tmp_path / "coco" / "test.json").read_text())
    assert len(exported["images"]) == results["snapshot create"]["counts"]["splits"]["test"]["scans"]
    code, out, _ = command("selection", "explain", results["selection create"]["selection_id"][:8])
    assert (code, "48 of 48 scans chosen" in out) == (0, True)
    code, out, _ = command("selection", "explain", results["selection create"]["selection_id"], "--json")
    assert len(json.loads(out)["items"]) == 48
    code, out, _ = command("selection", "replay", results["selection create"]["selection_id"])
    assert json.loads(out)["is_same"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (keyed("labelling", "pull"), "Nobody finished anything new for cabin; 0 tasks are open"),
        (keyed("snapshot", "create"), "0 accepted scans; a snapshot needs 1, 1 more"),
    ],
    ids=["pull", "snapshot"],
)
def test_nothing_to_do_is_99_and_one_sentence(ready, command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (99, "")
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("selection", "create", "--product-line", "nope"), "Unknown product line 'nope'"),
        (("selection", "explain", "nope"), "No selection begins with 'nope'"),
        (("snapshot", "show", "nope"), "No snapshot begins with 'nope'"),
        (("snapshot", "show", "%"), "No snapshot begins with '%'"),
        (keyed("backfill", "plan", "--category", "grenade"), "does not look for 'grenade'"),
        (keyed("backfill", "plan", "--category", "knife", "--budget", "0"), "--budget"),
        (keyed("backfill", "plan", "--category", "knife", "--since", "tomorrow"), "--since"),
        (keyed("backfill", "plan"), "--category"),
    ],
)
def test_wrong_arguments_are_64_and_one_sentence(ready, command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (64, "")
    assert says in err


@pytest.mark.parametrize("url", ["label-studio+https://host", "simulated:?miss=7", "ftp://x"])
def test_a_wrong_labelling_url_is_64_and_names_the_setting(ready, command, monkeypatch, url):
    monkeypatch.setenv("SCANLOOP_LABELLING_URL", url)
    code, _, err = command(*keyed("labelling", "push"))
    assert code == 64
    assert "SCANLOOP_LABELLING_URL" in err


def test_a_damaged_snapshot_is_65(ready, run_body, command):
    label_everything(run_body, "one")
    code, out, _ = command(*keyed("snapshot", "create"))
    snapshot_id = json.loads(out)["snapshot_id"]
    shard = next(iter(ready.store.list("snapshots/shards/")))
    ready.store.put(shard.key, ready.store.get(shard.key)[:-1] + b"x")
    code, _, err = command("snapshot", "verify", snapshot_id)
    assert code == 65
    assert "does not have the digest" in err


def test_a_backfill_is_planned_by_its_command(ready, command):
    code, out, _ = command(
        *keyed("backfill", "plan", "--category", "knife", "--budget", "6", "--since", "2026-01-01", "--until", "2027-01-01")
    )
    assert code == 0
    assert json.loads(out)["chosen"] == 6
    assert rows_of(ready, "selections")[0]["parameters"]["since"] == "2026-01-01T00:00:00+00:00"
