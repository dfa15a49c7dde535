"""The loop: draw a seed, change it, judge it, keep what is new. Runs in a process of its own, for what it looks for may end it."""

from __future__ import annotations

import json
import mmap
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.corpus import Input, load
from fuzzing.mutate_bytes import cut, havoc
from fuzzing.mutate_dicom import mutate_dicom
from fuzzing.mutate_pictures import mutate_json, mutate_png, mutate_tiff
from fuzzing.mutate_streams import mutate_stream
from fuzzing.oracles import Verdict, Violation, judge
from fuzzing.seeds import Seed, all_seeds

CPU_S = 10
"""Processor time that one file may take."""
MEMORY_BYTES = 1 << 30
"""Address space, as the reader of intake has it."""
BLACK_BOX_BYTES = 1 << 20
"""Longest mutant; longer ones are cut."""
THOROUGH_EVERY = 8
"""How many scans there are for each that is also measured, encoded and kept."""
BOX_HEAD = struct.Struct("<QII?")
"""Before the file in the black box: number of the mutant, bytes of the file and of its sidecar, whether it has one."""
_STEP = 500
POOL = 400
"""Mutants that were new and are changed further."""


@dataclass
class Tally:
    """Figures of one family of files."""

    tried: int = 0
    accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    surprises: int = 0
    """Refusals in which a parser's own exception was the reason."""
    worst_cpu_s: float = 0.0
    worst_memory_mib: float = 0.0
    """Most that one file added to the memory of the process."""


@dataclass(frozen=True)
class Found:
    """A file that broke a rule."""

    what: str
    """What it broke."""
    file: Input
    """The file."""


_PICTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {"tiff": mutate_tiff, "png": mutate_png, "jpeg": mutate_stream}


class Mutator:
    """Draws mutants: number n of a seed is the same in every run, as long as the pool is."""

    def __init__(self, seed: str, kinds: str = "") -> None:
        self.seed = seed
        self.seeds = [one for name, one in all_seeds().items() if kinds in name]
        self.pool: list[tuple[str, Input]] = []

    def draw(self, number: int) -> tuple[str, Input]:
        """Family and bytes of one mutant."""
        draw = random.Random(f"{self.seed} {number}")
        if self.pool and draw.random() < 0.2:
            family, file = draw.choice(self.pool)
            return family, Input(_further(family, file.content, draw), _about(file.sidecar, draw))
        chosen = draw.choice(self.seeds)
        return chosen.family, mutate(chosen, draw)


def mutate(seed: Seed, draw: random.Random) -> Input:
    """One mutant of a seed, by what its format is; sometimes with the sidecar changed too."""
    if seed.tree is not None:
        return Input(mutate_dicom(seed.tree, draw), None)
    if seed.family == "json":
        assert seed.sidecar is not None
        return Input(seed.content, mutate_json(seed.sidecar, draw))
    return Input(_PICTURES[seed.family](seed.content, draw), _about(seed.sidecar, draw))


def _further(family: str, content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.5 and family in _PICTURES:
        return _PICTURES[family](content, draw)
    return cut(content, draw) if draw.random() < 0.1 else havoc(content, draw)


def _about(sidecar: bytes | None, draw: random.Random) -> bytes | None:
    if sidecar is None or draw.random() > 0.05:
        return sidecar
    try:
        return mutate_json(sidecar, draw)
    except (ValueError, AttributeError, RecursionError):
        return havoc(sidecar, draw)


class Engine:
    """Tries mutants and remembers what came of them. `note` is told each file before it is read."""

    def __init__(self, mutator: Mutator, note: Callable[[Input], None] = lambda file: None) -> None:
        self.mutator = mutator
        self.note = note
        self.tallies: dict[str, Tally] = {}
        self.seen: set[tuple[str, Verdict]] = set()
        self.novel: list[tuple[str, Verdict, Input]] = []
        self.found: list[Found] = []
        self.number = 0
        """The mutant that is being tried."""
        self._peak_mib = peak_mib()
        self._accepted = 0

    def learn(self, family: str, file: Input) -> None:
        """Take a file that is kept already as known."""
        self._try(family, file, is_new=False)

    def run(self, numbers: range) -> None:
        """Try these mutants."""
        for self.number in numbers:
            family, file = self.mutator.draw(self.number)
            self._try(family, Input(file.content[:BLACK_BOX_BYTES], file.sidecar), is_new=True)

    def _try(self, family: str, file: Input, *, is_new: bool) -> None:
        tally = self.tallies.setdefault(family, Tally())
        self.note(file)
        began = time.process_time()
        verdict = self._judge(file)
        tally.tried += 1
        tally.worst_cpu_s = max(tally.worst_cpu_s, time.process_time() - began)
        peak = peak_mib()
        tally.worst_memory_mib, self._peak_mib = max(tally.worst_memory_mib, peak - self._peak_mib), max(peak, self._peak_mib)
        if verdict is None:
            return
        tally.reasons[verdict.code] += 1
        tally.accepted += verdict.code == "accepted"
        tally.surprises += "something unexpected" in verdict.shape
        if (family, verdict) not in self.seen:
            self.seen.add((family, verdict))
            if is_new:
                self.novel.append((family, verdict, file))
                if len(self.mutator.pool) < POOL:
                    self.mutator.pool.append((family, file))

    def _judge(self, file: Input) -> Verdict | None:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            self._accepted += 1
            return judge(file.content, file.sidecar, is_thorough=self._accepted % THOROUGH_EVERY == 0)
        except Violation as violation:
            self.found.append(Found(f"violation: {violation}", file))
        except Exception as error:  # noqa: BLE001  what a fuzzer is for
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.found.append(Found(f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {error}"[:300], file))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return None


def peak_mib() -> float:
    """Most memory that this process ever held, in MiB."""
    # Not ru_maxrss, which begins with that of the process that started this one (getrusage(2), fork(2), execve(2)).
    said = re.search(rb"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_bytes(), re.MULTILINE)
    assert said is not None
    return int(said[1]) / 1024


def main() -> None:
    """Run as a process: one JSON line of orders on standard input, one of results on standard output."""
    orders = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    from scanloop.scans.reader import _load_parsers

    _load_parsers()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Path(orders["black_box"]).open("r+b") as file, mmap.mmap(file.fileno(), 0) as box:

        def note(mutant: Input) -> None:
            about = mutant.sidecar or b""
            size = len(mutant.content)
            box[: BOX_HEAD.size] = BOX_HEAD.pack(engine.number, size, len(about), mutant.sidecar is not None)
            box[BOX_HEAD.size : BOX_HEAD.size + size] = mutant.content
            box[BOX_HEAD.size + size : BOX_HEAD.size + size + len(about)] = about

        engine = Engine(Mutator(orders["seed"], orders["kinds"]), note)
        for kept in load():
            engine.learn(kept.family, kept.file)
        engine.tallies.clear()
        end = orders["start"] + orders["count"]
        for start in range(orders["start"], end, _STEP):
            engine.run(range(start, min(start + _STEP, end)))
            if orders["for_s"] and time.process_time() > orders["for_s"]:
                break
    print(json.dumps(_results(engine), default=str))


def _results(engine: Engine) -> dict[str, Any]:
    return {
        "tallies": {family: vars(tally) for family, tally in engine.tallies.items()},
        "novel": [[family, asdict(verdict), file.as_dict()] for family, verdict, file in engine.novel],
        "found": [[found.what, found.file.as_dict()] for found in engine.found],
        "peak_mib": peak_mib(),
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    main()
