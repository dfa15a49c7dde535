"""Indexes of research sets, read in a confined process as scans are, and checked as they come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from scanloop.errors import DataWrong
from scanloop.imports.records import Index, decode_index
from scanloop.scans.confine import CPU_S, cpu_s
from scanloop.scans.sandbox import Sandbox

Kind = Literal["coco", "voc", "text", "list"]


class IndexReader(Sandbox):
    """Reads indexes in a confined child process: no credentials, no network, limits on memory, time and output. Use it as a context manager."""

    def _command(self) -> Sequence[str]:
        return ("-m", "scanloop.imports.reader")

    def indexes(self, kind: Kind, path: Path, *, first_pixel: int = 1) -> Iterator[Index]:
        """What one file says, in parts. A file that is refused is one part that says why.

        Raises:
            WorldUnavailable: the child cannot be started.
            DataWrong: the child says what no child of ours says.
        """
        if self._child is not None and self._child.poll() is not None:
            self._stop()
        child = self._child or self._start()
        request = {"kind": kind, "path": str(path.resolve()), "stem": path.stem, "first_pixel": first_pixel}
        allowed_s = 2 * cpu_s(path.stat().st_size if path.exists() else 0)
        assert child.stdin is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        while True:
            line = self._line(time.monotonic() + self._wall_s + 3 * (allowed_s - CPU_S))
            if line is None:
                refusal = self._blame(allowed_s)
                yield Index(refused=refusal.message[:160], is_last=True)
                return
            try:
                part = decode_index(line)
            except msgspec.DecodeError as error:
                self._stop()
                raise DataWrong(f"{path}: the process that reads indexes gave an answer that is none: {error}.") from None
            yield part
            if part.is_last:
                return
