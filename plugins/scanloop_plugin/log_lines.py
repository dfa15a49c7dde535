"""From the bytes that a job writes to lines for the task log. Pure."""

from __future__ import annotations

import codecs
import logging
import re
from dataclasses import dataclass, field

MAX_LINE_LENGTH = 4096

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL)\b|^(Error):")
_BREAK = re.compile(r"\r\n|\n|\r")
_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "WARNING": logging.WARNING,
           "ERROR": logging.ERROR, "CRITICAL": logging.ERROR, "Error": logging.ERROR}  # fmt: skip


@dataclass(frozen=True)
class LogLine:
    """One line that a job wrote."""

    text: str
    """Its text, without escape sequences, at most MAX_LINE_LENGTH characters."""
    level: int
    """Severity as in the `logging` module: what the line says of itself near its start, else INFO."""


def log_line(raw: str) -> LogLine | None:
    """Clean one raw line. None for a line with nothing in it."""
    text = _CONTROL.sub("", _ESCAPES.sub("", raw)).rstrip()
    if not text:
        return None
    if len(text) > MAX_LINE_LENGTH:
        text = f"{text[:MAX_LINE_LENGTH]}… ({len(text)} characters)"
    found = _LEVEL.search(text[:60])
    return LogLine(text, _LEVELS[found[1] or found[2]] if found else logging.INFO)


@dataclass
class LineSplitter:
    """Cuts a stream of bytes into lines. A carriage return also ends a line: a progress bar becomes lines."""

    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    _rest: str = ""

    def feed(self, data: bytes) -> list[LogLine]:
        """The lines that `data` completes."""
        self._rest += self._decoder.decode(data)
        *whole, self._rest = _BREAK.split(self._rest)
        if len(self._rest) > 4 * MAX_LINE_LENGTH:  # a job that never ends its line must not fill the memory
            whole.append(self._rest)
            self._rest = ""
        return [line for raw in whole if (line := log_line(raw))]

    def close(self) -> list[LogLine]:
        """The last line, if the stream ended within one."""
        line = log_line(self._rest + self._decoder.decode(b"", final=True))
        self._rest = ""
        return [line] if line else []
