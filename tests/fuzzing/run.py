"""`make fuzz`: try mutants of every format, in processes that may die, and through the confined reader of intake; say what came of them."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fuzzing.corpus import Input, keep, load
from fuzzing.engine import BLACK_BOX_BYTES, BOX_HEAD, Mutator, Tally
from fuzzing.oracles import Violation, check_refusal, check_scan, judge, same_scan
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused
from scanloop.scans.sandbox import Received, Sandbox
from scanloop.scans.threat_report import Content

_HERE = Path(__file__).parents[1]
_ENGINE = ("-m", "fuzzing.engine")
BLAMED = ("memory_limit", "cpu_limit", "wall_limit", "output_limit", "reader_died")
"""Reasons that a file only gets by what it does to the process that reads it."""


@dataclass
class Outcome:
    """What a run came to."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    """Family to figures."""
    novel: list[tuple[str, str, str, Input]] = field(default_factory=list)
    """Family, code, shape and bytes of each first of its kind."""
    found: list[tuple[str, str, Input]] = field(default_factory=list)
    """What a file broke, its family, its bytes."""
    cpu_s: float = 0.0
    peak_mib: float = 0.0

    @property
    def tried(self) -> int:
        """Mutants in all."""
        return sum(tally.tried for tally in self.tallies.values())


def fuzz(count: int, seed: str, kinds: str = "", for_s: float = 0) -> Outcome:
    """Try `count` mutants in processes of their own; a process that dies is replaced, and the file it died of is kept.

    `kinds`: only seeds with this in their name; `for_s`: end after so much processor time.
    """
    outcome, done = Outcome(), 0
    with TemporaryDirectory(prefix="fuzz-") as folder:
        box = Path(folder) / "box"
        box.write_bytes(bytes(3 * BLACK_BOX_BYTES))
        while done < count:
            orders = {"seed": seed, "kinds": kinds, "start": done, "count": count - done, "for_s": for_s, "black_box": str(box)}
            ended = subprocess.run(
                [sys.executable, *_ENGINE],
                input=json.dumps(orders) + "\n",
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": str(_HERE), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
            )
            if ended.returncode == 0:
                _add(outcome, json.loads(ended.stdout.splitlines()[-1]))
                break
            if ended.returncode > 0:
                raise RuntimeError(f"The fuzzing process ended with {ended.returncode}: {ended.stderr[-2000:]}")
            file, number = _last(box)
            outcome.found.append((f"signal {-ended.returncode}", "crash", file))
            outcome.tallies.setdefault("lost in a crash", Tally()).tried += number + 1 - done
            done = number + 1
    return outcome


def _last(box: Path) -> tuple[Input, int]:
    """The file that was being read, and its number."""
    seen = box.read_bytes()
    number, size, about, has_about = BOX_HEAD.unpack_from(seen)
    start, end = BOX_HEAD.size, BOX_HEAD.size + size
    return Input(seen[start:end], seen[end : end + about] if has_about else None), number


def _add(outcome: Outcome, said: dict[str, Any]) -> None:
    for family, figures in said["tallies"].items():
        outcome.tallies[family] = Tally(**figures | {"reasons": Counter(figures["reasons"])})
    outcome.novel += [(family, verdict["code"], verdict["shape"], Input.of(file)) for family, verdict, file in said["novel"]]
    outcome.found += [(what, "found", Input.of(file)) for what, file in said["found"]]
    outcome.cpu_s, outcome.peak_mib = outcome.cpu_s + said["cpu_s"], max(outcome.peak_mib, said["peak_mib"])


def through_reader(files: Iterable[tuple[str, Input]], folder: Path) -> tuple[dict[str, Tally], list[tuple[str, str, Input]]]:
    """Read files in the confined reader, as intake does, and compare with what this process reads; returns figures and what was broken."""
    tallies: dict[str, Tally] = {}
    broken: list[tuple[str, str, Input]] = []
    batch = list(files)
    received = []
    for index, (_, file) in enumerate(batch):
        path = folder / f"{index}"
        path.write_bytes(file.content)
        beside = None
        if file.sidecar is not None:
            beside = folder / f"{index}.sidecar"
            beside.write_bytes(file.sidecar)
        received.append(Received(path, beside))
    with Sandbox(folder) as sandbox:
        for (family, file), outcome in zip(batch, sandbox.read_all(received), strict=True):
            tally = tallies.setdefault(family, Tally())
            tally.tried += 1
            tally.accepted += not isinstance(outcome, ScanRefused)
            tally.reasons[outcome.reason_code if isinstance(outcome, ScanRefused) else "accepted"] += 1
            if said := _disagreement(file, outcome):
                broken.append((said, family, file))
    return tallies, broken


def _disagreement(file: Input, outcome: Content | ScanRefused) -> str:
    """What is wrong with the reader's outcome; empty if nothing is."""
    try:
        check_refusal(outcome) if isinstance(outcome, ScanRefused) else check_scan(outcome)
    except Violation as violation:
        return f"reader: {violation}"
    if isinstance(outcome, ScanRefused) and outcome.reason_code in BLAMED:
        return f"reader: {outcome.reason_code}: {outcome.message}"
    try:
        here: Content | ScanRefused = read_scan(file.content, file.sidecar)
    except ScanRefused as refusal:
        here = refusal
    if isinstance(here, ScanRefused) or isinstance(outcome, ScanRefused):
        same = isinstance(here, ScanRefused) and isinstance(outcome, ScanRefused) and here.reason_code == outcome.reason_code
    else:
        same = same_scan(here, outcome)
    return "" if same else f"The reader and this process disagree: {_said(outcome)} against {_said(here)}."


