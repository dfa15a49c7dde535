"""Scratch folders: kept for the next attempt, never shared by two that are alive."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from scanloop.errors import NothingToDo
from scanloop.execution.workdir import private_workdir


def _fail_in(folder: Path, note: str = "") -> None:
    with private_workdir(folder) as workdir:
        (workdir / "state").write_text(note)
        raise RuntimeError("stopped half-way")


def test_a_failed_attempt_leaves_its_work_to_the_next(tmp_path: Path) -> None:
    wanted = tmp_path / "run" / "model.train"
    with pytest.raises(RuntimeError, match="half-way"):
        _fail_in(wanted, "epoch 3")
    with private_workdir(wanted) as workdir:
        assert workdir == wanted
        assert (workdir / "state").read_text() == "epoch 3"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_there_was_nothing_to_do(tmp_path: Path) -> None:
    def idle() -> None:
        with private_workdir(tmp_path / "run" / "job"):
            raise NothingToDo("no work")

    with pytest.raises(NothingToDo):
        idle()
    assert list(tmp_path.iterdir()) == []


def test_two_living_attempts_work_apart(tmp_path: Path) -> None:
    wanted = tmp_path / "run" / "job"
    with private_workdir(wanted) as first:
        (first / "mine").touch()
        with private_workdir(wanted) as second:
            assert second != first
            assert list(second.iterdir()) == []
            with private_workdir(wanted) as third:
                assert len({first, second, third}) == 3
        assert (first / "mine").exists()
    assert list(tmp_path.iterdir()) == []


def _hold(folder: Path, pipe: multiprocessing.connection.Connection) -> None:
    with private_workdir(folder) as workdir:
        (workdir / "from a dead attempt").touch()
        pipe.send("ready")
        pipe.recv()


def test_a_killed_attempt_gives_its_folder_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(tmp_path / "run" / "job", theirs))
    holder.start()
    assert ours.recv() == "ready"
    with private_workdir(tmp_path / "run" / "job") as beside:
        assert beside != tmp_path / "run" / "job"
    holder.kill()
    holder.join()
    with private_workdir(tmp_path / "run" / "job") as workdir:
        assert [path.name for path in workdir.iterdir()] == ["from a dead attempt"]
