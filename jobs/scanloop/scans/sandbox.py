"""Outside bytes are opened in a confined child process, and only plain numbers and short texts come back.

The child lives for a batch of files, so its start is paid once. When a file ends it, the file is to blame and gets a reason that names the limit or
signal; the child is started again for the next. Nothing it answers is trusted: texts are bounded and cleaned, and planes are read as numbers whose
count follows from their announced size.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from scanloop.allocator import keeping_environment
from scanloop.errors import WorldUnavailable
from scanloop.scans.answers import Answer, clean_sentence, content_of, report_of
from scanloop.scans.confine import CPU_S, MEMORY_BYTES, cpu_s
from scanloop.scans.errors import REASONS, ScanRefused
from scanloop.scans.limits import MAX_ANSWER_BYTES
from scanloop.scans.threat_report import Content

WALL_S = 30.0
"""Longest time for one file of a view's size, whatever it waits for."""
_WALL_PER_CPU = 3
"""A large file may take so much longer for each second of processor time that its size adds."""
START_S = 60.0
"""Longest time for the child to start, on a loaded machine with cold caches."""
FILES_A_CHILD = 500
"""A child is replaced after so many files, so that what a parser leaks stays small."""
_READER = ("-m", "scanloop.scans.reader")
_IN_FLIGHT = 2
_END_S = 30.0
"""Longest time for a child that has closed its output to be gone; on a loaded machine the kernel takes a while to clear up."""


@dataclass(frozen=True)
class Received:
    """One file to be read."""

    path: Path
    """The received bytes."""
    sidecar: Path | None = None
    """Its sidecar, if it has one."""