def _said(outcome: Content | ScanRefused) -> str:
    return f"{outcome.reason_code} ({outcome.message})" if isinstance(outcome, ScanRefused) else "a scan"


def shrunk(file: Input, tries: int = 300) -> Input:
    """A smaller file with the same verdict: pieces are left out, ever smaller ones, then bytes made zero."""
    verdict = judge(file.content, file.sidecar)
    content, size = file.content, max(1, len(file.content) // 2)
    while size and tries > 0:
        at = 0
        while at < len(content) and tries > 0:
            shorter = content[:at] + content[at + size :]
            tries -= 1
            if _is(verdict, shorter, file.sidecar):
                content = shorter
            else:
                at += size
        size //= 2
    return Input(content, file.sidecar)


def _is(verdict: object, content: bytes, sidecar: bytes | None) -> bool:
    try:
        return judge(content, sidecar) == verdict
    except (Violation, MemoryError):
        return False


def table(title: str, tallies: dict[str, Tally]) -> str:
    """Figures as lines of text."""
    lines = [title, f"{'format':18}{'tried':>9}{'refused':>9}{'accepted':>9}{'surprises':>10}{'worst CPU s':>12}{'worst MiB':>10}"]
    for family, tally in sorted(tallies.items()):
        refused = tally.tried - tally.accepted
        figures = f"{tally.tried:9}{refused:9}{tally.accepted:9}{tally.surprises:10}{tally.worst_cpu_s:12.3f}{tally.worst_memory_mib:10.1f}"
        lines.append(f"{family:18}{figures}")
    reasons = sum((tally.reasons for tally in tallies.values()), Counter())
    lines.append("verdicts: " + ", ".join(f"{code} {count}" for code, count in reasons.most_common()))
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="mutants to try (200,000)")
    parser.add_argument("--for", dest="for_s", type=float, default=0, help="end after so many seconds of processor time")
    parser.add_argument("--seed", default="scanloop", help="the same mutants for the same seed")
    parser.add_argument("--kinds", default="", help="only seeds with this in their name, such as 'tiff' or 'dicom jpeg'")
    parser.add_argument("--reader", type=int, default=2000, help="mutants that the confined reader reads too (2,000)")
    parser.add_argument("--keep", type=int, default=0, help="keep so many new kinds of input in the corpus, smallest first")
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    outcome = fuzz(wanted.count, wanted.seed, wanted.kinds, wanted.for_s)
    print(table(f"{outcome.tried} mutants, {outcome.cpu_s:.0f} s of processor time, at most {outcome.peak_mib:.0f} MiB", outcome.tallies))
    mutator = Mutator(f"{wanted.seed} reader", wanted.kinds)
    with TemporaryDirectory(prefix="fuzz-") as folder:
        tallies, broken = through_reader((mutator.draw(number) for number in range(wanted.reader)), Path(folder))
    print(table("\nthrough the confined reader", tallies))
    broken += outcome.found
    for what, family, file in broken:
        print(f"FOUND {what}: kept as {keep(family, 'found', what, file, word='broke').name}")
    print(f"{len(outcome.novel)} kinds of outcome that the corpus does not have; {len(broken)} files that broke a rule")
    for family, code, shape, file in _smallest(outcome.novel, wanted.keep):
        keep(family, code, shape, shrunk(file))
    sys.exit(1 if broken else 0)


def _smallest(novel: list[tuple[str, str, str, Input]], most: int) -> list[tuple[str, str, str, Input]]:
    """The first few, one a shape; families and reasons take turns."""
    known = {kept.why for kept in load()}
    unique = {shape[:200]: (family, code, shape, file) for family, code, shape, file in sorted(novel, key=lambda one: -len(one[3].content))}
    turns: Counter[tuple[str, str]] = Counter()
    ordered: list[tuple[int, str, tuple[str, str, str, Input]]] = []
    for shape, one in sorted(unique.items()):
        if shape not in known and len(one[3].content) + len(one[3].sidecar or b"") < 4096:
            turns[one[:2]] += 1
            ordered.append((turns[one[:2]], shape, one))
    return [one for _, _, one in sorted(ordered, key=lambda entry: entry[:2])][:most]


if __name__ == "__main__":
    main()
