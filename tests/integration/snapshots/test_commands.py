"""The commands of these rooms: exit codes, one JSON line on standard output, one sentence on standard error."""

from __future__ import annotations

import hashlib
import json

import pytest
from small_world import add_bags, define, label_everything, rows_of

from scanloop.cli.main import run
from scanloop.product_lines import ProductLine
from scanloop.snapshots.build import build_root
from scanloop.snapshots.collect import labelled_scans, records_of

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


def test_the_balance_is_shown_and_drawn_and_versions_are_compared(ready, command, run_body, world, tmp_path):
    label_everything(run_body, "one")
    first = json.loads(command(*keyed("snapshot", "create"), "--run-id", "snap-1")[1])["snapshot_id"]
    code, out, _ = command("snapshot", "show", first[:12], "--picture", str(tmp_path / "balance.png"))
    assert code == 0
    assert "acme-one-a" in out
    assert "→" in out
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")
    balance = json.loads(command("snapshot", "show", first, "--json")[1])["balance"]
    assert balance["columns"] == ["handgun", "knife", "nothing"]
    boxed = json.loads(command("snapshot", "show", first, "--json")[1])["counts"]["splits"]["train"]["scans"]
    assert sum(map(sum, balance["before"])) >= boxed
    add_bags(run_body, world, ["new-1", "new-2"], run_id="ingest-2")
    label_everything(run_body, "two")
    second = json.loads(command(*keyed("snapshot", "create"), "--run-id", "snap-2")[1])["snapshot_id"]
    code, out, _ = command("snapshot", "verify", second, "--with-parents")
    assert (code, json.loads(out)["violations"]) == (0, 0)
    for name, found in (("cabin@1", first), ("cabin@2", second), ("cabin@latest", second)):
        assert json.loads(command("snapshot", "show", name, "--json")[1])["snapshot_id"] == found
    for name, says in (
        ("cabin@3", "cabin has no snapshot 3"),
        ("hold@latest", "hold has no snapshot yet"),
        ("cabin@", "No snapshot begins"),
    ):
        code, _, err = command("snapshot", "show", name)
        assert (code, says in err) == (64, True), err


def test_a_snapshot_that_leaks_from_its_parent_is_told(ready, command, run_body, world):
    """Two snapshots made apart, the second of which is then said to follow the first."""
    label_everything(run_body, "one")
    first = json.loads(command(*keyed("snapshot", "create"), "--run-id", "snap-1")[1])["snapshot_id"]
    definition = next(row["definition"] for row in rows_of(world, "product_lines"))
    other = ProductLine.model_validate(definition | {"snapshot": definition["snapshot"] | {"seed": 77}})
    with world.catalog.read() as connection:
        built = build_root(records_of(labelled_scans(connection, other), other), other, None)
    for data in built.new_files.values():
        world.store.put_content("snapshots/shards", data, ".parquet")
    content = built.root.to_bytes()
    forged = hashlib.sha256(content).hexdigest()
    stored = world.store.put(f"snapshots/roots/{forged}.json", content)
    row = next(iter(rows_of(world, "snapshots"))) | {"snapshot_id": forged, "parent_id": first, "root_key": stored.key, "sequence": 2}
    del row["created_at"], row["run_id"]

    def insert(run):
        run.publication.insert("snapshots", [row], action="snapshot.created", subject="snapshot_id")
        return {}

    run_body("test.forge", insert, run_id="forge")
    assert command("snapshot", "verify", forged)[0] == 0
    code, _, err = command("snapshot", "verify", forged, "--with-parents")
    assert code == 65
    assert " was in train and is in test." in err or " was in test and is in train." in err


def test_clearing_up(ready, command, world):
    assert command("snapshot", "gc")[0] == 99
    stray = world.store.put("snapshots/shards/aa/stray.parquet", b"x")
    code, out, err = command("snapshot", "gc", "--dry-run", "--min-age-h", "0")
    assert (code, json.loads(out)["unused"], stray.key in err) == (0, 1, True)
    code, out, err = command("snapshot", "gc")
    assert (code, "1 others are younger than 24 hours" in err) == (99, True)
    code, out, _ = command("snapshot", "gc", "--min-age-h", "0")
    assert (code, json.loads(out)["deleted"], world.store.head(stray.key)) == (0, 1, None)
    assert command("snapshot", "gc", "--min-age-h", "-1")[0] == 64
