"""Training states: what an interrupted training needs to go on as if nothing had happened.

A state is a torch pickle, so it never leaves the store's `training/` folder and is opened only when its SHA-256 is the one in the small
JSON record beside it, and even then with torch's loader for tensors and plain values only. The record is written last: a state without
one does not count. Once the weights are kept as safetensors, the states of the run are deleted.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
from dataclasses import asdict, dataclass
from typing import Any

from scanloop.errors import DataWrong, ObjectNotFound
from scanloop.steps import step
from scanloop.store import Store

log = logging.getLogger(__name__)
FORMAT = "scanloop.training-state/2"
"""Version of what is in a state. One of another version is passed over."""
KEPT = 2
"""Newest states that are kept, so that one lost write does not cost the whole training."""


@dataclass(frozen=True)
class StateRecord:
    """The small JSON beside a state."""

    iteration: int
    """Steps done."""
    sha256: str
    """Digest of the state."""
    size_bytes: int
    """Length of the state."""
    fingerprint: str
    """Digest of everything that decides the training: a state of another training is not resumed."""


class StateStore:
    """The states of one run, under `prefix` in the store."""

    def __init__(self, store: Store, prefix: str, fingerprint: str) -> None:
        self._store = store
        self._prefix = prefix
        self._fingerprint = fingerprint

    def _keys(self, iteration: int) -> tuple[str, str]:
        name = f"{self._prefix}/state-{iteration:08d}"
        return f"{name}.pt", f"{name}.json"

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Keep the state after `iteration` steps, then drop all but the newest `KEPT`."""
        import torch

        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **state}, buffer)
        content = buffer.getvalue()
        state_key, record_key = self._keys(iteration)
        self._store.put(state_key, content)
        step("training.after_state")
        record = StateRecord(iteration, hashlib.sha256(content).hexdigest(), len(content), self._fingerprint)
        self._store.put(record_key, json.dumps(asdict(record), sort_keys=True).encode())
        step("training.after_state_record")
        for old in self.records()[KEPT:]:
            self._drop(old.iteration)

    def records(self, *, is_told: bool = False) -> list[StateRecord]:
        """Records of this training, newest first. One that cannot be read, or of another training, is left out; `is_told`: with a warning."""
        found, level = [], logging.WARNING if is_told else logging.DEBUG
        for stored in self._store.list(f"{self._prefix}/state-"):
            if stored.key.endswith(".json"):
                record = self._record(stored.key)
                if record is None:
                    log.log(level, "%s is no record of a training state.", self._store.uri(stored.key))
                elif record.fingerprint != self._fingerprint:
                    log.log(level, "%s is of a training with other options, snapshot or parent.", self._store.uri(stored.key))
                else:
                    found.append(record)
        return sorted(found, key=lambda record: -record.iteration)

    def _record(self, key: str) -> StateRecord | None:
        """What a record says; None if it is none, or lies under another name than its own."""
        try:
            record = StateRecord(**json.loads(self._store.get(key)))
        except (ObjectNotFound, ValueError, TypeError, RecursionError):
            return None
        is_one = type(record.iteration) is int and record.iteration > 0 and self._keys(record.iteration)[1] == key
        return record if is_one else None

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is what its record says; None if there is none. A damaged one is reported and passed over."""
        found = self.newest_with_record()
        return found[1] if found else None

    def newest_with_record(self) -> tuple[StateRecord, dict[str, Any]] | None:
        """The same, with the record that vouches for it."""
        for record in self.records(is_told=True):
            try:
                return record, self.open(record)
            except DataWrong as error:
                log.warning("%s Going back to an earlier state.", error.message)
        return None

    def open(self, record: StateRecord) -> dict[str, Any]:
        """The state of one record.

        Raises:
            DataWrong: it is gone, is not what the record says, is of another version, or holds more than tensors and plain values.
        """
        import torch

        key = self._keys(record.iteration)[0]
        try:
            content = self._store.get(key)
        except ObjectNotFound:
            raise DataWrong(f"The training state {self._store.uri(key)} is gone.") from None
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise DataWrong(f"The training state {self._store.uri(key)} does not have the digest of its record.")
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            raise DataWrong(f"The training state {self._store.uri(key)} holds more than tensors and plain values.") from None
        found = state.get("format") if isinstance(state, dict) else None
        if found != FORMAT:
            raise DataWrong(f"The training state {self._store.uri(key)} is of the version {found}; this one reads {FORMAT}.")
        return state

    def _drop(self, iteration: int) -> None:
        state_key, record_key = self._keys(iteration)
        self._store.delete(record_key)
        self._store.delete(state_key)

    def clear(self) -> None:
        """Delete every state under the prefix, records first."""
        keys = [stored.key for stored in self._store.list(f"{self._prefix}/state-")]
        for key in sorted(keys, key=lambda name: not name.endswith(".json")):
            self._store.delete(key)
