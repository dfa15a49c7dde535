"""The table of bad inputs through the confined reader: a verdict within 10 s of processor time and 1 GiB, the reader alive after it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import hostile
from fuzzing.hostile import MIB, Hostile
from fuzzing.oracles import check_refusal
from fuzzing.seeds import Seed, all_seeds

from scanloop.scans.content import ScanContent
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import MAX_INFLATED_BYTES
from scanloop.scans.sandbox import Sandbox
from scanloop.scans.threat_report import Content, ReportContent

CPU_S, MEMORY_MIB = 10, 1024
_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """A confined reader, and what each file costs it."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.tried = 0
        self.worst_cpu_s = self.worst_mib = self.worst_more_mib = self.more_mib = 0.0
        self.verdicts: Counter[str] = Counter()
        self.read(all_seeds()["dicom explicit"].content)
        self.__dict__ |= {"tried": 0, "worst_cpu_s": 0.0, "worst_more_mib": 0.0, "verdicts": Counter()}

    def read(self, content: bytes, about: bytes | None = None) -> Content | ScanRefused:
        """Read one file and add up its cost."""
        path = self.folder / "file"
        path.write_bytes(content)
        beside = self.folder / "sidecar"
        if about is not None:
            beside.write_bytes(about)
        began, held_mib = self._cpu_s(), 0.0
        if self.sandbox.starts:
            Path(f"/proc/{self._pid()}/clear_refs").write_text("5")  # the peak counts from here
            held_mib = self._status("VmRSS")
        try:
            outcome: Content | ScanRefused = self.sandbox.read(path, beside if about is not None else None)
        except ScanRefused as refusal:
            outcome = refusal
        assert self.sandbox.starts == 1, f"The reader died: {outcome}"
        self.tried += 1
        self.worst_cpu_s = max(self.worst_cpu_s, self._cpu_s() - began)
        peak_mib = self._status("VmHWM")
        self.more_mib = peak_mib - held_mib
        self.worst_mib, self.worst_more_mib = max(self.worst_mib, peak_mib), max(self.worst_more_mib, self.more_mib)
        self.verdicts[outcome.reason_code if isinstance(outcome, ScanRefused) else "accepted"] += 1
        return outcome

    def _pid(self) -> int:
        child = self.sandbox._child
        assert child is not None
        return child.pid

    def _cpu_s(self) -> float:
        if self.sandbox._child is None:
            return 0.0
        fields = Path(f"/proc/{self._pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self._pid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    def report(self, line: str) -> None:
        """Print the figures of one line of the table, and hold them against its limits."""
        said = ", ".join(f"{code} {count}" for code, count in self.verdicts.most_common())
        cost = f"worst {self.worst_cpu_s:.2f} s and {self.worst_mib:.0f} MiB, {self.worst_more_mib:.0f} MiB for a file"
        print(f"\n{line}: {self.tried} files, {cost} ({said})")
        assert self.worst_cpu_s < CPU_S
        assert self.worst_mib < MEMORY_MIB


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    monkeypatch.setattr("scanloop.scans.sandbox.FILES_A_CHILD", 1 << 20)  # one process reads all, so that its figures are of all
    with Sandbox(tmp_path) as sandbox:
        yield Meter(sandbox, tmp_path)


def refuse_all(meter: Meter, files: Iterable[Hostile], line: str, *, least: int, codes: frozenset[str] | None = None) -> None:
    """Every file is refused for a reason that is kept."""
    for file in files:
        outcome = meter.read(file.content, file.sidecar)
        assert isinstance(outcome, ScanRefused), f"{file.what} was accepted"
        check_refusal(outcome)
        assert codes is None or outcome.reason_code in codes, f"{file.what}: {outcome.reason_code} ({outcome.message})"
    assert meter.tried >= least
    meter.report(line)


def test_nesting_of_300_and_of_100000_is_refused(meter: Meter) -> None:
    codes = frozenset({"too_deep", "malformed", "truncated", "sidecar_invalid"})
    refuse_all(meter, hostile.nested(), "nested 300 and 100,000 deep", least=30, codes=codes)
    assert meter.worst_cpu_s < 1
    assert meter.verdicts["too_deep"] >= 20


def test_lengths_beyond_the_end_are_refused(meter: Meter) -> None:
    refuse_all(meter, hostile.long_lengths(), "lengths beyond the end", least=600)


def test_missing_delimiters_are_refused(meter: Meter) -> None:
    refuse_all(meter, hostile.missing_delimiters(), "missing delimiters", least=60)


def test_a_deflated_dataset_is_never_inflated_beyond_the_limit(meter: Meter) -> None:
    for size_mib, file in hostile.deflated_dicom():
        outcome = meter.read(file.content)
        is_within = size_mib * MIB < MAX_INFLATED_BYTES
        if "private" in file.what and is_within:
            assert isinstance(outcome, ScanContent), f"{file.what}: {outcome}"
        else:
            assert isinstance(outcome, ScanRefused), file.what
            assert outcome.reason_code == "too_large" or is_within, f"{file.what}: {outcome.reason_code} ({outcome.message})"
        # Python holds a deflated dataset twice while it is put together.
        assert meter.more_mib < 2 * min(size_mib, MAX_INFLATED_BYTES / MIB) + 64, file.what
    meter.report("deflated DICOM, 2 MiB to 4 GiB")


def test_pixels_that_inflate_to_more_than_the_picture_cost_no_more_than_the_picture(meter: Meter) -> None:
    for size_mib, file in hostile.picture_bombs():
        outcome = meter.read(file.content, file.sidecar)
        assert isinstance(outcome, ScanRefused), f"{file.what} was accepted"
        check_refusal(outcome)
        picture_mib = 4 * 32 if "4096" in file.what else 4
        assert meter.more_mib < 3 * len(file.content) / MIB + picture_mib + 8, f"{file.what}: {meter.more_mib} MiB more at {size_mib}"
    meter.report("PNG, TIFF and frame bombs, 2 MiB to 4 GiB")
    assert meter.tried >= 50


def test_texts_and_profiles_that_inflate_are_not_inflated(meter: Meter) -> None:
    for _, file in hostile.ancillary_bombs():
        assert isinstance(meter.read(file.content, file.sidecar), ScanContent), file.what
        assert meter.more_mib < 4 * len(file.content) / MIB + 8, file.what
    meter.report("ancillary PNG bombs, 2 MiB to 4 GiB")


def test_absurd_numbers_are_refused_by_arithmetic(meter: Meter) -> None:
    refuse_all(meter, hostile.absurd(), "absurd rows, columns, frames, bits, samples", least=120)
    assert meter.worst_more_mib < 8
    assert meter.worst_cpu_s < 0.5


def test_files_that_are_two_things_are_refused(meter: Meter) -> None:
    codes = frozenset({"polyglot", "not_a_scan", "malformed", "truncated", "sidecar_missing", "unsupported_pixels"})
    refuse_all(meter, hostile.polyglots(), "polyglots", least=20, codes=codes)


def one_a_syntax() -> dict[str, Seed]:
    """A seed of each transfer syntax and kind of picture, and a report of each."""
    found = {(seed.family, seed.tree.syntax if seed.tree else name): seed for name, seed in reversed(all_seeds().items())}
    return {seed.name: seed for seed in found.values()}


def test_files_cut_at_every_offset_are_accepted_only_when_nothing_is_missing() -> None:
    """Here in this process, for there are many; every fiftieth is read confined too, below."""
    tried = accepted = 0
    for name, seed in one_a_syntax().items():
        whole = read_scan(seed.content, seed.sidecar)
        for length, content in hostile.cuts(seed):
            tried += 1
            try:
                scan = read_scan(content, seed.sidecar)
            except ScanRefused as refusal:
                check_refusal(refusal)
                continue
            accepted += 1
            # What may be missing: the pad byte of the last value, an unused tail of the last directory, the two numbers behind a decision.
            assert len(seed.content) - length <= (24 if seed.family == "report" else 4), (
                f"{name} cut at {length} of {len(seed.content)} was accepted"
            )
            assert _is_same(scan, whole), name
    print(f"\ncut at every offset: {tried} files, {accepted} accepted, all whole")
    assert tried >= 5_000
    assert accepted < 100


def _is_same(scan: Content, whole: Content) -> bool:
    if isinstance(scan, ReportContent) or isinstance(whole, ReportContent):
        assert isinstance(scan, ReportContent)
        assert isinstance(whole, ReportContent)
        return replace(scan, total_objects=None, alarm_objects=None) == replace(whole, total_objects=None, alarm_objects=None)
    return all(np.array_equal(scan.planes[plane], pixels) for plane, pixels in whole.planes.items())


def test_cut_files_do_the_reader_no_harm(meter: Meter) -> None:
    for seed in all_seeds().values():
        for length, content in hostile.cuts(seed):
            if length % 50 == 0 and length < len(seed.content) - 24:
                assert isinstance(meter.read(content, seed.sidecar), ScanRefused)
    meter.report("cut, through the reader")
    assert meter.tried >= 500
