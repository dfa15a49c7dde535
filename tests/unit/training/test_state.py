"""Training states: only what a record vouches for is opened, and nothing in it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from scanloop.store import open_store
from scanloop.training.state import StateStore


@pytest.fixture
def kept(tmp_path):
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def states(kept):
    return StateStore(kept, "training/cabin/run-1", "f")


def value_of(state):
    """The number in a state of these tests; None for no state."""
    return None if state is None else state["x"].item()


def save(states, *iterations):
    for iteration in iterations:
        states.save(iteration, {"x": torch.tensor(float(iteration)), "nested": {"list": [1, 2.5, "three", None]}})


def test_the_newest_is_found_and_two_are_kept(states, kept):
    assert states.newest() is None
    save(states, 5, 10, 15)
    assert value_of(states.newest()) == 15
    assert [record.iteration for record in states.records()] == [15, 10]
    assert len(list(kept.list("training/"))) == 4


def test_a_state_without_a_record_does_not_count(states, kept):
    save(states, 5, 10)
    kept.delete("training/cabin/run-1/state-00000010.json")
    assert value_of(states.newest()) == 5


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:100] + b"\x00" + content[101:], lambda _: b""])
def test_a_damaged_state_is_passed_over(states, kept, damage):
    save(states, 5, 10)
    key = "training/cabin/run-1/state-00000010.pt"
    kept.put(key, damage(kept.get(key)))
    assert value_of(states.newest()) == 5


def test_a_lost_state_is_passed_over(states, kept):
    save(states, 5, 10)
    kept.delete("training/cabin/run-1/state-00000010.pt")
    assert value_of(states.newest()) == 5


def record_of(**changes):
    return json.dumps({"iteration": 10, "sha256": "0" * 64, "size_bytes": 1, "fingerprint": "f"} | changes).encode()


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"[]", b'{"iteration": 10}', b"\xff", b"[" * 100_000),
        *(record_of(iteration=odd) for odd in ("10", None, 10.0, True, [10], {}, -10, 0, 11, 10**30)),
        *(record_of(**odd) for odd in ({"sha256": None}, {"fingerprint": None}, {"added_by_a_newer_version": 1})),
    ],
)
def test_a_record_that_is_none_is_passed_over(states, kept, record):
    save(states, 5)
    kept.put("training/cabin/run-1/state-00000010.json", record)
    assert value_of(states.newest()) == 5


@pytest.mark.parametrize("content", [{"format": "scanloop.training-state/99"}, {}, [1, 2]], ids=["newer", "none", "no mapping"])
def test_a_state_of_another_version_is_passed_over_with_a_warning(states, kept, caplog, content):
    import io

    save(states, 5)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    kept.put("training/cabin/run-1/state-00000010.pt", buffer.getvalue())
    kept.put("training/cabin/run-1/state-00000010.json", record_of(sha256=hashlib.sha256(buffer.getvalue()).hexdigest()))
    assert value_of(states.newest()) == 5
    assert "Going back to an earlier state" in caplog.text


def test_a_state_of_another_training_is_not_resumed(states, kept, caplog):
    save(states, 5)
    assert StateStore(kept, "training/cabin/run-1", "another").newest() is None
    assert "is of a training with other options, snapshot or parent" in caplog.text


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_state_with_code_in_it_is_not_run(states, kept, tmp_path):
    import io

    save(states, 5)
    buffer = io.BytesIO()
    torch.save({"x": Trap(tmp_path / "sprung")}, buffer)
    kept.put("training/cabin/run-1/state-00000010.pt", buffer.getvalue())
    record = {"iteration": 10, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(), "size_bytes": 1, "fingerprint": "f"}
    kept.put("training/cabin/run-1/state-00000010.json", json.dumps(record).encode())
    assert value_of(states.newest()) == 5
    assert not (tmp_path / "sprung").exists()


def test_cleared_states_are_gone(states, kept):
    save(states, 5, 10)
    kept.put("training/cabin/run-1/finished.json", b"{}")
    states.clear()
    assert [stored.key for stored in kept.list("training/")] == ["training/cabin/run-1/finished.json"]
