"""A server that is down, slow, broken, or dies between any two requests: the sync says so, and goes on where it was."""

from __future__ import annotations

import pytest
from small_world import rows_of
from tracked_world import tracked_line

from scanloop.errors import WorldUnavailable


@pytest.fixture
def line(run_body, world):
    return tracked_line(run_body, world)


@pytest.fixture
def impatient(monkeypatch):
    from scanloop.tracking import server

    monkeypatch.setattr(server, "CONNECT_S", 0.2)
    monkeypatch.setattr(server, "ANSWER_S", 0.3)
    monkeypatch.setattr(server, "UPLOAD_S", 0.3)


@pytest.mark.parametrize("fault", ["hang", "500", "503", "dead"])
def test_a_server_that_does_not_work_is_told_later(clearml, world, line, sync, impatient, fault):
    clearml.fault = fault
    with pytest.raises(WorldUnavailable):
        sync(run_id="faulty")
    assert rows_of(world, "tracked") == []
    assert rows_of(world, "runs", run_id="faulty") == []


def test_a_server_that_is_not_there_is_told_later(clearml, world, line, sync, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:1")
    with pytest.raises(WorldUnavailable):
        sync()


def test_wrong_credentials_say_so(clearml, world, line, sync, monkeypatch):
    from scanloop.errors import DataWrong

    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "wrong")
    with pytest.raises(DataWrong, match="401"):
        sync()


def test_a_server_that_keeps_dying_is_told_everything_once(clearml, world, line, sync, told_datasets):
    """It dies after carrying out a request whose answer is lost; each attempt of the run gets a few requests further."""
    told_datasets()
    deaths = 0
    while True:
        clearml.die_in(4 + 3 * deaths)
        try:
            sync(run_id="persistent")
        except WorldUnavailable:
            deaths += 1
            clearml.recover()
        else:
            break
    assert deaths > 3
    assert len(clearml.tasks()) == 2
    assert len(clearml.state.models) == 2
    assert len(clearml.tasks("report")) == 1
    assert {row["state"] for row in rows_of(world, "tracked")} == {"told"}