class Sandbox:
    """Reads files in a confined child process. Use it as a context manager; `folder` is where the child may write.

    The files to read must lie below `folder` or one of `readable`.
    """

    def __init__(
        self,
        folder: Path,
        readable: Sequence[Path] = (),
        *,
        wall_s: float = WALL_S,
        otherwise: Callable[[Received, ScanRefused], Content | ScanRefused] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(mkdtemp(prefix="reader-", dir=folder)).resolve()
        self._readable = [folder.resolve(), *(place.resolve() for place in readable)]
        self._wall_s = wall_s
        self._otherwise = otherwise
        """Who is asked about a file of no format that the child knows."""
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._is_closed = False
        self._asked = 0
        self._served = 0
        self.starts = 0
        """How often a child was started."""
        self.confined: dict[str, bool] = {}
        """What confinement the kernel granted beyond the limits."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, path: Path, sidecar: Path | None = None) -> Content:
        """Read one file.

        Raises:
            ScanRefused: it is no scan and no report, cannot be read correctly, or ended the child.
            WorldUnavailable: the child cannot be started.
        """
        outcome = next(self.read_all([Received(path, sidecar)]))
        if isinstance(outcome, ScanRefused):
            raise outcome
        return outcome

    def read_all(self, files: Iterable[Received]) -> Iterator[Content | ScanRefused]:
        """Read files in order; the child works on the next one while the caller works on an answer.

        Raises:
            WorldUnavailable: the child cannot be started.
        """
        waiting, asked = iter(files), deque[tuple[Received, Path]]()
        since = time.monotonic()
        while True:
            if self._served >= FILES_A_CHILD and not asked:
                self._stop()
            while len(asked) < _IN_FLIGHT and self._served + len(asked) < FILES_A_CHILD and (file := next(waiting, None)) is not None:
                self._asked += 1
                # Files in turn, written over and over: new ones would cost the system as much as reading a scan does.
                asked.append((file, self._folder / f"planes-{self._asked % _IN_FLIGHT}"))
                self._ask(*asked[-1], is_alone=len(asked) == 1)
                if len(asked) == 1:
                    since = time.monotonic()
            if not asked:
                return
            (file, out) = asked[0]
            allowed_s = cpu_s(file.path.stat().st_size if file.path.exists() else 0)
            answer = self._answer(since, self._wall_s + _WALL_PER_CPU * (allowed_s - CPU_S))
            asked.popleft()
            since = time.monotonic()
            self._served += 1
            if answer is None:
                yield self._blame(allowed_s)
                for index, (file, next_out) in enumerate(asked):
                    self._ask(file, next_out, is_alone=index == 0)
                continue
            outcome = self._checked(answer, out)
            if self._otherwise is not None and isinstance(outcome, ScanRefused) and outcome.reason_code == "not_a_scan":
                outcome = self._otherwise(file, outcome)
            yield outcome

    def _command(self) -> Sequence[str]:
        """What the child is, but for its folders."""
        return _READER

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a child and wait for its first line, so that no file is blamed for a start that fails."""
        self.starts += 1
        self._buffer, self._is_closed = b"", False
        environment = {
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
            **keeping_environment(),
        }
        said = self._folder / "said"
        with said.open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-I", *self._command(), str(self._folder), *map(str, self._readable)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=self._folder,
                start_new_session=True,
            )
        self._child = child
        line = self._line(time.monotonic() + START_S)
        if line is None:
            self._stop()
            last = said.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise WorldUnavailable(f"The process that reads scans does not start: {last[0]}.")
        self.confined = json.loads(line)["confined"]
        return child

    def _ask(self, file: Received, out: Path, *, is_alone: bool) -> None:
        if is_alone and self._child is not None and self._child.poll() is not None:
            self._stop()  # it died with nothing to do, so no file is to blame
        child = self._child or self._start()
        request = {"path": str(file.path.resolve()), "sidecar": str(file.sidecar.resolve()) if file.sidecar else None, "out": str(out)}
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            # The file before this one ended the child; its end is noticed, and this one asked again, when that answer is awaited.
            return

    def _answer(self, since: float, wall_s: float) -> bytes | None:
        """The next line of the child, or None if it died or takes too long."""
        return self._line(max(since + wall_s, time.monotonic() + 0.1))

    def _line(self, deadline: float) -> bytes | None:
        assert self._child is not None
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if len(self._buffer) > MAX_ANSWER_BYTES or left <= 0 or not selector.select(left):
                    return None
                part = os.read(self._child.stdout.fileno(), 1 << 16)
                if not part:
                    self._is_closed = True
                    return None
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _blame(self, allowed_s: int) -> ScanRefused:
        """Why the child gave no answer; ends it if it still lives. `allowed_s` is the processor time that the file had."""
        assert self._child is not None
        if len(self._buffer) > MAX_ANSWER_BYTES:
            self._stop()
            return ScanRefused("reader_died", f"The process that read it answered with more than {MAX_ANSWER_BYTES} bytes.")
        try:
            status = self._child.wait(_END_S if self._is_closed else 0.2)
        except subprocess.TimeoutExpired:
            self._stop()
            wall_s = self._wall_s + _WALL_PER_CPU * (allowed_s - CPU_S)
            return ScanRefused("wall_limit", f"Reading it took longer than {wall_s:g} s.")
        self._stop()
        if status == -signal.SIGXCPU:
            return ScanRefused("cpu_limit", f"Reading it took more than {allowed_s} s of processor time.")
        if status >= 0:
            return ScanRefused("reader_died", f"The process that read it ended with exit status {status}.")
        name = signal.Signals(-status).name
        if -status == signal.SIGXFSZ:
            return ScanRefused("output_limit", f"Reading it wrote more than allowed ({name}).")
        return ScanRefused("reader_died", f"The process that read it was ended by {name} (it may use {MEMORY_BYTES >> 20} MiB).")

    def _stop(self) -> None:
        self._served = 0
        if self._child is None:
            return
        child, self._child = self._child, None
        if child.poll() is None:
            child.kill()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        child.wait()

    def _checked(self, line: bytes, out: Path) -> Content | ScanRefused:
        """What the child answered, once it is known to be harmless."""
        try:
            answer = Answer.model_validate_json(line)
            if answer.refused is not None:
                return ScanRefused(answer.refused if answer.refused in REASONS else "malformed", clean_sentence(answer.reason))
            if answer.unavailable is not None:
                raise WorldUnavailable(f"The process that reads scans cannot work: {clean_sentence(answer.unavailable)}.")
            if answer.report is not None:
                return report_of(answer.report, out)
            assert answer.content is not None
            return content_of(answer.content, out)
        except ScanRefused as refusal:
            return refusal
        except (ValidationError, AssertionError, OSError) as error:
            self._stop()
            return ScanRefused("reader_died", f"The process that read it gave an answer that is none ({type(error).__name__}).")
