"""A training that is asked to end, whose store is away, or whose helpers are killed: nothing learned is lost without need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from fit_world import Killed, id_of, scan, train

from scanloop.errors import StoreUnavailable, WorldUnavailable, WrongArguments
from scanloop.store.folder import FolderStore
from scanloop.training.options import TrainingOptions, check_window
from scanloop.training.state import StateStore
from scanloop.training.termination import Termination

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(tmp_path_factory.mktemp("unbroken"))


def states_of(folder):
    return StateStore(FolderStore(folder / "store"), "training/x", "f")


def test_a_training_that_is_asked_to_end_keeps_the_step_it_is_in(tmp_path, unbroken):
    """State interval 3, asked in step 5: nothing but the signal makes a state there."""
    asking = """
import os, signal, sys
from pathlib import Path
import fit_world
def ask(done, *_):
    if done == 5:
        os.kill(os.getpid(), signal.SIGTERM)
fit_world.train(Path(sys.argv[1]), on_step=ask)
"""
    environment = os.environ | {"PYTHONPATH": str(TESTS), "PYTHONWARNINGS": "ignore"}
    asked = subprocess.run([sys.executable, "-c", asking, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert asked.returncode == 128 + signal.SIGTERM, asked.stderr
    assert [record.iteration for record in states_of(tmp_path).records()] == [5, 3]
    resumed = train(tmp_path)
    assert resumed.resumed_at == 5
    assert resumed.curves == unbroken.curves
    assert id_of(resumed) == id_of(unbroken)


def wait_for_ever_once_asked():
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        signal.pause()


def test_a_step_that_does_not_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("scanloop.training.termination.STEP_WITHIN_S", 0.05)
    termination, before = Termination(), signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended, termination.heard():
            wait_for_ever_once_asked()
        assert ended.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # a second one does not cut the closing short
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_are_left_as_they_were():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    with Termination().heard():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)) == before


class Moody(FolderStore):
    """A folder whose disk is full for the states that it is told."""

    def __init__(self, root, full):
        super().__init__(root)
        self.full = list(full)

    def put(self, key, data, **others):
        if self.full and self.full[0] in key:
            self.full.pop(0)
            raise StoreUnavailable(f"The store failed on {key!r}: No space left on device.")
        return super().put(key, data, **others)


def test_a_state_that_the_store_does_not_take_costs_no_training(tmp_path, unbroken, caplog):
    store = Moody(tmp_path / "store", ["state-00000003.pt", "state-00000006.json"])
    fitted = train(tmp_path, store=store)
    assert id_of(fitted) == id_of(unbroken)
    assert store.full == []
    assert caplog.text.count("is not kept. The store failed on") == 2
    assert states_of(tmp_path).records() == []


def test_a_store_that_stays_away_ends_the_training(tmp_path):
    store = Moody(tmp_path / "store", [f"state-0000000{done}.pt" for done in (2, 3, 4)])
    with pytest.raises(StoreUnavailable, match="state-00000004"):
        train(tmp_path, store=store, state_interval=1)
    assert [record.iteration for record in states_of(tmp_path).records()] == [1]


def test_states_take_no_more_than_their_share_of_the_time(tmp_path, monkeypatch, unbroken):
    """A state every step, unless asked otherwise; here saving takes far longer than a twentieth of it."""
    monkeypatch.setattr("scanloop.training.hooks.INTERVAL", 1)
    kept = []
    monkeypatch.setattr(StateStore, "save", lambda _self, iteration, _state: kept.append(iteration))
    clock = iter(range(10**9))
    monkeypatch.setattr("scanloop.training.hooks.time.perf_counter", lambda: float(next(clock)))
    fitted = train(tmp_path, state_interval=0, iterations=40)
    # A step reads the clock four times, or three and twice more to save; saving takes 1 of it, so 20 pass between two.
    assert kept[0] == 1
    assert len(fitted.curves) == 40
    assert {later - earlier for earlier, later in pairwise(kept)} <= {5, 6, 7}


def test_an_error_of_a_loader_process_is_said_as_one_sentence(tmp_path):
    def broken(index):
        if os.getpid() == here:
            raise ValueError("not asked for here")
        raise StoreUnavailable("The store is away.")

    here = os.getpid()
    with pytest.raises(StoreUnavailable) as said:
        train(tmp_path, load=broken, workers=1)
    assert said.value.message == "The store is away."


def test_loader_processes_end_with_the_training(tmp_path):
    before = set(psutil.Process().children())
    alive = []
    train(tmp_path, workers=2, iterations=2, on_step=lambda *_: alive.append(len(set(psutil.Process().children()) - before)))
    assert min(alive) >= 2
    assert set(psutil.Process().children()) <= before

    with pytest.raises(Killed):
        train(tmp_path / "killed", workers=2, killed_after=1)
    assert set(psutil.Process().children()) <= before


def test_a_loader_process_that_is_killed_can_be_tried_again(tmp_path):
    def killed(index):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return scan(index)

    here = os.getpid()
    with pytest.raises(WorldUnavailable, match="A process that prepares scans is gone"):
        train(tmp_path, load=killed, workers=1)


def test_a_window_that_leaves_a_batch_norm_one_value_is_refused():
    options = TrainingOptions(size_px=64, crop_px=32)
    check_window(options, 2)
    with pytest.raises(WrongArguments, match="needs two scans a step in each process"):
        check_window(options, 1)
