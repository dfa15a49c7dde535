"""Files of no built-in format are shown to decoder plug-ins, each in a confined process of its own.

So a plug-in that hangs, ends its process, eats memory or spoils its interpreter harms its own format only. The processes start with the first
file that no built-in format knows: where there is none, plug-ins cost nothing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scanloop.errors import WorldUnavailable
from scanloop.scans.answers import clean_sentence
from scanloop.scans.confine import CPU_S
from scanloop.scans.content import ScanContent
from scanloop.scans.decoders import NO_PLUGINS, Choice, Installed
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import FILES_A_CHILD, START_S, WALL_S, Received, Sandbox

MAX_FAILURES = 3
"""A plug-in that failed so often to say whether a file is its own is not asked again: each time may cost the longest time a file has."""
_PROCESS = ("-m", "scanloop.scans.decoder_process")
log = logging.getLogger(__name__)


@contextmanager
def open_reader(folder: Path, readable: Sequence[Path] = (), decoders: Choice = NO_PLUGINS) -> Iterator[Sandbox]:
    """A `Sandbox` that reads the built-in formats, and those of the plug-ins chosen."""
    with DecoderRooms(decoders, folder, readable) as rooms, Sandbox(folder, readable, otherwise=rooms.read) as sandbox:
        yield sandbox


def check_decoders(plugins: Iterable[Installed], plugin_folder: Path | None, folder: Path) -> list[dict[str, str]]:
    """What each plug-in is and whether it works, as plain values. Those that are chosen are loaded, each in a confined process.

    Raises:
        WorldUnavailable: a process cannot be started.
    """
    rows = []
    for plugin in plugins:
        problem = plugin.problem
        if plugin.is_chosen and not problem:
            with DecoderRoom(plugin, plugin_folder, folder) as room:
                try:
                    room.check()
                except DecoderUnusable as failure:
                    problem = str(failure)
        state = ("unusable" if problem else "ready") if plugin.is_chosen else "not chosen"
        about = {"format": plugin.name, "distribution": plugin.distribution, "version": plugin.version, "state": state, "problem": problem}
        rows.append(about)
    return rows


class DecoderFailed(Exception):
    """A plug-in cannot say whether a file is its own."""


class DecoderUnusable(DecoderFailed):
    """A plug-in cannot be loaded."""


class _Said(BaseModel):
    """One line of the process about itself, or about whose a file is."""

    model_config = ConfigDict(extra="forbid")
    ready: bool | None = None
    claimed: bool | None = None
    problem: str | None = Field(default=None, max_length=1000)
    unavailable: str | None = Field(default=None, max_length=200)


class DecoderRoom(Sandbox):
    """Reads files with one plug-in."""

    def __init__(
        self, plugin: Installed, plugin_folder: Path | None, folder: Path, readable: Sequence[Path] = (), *, wall_s: float = WALL_S
    ) -> None:
        super().__init__(folder, [*readable, *([plugin_folder] if plugin_folder else [])], wall_s=wall_s)
        self.plugin = plugin
        self._plugin_folder = plugin_folder

    def _command(self) -> Sequence[str]:
        return [*_PROCESS, self.plugin.name, self.plugin.target, str(self._plugin_folder.resolve()) if self._plugin_folder else ""]

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process and have the plug-in loaded.

        Raises:
            DecoderUnusable: it cannot be loaded.
            WorldUnavailable: not even the process starts.
        """
        child = super()._start()
        line = self._line(time.monotonic() + START_S)
        if line is None:
            raise DecoderUnusable(f"it cannot be loaded: {self._blame(CPU_S).message}")
        said = self._said(line)
        if not said.ready:
            self._stop()
            raise DecoderUnusable(clean_sentence(said.problem or "it does not say that it is ready"))
        return child

    def check(self) -> None:
        """Load the plug-in. Raises DecoderUnusable."""
        if self._child is None:
            self._start()

    def claims(self, path: Path) -> bool:
        """Whether the plug-in takes a file for its own. Raises DecoderFailed."""
        if self._served >= FILES_A_CHILD or (self._child is not None and self._child.poll() is not None):
            self._stop()
        self._served += 1
        child = self._child or self._start()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"path": str(path.resolve()), "sniff": True}).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise DecoderFailed(self._blame(CPU_S).message) from None
        line = self._line(time.monotonic() + self._wall_s)
        if line is None:
            raise DecoderFailed(self._blame(CPU_S).message)
        said = self._said(line)
        if said.unavailable is not None:
            raise WorldUnavailable(f"The process of the decoder {self.plugin.label} cannot work: {clean_sentence(said.unavailable)}.")
        if said.claimed is None:
            raise DecoderFailed(f"matches() stopped at something unexpected: {clean_sentence(said.problem or 'it said nothing')}")
        return said.claimed

    def read_claimed(self, file: Received) -> ScanContent | ScanRefused:
        """Read a file that the plug-in takes for its own; every refusal names the plug-in."""
        outcome = next(self.read_all([file]))
        if isinstance(outcome, ScanRefused):
            return ScanRefused(outcome.reason_code, f"The decoder {self.plugin.label}: {outcome.message}")
        if not isinstance(outcome, ScanContent) or outcome.source_format != self.plugin.name:
            self._stop()
            return ScanRefused("decoder_failed", f"The decoder {self.plugin.label} answered with another format than its own.")
        by = {"decoder": self.plugin.distribution, "decoder_version": self.plugin.version}
        return replace(outcome, metadata=replace(outcome.metadata, attributes={**outcome.metadata.attributes, **by}))

    def _said(self, line: bytes) -> _Said:
        try:
            return _Said.model_validate_json(line)
        except ValidationError:
            self._stop()
            raise DecoderFailed("its process gave an answer that is none") from None

    def _stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)  # what the plug-in started, too
        super()._stop()


