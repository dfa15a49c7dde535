"""The commands, as a person runs them."""

from __future__ import annotations

import json

import pytest
from tracked_world import begin_of, mark, tracked_line

from scanloop.cli.main import run


@pytest.fixture
def deployment(world, run_body, told_datasets, monkeypatch):
    monkeypatch.setenv("SCANLOOP_HOME", str(world.settings.home))
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", world.settings.database_url)
    line = tracked_line(run_body, world)
    told_datasets()
    return line


def test_what_waits_is_listed_told_and_shown(deployment, clearml, world, capsys):
    mark(world, begin_of("between-attempts"))
    assert run(["tracking", "list", "--json"]) == 0
    waiting = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in waiting] == [
        *["experiment"] * 2,
        *["model"] * 2,
        *["evaluation"] * 2,
        *["decision"] * 2,
        "report",
        "experiment",
    ]
    assert waiting[-1]["state"] == "died, or between two attempts"
    assert run(["tracking", "sync", "--run-id=by-hand"]) == 0
    assert json.loads(capsys.readouterr().out)["told"]["model"] == 2
    assert run(["tracking", "show", deployment["good"][:12]]) == 0
    assert json.loads(capsys.readouterr().out)["external_id"] in clearml.state.models
    assert run(["tracking", "champion", "cabin"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "product_line": "cabin", "catalog": deployment["good"], "server": [deployment["good"]], "agrees": True,
    }  # fmt: skip
    assert run(["tracking", "report", "cabin"]) == 0
    assert "| version | state |" in capsys.readouterr().out
    assert run(["tracking", "sync"]) == 99


def test_a_champion_of_which_the_server_knows_nothing_is_a_difference(deployment, clearml, capsys):
    assert run(["tracking", "champion", "cabin"]) == 65
    assert "Run: scanloop tracking sync" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sync"], 99, "No ClearML server is named"),
        (["champion", "cabin"], 64, "Set CLEARML_API_HOST"),
        (["report", "cabin", "--send"], 64, "Set CLEARML_API_HOST"),
        (["show", "nothing"], 64, "See: scanloop tracking list"),
    ],
)
def test_without_a_server_it_says_what_to_do(deployment, capsys, words, code, said):
    assert run(["tracking", *words]) == code
    assert said in capsys.readouterr().err
