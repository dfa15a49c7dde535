"""Which processes train together, and what their exit codes mean for the whole."""

from __future__ import annotations

import pytest

from scanloop.errors import WrongArguments
from scanloop.training.launch import Layout, exit_code_of, must_launch, read_layout
from scanloop.training.team import Team, joined


@pytest.mark.parametrize(
    ("environment", "layout", "is_several"),
    [
        pytest.param({}, Layout(), False, id="nothing"),
        pytest.param({"SCANLOOP_NODES": "", "SCANLOOP_PROCESSES_PER_NODE": " "}, Layout(), False, id="empty"),
        pytest.param({"JOB_COMPLETION_INDEX": "3"}, Layout(), False, id="an indexed job of single trainings"),
        pytest.param({"SCANLOOP_PROCESSES_PER_NODE": "4"}, Layout(1, 4), True, id="four GPUs"),
        pytest.param(
            {"SCANLOOP_NODES": "2", "SCANLOOP_RENDEZVOUS": "a-0.a:29400", "JOB_COMPLETION_INDEX": "1"},
            Layout(2, 1, 1, "a-0.a:29400"), True, id="two machines",
        ),
    ],
)  # fmt: skip
def test_the_environment_says_how_many(environment, layout, is_several):
    assert read_layout(environment) == layout
    assert layout.is_several == is_several


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({"SCANLOOP_NODES": "two"}, "SCANLOOP_NODES is not usable", id="no number"),
        pytest.param({"SCANLOOP_PROCESSES_PER_NODE": "0"}, "SCANLOOP_PROCESSES_PER_NODE is not usable", id="none"),
        pytest.param({"SCANLOOP_NODES": "2"}, "SCANLOOP_RENDEZVOUS does not say", id="nowhere to meet"),
        pytest.param({"SCANLOOP_NODES": "2", "SCANLOOP_RENDEZVOUS": "host"}, "expected host:port", id="no port"),
        pytest.param({"SCANLOOP_NODES": "2", "SCANLOOP_RENDEZVOUS": "h:1", "JOB_COMPLETION_INDEX": "2"}, "must be 0 to 1", id="index"),
    ],
)
def test_what_does_not_fit_is_refused(environment, message):
    with pytest.raises(WrongArguments, match=message):
        read_layout(environment)


@pytest.mark.parametrize(
    ("codes", "whole"),
    [
        pytest.param([65], 65, id="data"),
        pytest.param([64, -15], 64, id="arguments, and the others stopped"),
        pytest.param([75, 65], 65, id="one noticed first that the other had found wrong data"),
        pytest.param([75], 75, id="world"),
        pytest.param([99], 99, id="nothing to do"),
        pytest.param([70], 70, id="defect"),
        pytest.param([-9, 75], 75, id="killed"),
        pytest.param([1], 75, id="unknown"),
        pytest.param([], 75, id="none"),
    ],
)
def test_the_exit_code_of_the_whole(codes, whole):
    assert exit_code_of(codes) == whole


def test_a_worker_does_not_launch_again(monkeypatch):
    monkeypatch.setenv("SCANLOOP_PROCESSES_PER_NODE", "2")
    assert must_launch()
    monkeypatch.setenv("SCANLOOP_WORKER", "1")
    assert not must_launch()


def test_one_process_is_a_team_of_one():
    with joined() as team:
        assert team == Team()
        assert team.share({"a": 1}) == {"a": 1}