class DecoderRooms:
    """The plug-ins of a deployment. Use it as a context manager."""

    def __init__(self, choice: Choice, folder: Path, readable: Sequence[Path] = (), *, wall_s: float = WALL_S) -> None:
        self._choice, self._folder, self._readable, self._wall_s = choice, folder, readable, wall_s
        self._rooms: dict[str, DecoderRoom] = {}
        self._failures: Counter[str] = Counter()
        self.set_aside = {plugin.name: plugin.problem for plugin in choice.plugins if plugin.problem}
        """Plug-in to why it is not asked."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for room in self._rooms.values():
            room.__exit__(None, None, None)

    def read(self, file: Received, refusal: ScanRefused) -> ScanContent | ScanRefused:
        """Read a file of no built-in format with the plug-in that claims it; `refusal` is the answer if none does.

        Raises:
            WorldUnavailable: a process cannot be started.
        """
        claiming: list[DecoderRoom] = []
        failed: list[str] = []
        for plugin in self._choice.plugins:
            try:
                if self._claims(plugin, file.path):
                    claiming.append(self._rooms[plugin.name])
            except DecoderFailed as failure:
                failed.append(f"{plugin.label}: {failure}")
        if len(claiming) > 1:
            names = " and ".join(room.plugin.label for room in claiming)
            return ScanRefused("ambiguous_format", f"More than one decoder claims it: {names}.")
        if claiming:
            try:
                return claiming[0].read_claimed(file)
            except DecoderFailed as failure:
                return ScanRefused("decoder_failed", f"The decoder {claiming[0].plugin.label}: {failure}.")
        if failed:
            return ScanRefused(
                "decoder_failed", f"No other format claims it, and a decoder does not work: {'; '.join(failed).removesuffix('.')}."
            )
        return refusal

    def _claims(self, plugin: Installed, path: Path) -> bool:
        """Whether a plug-in takes a file for its own. Raises DecoderFailed."""
        if plugin.name in self.set_aside:
            raise DecoderUnusable(self.set_aside[plugin.name])
        if plugin.name not in self._rooms:
            self._rooms[plugin.name] = DecoderRoom(plugin, self._choice.folder, self._folder, self._readable, wall_s=self._wall_s)
        try:
            return self._rooms[plugin.name].claims(path)
        except DecoderFailed as failure:
            self._failures[plugin.name] += 1
            if isinstance(failure, DecoderUnusable) or self._failures[plugin.name] >= MAX_FAILURES:
                self.set_aside[plugin.name] = str(failure)
                log.warning("The decoder %s is not asked again: %s", plugin.label, failure)
            raise
