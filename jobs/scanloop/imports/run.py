"""The import job: what a set's indexes say, chunk by chunk, into scans and annotations."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
import zstandard

from scanloop.catalog.tables import taxonomies
from scanloop.errors import DataWrong
from scanloop.execution import JobRun
from scanloop.execution.receipts import load_receipt, receipt_key
from scanloop.imports.annotate import annotation_row, content_of, newest_of, size_of, sizes_of
from scanloop.imports.entries import Entry, decode_entry, encode_entry
from scanloop.imports.layout import SetFolder
from scanloop.imports.problems import Problems, encode_problems
from scanloop.imports.receive import ImportReceiver
from scanloop.imports.source import PLANES, Progress, Source, Surveyed, as_counts, survey
from scanloop.intake.ledger import known_contents
from scanloop.product_lines import ProductLine
from scanloop.steps import step

log = logging.getLogger(__name__)

CHUNK = 1000
"""Images in one publication, as in intake."""
JOB = "import.run"
PREFIX = "imports"
_COUNTED = ("scans", "duplicates", "quarantined", "annotations", "replaced", "unchanged", "boxes", "clean", "missing")


class ImportJob:
    """One import: chunk 0 reads the indexes and writes down what there is to do, then come the images, and at the end the report."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self.source, self.progress = source, progress

    def body(self, run: JobRun, chunk: int) -> dict[str, Any]:
        """Do one chunk. Raises DataWrong as `survey` does, and where a category is not in the taxonomy."""
        if chunk == 0:
            return self._plan(run)
        receipt = load_receipt(run.store, receipt_key(run.identity.run_id, run.identity.job, f"{self.source.dataset}.0000"))
        assert receipt is not None, "chunk 0 has its receipt before chunk 1 begins"
        work = json.loads(run.store.get(receipt.result["work"]))
        if chunk <= len(work["chunks"]):
            return self._receive(run, work, chunk)
        return self._report(run, chunk)

    def total(self, chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The result of the whole."""
        first, last = chunks[0], chunks[-1]
        counts = {name: sum(int(chunk.get(name, 0)) for chunk in chunks) for name in _COUNTED}
        plan = {name: first[name] for name in ("dataset", "preset", "images", "splits", "version", "is_learnable")}
        return {**plan, **counts, "problems": last["problems"], "problems_key": last["problems_key"], "left": False}

    def _plan(self, run: JobRun) -> dict[str, Any]:
        definition = run.definition
        with run.catalog.read() as connection:
            found = connection.execute(
                sa.select(taxonomies.c.categories).where(taxonomies.c.taxonomy_version == definition.taxonomy)
            ).scalar_one_or_none()
        if found is None:
            raise DataWrong(f"The taxonomy {definition.taxonomy} is not in the catalog. Run: scanloop definitions apply.")
        self.source.mapping.check_known([category["id"] for category in found], definition.taxonomy)
        problems, surveyed = Problems(), Surveyed()
        keys: list[str] = []
        for part in _chunks(survey(self.source, run.workdir, problems, surveyed, self.progress)):
            stored = run.store.put_content(f"{PREFIX}/work", _packed(part), ".jsonl.zst")
            step("imports.after_work")
            run.add_output(stored)
            keys.append(stored.key)
        work = {"chunks": keys, "version": surveyed.version, "images": surveyed.images}
        stored = run.store.put_content(f"{PREFIX}/work", json.dumps(work, sort_keys=True).encode(), ".json")
        step("imports.after_plan")
        run.add_output(stored)
        counts = as_counts(surveyed)
        kept = {name: counts[name] for name in ("images", "splits", "version")}
        fits = self._fits(definition)
        about = {"is_learnable": fits, "dataset": self.source.dataset, "preset": self.source.preset.name, "work": stored.key, "left": True}
        return {**about, **kept, **self._kept(run, problems)}

    def _fits(self, definition: ProductLine) -> bool:
        """Whether the product line's snapshots will hold the set; a warning says why not."""
        name, wanted = definition.product_line, definition.training.needed_planes
        if not wanted <= set(PLANES):
            log.warning(
                "%s learns from %s; pictures of a set have %s. Its snapshots leave them out. A product line with "
                "training: {planes: [red, green, blue]} learns from them.",
                name,
                ", ".join(sorted(wanted)),
                ", ".join(PLANES),
            )
        if not definition.covers(self.source.scanner_id):
            log.warning("The scanners of %s do not include %s, so its snapshots leave the set out.", name, self.source.scanner_id)
            return False
        return wanted <= set(PLANES)

    def _receive(self, run: JobRun, work: dict[str, Any], chunk: int) -> dict[str, Any]:
        entries = _unpacked(run.store.get(work["chunks"][chunk - 1]))
        problems, done = Problems(), (chunk - 1) * CHUNK
        passed = 0

        def on_done() -> None:
            nonlocal passed
            passed += 1
            self.progress("Importing", min(done + passed, work["images"]), work["images"])

        receiver = ImportReceiver(run, self.source, SetFolder(self.source.folder, problems), on_done)
        receiver.receive(entries)
        counts = Counter(receiver.counts) + self._annotate(run, receiver, entries, f"{self.source.dataset} {work['version']}", problems)
        return {**{name: counts[name] for name in _COUNTED}, "left": True, **self._kept(run, problems)}

    def _annotate(self, run: JobRun, receiver: ImportReceiver, entries: list[Entry], author: str, problems: Problems) -> Counter[str]:
        """One annotation for each entry whose picture is a scan and for which something was looked for."""
        counts: Counter[str] = Counter()
        ids = [entry.sha256 for entry in entries]
        there, held = sizes_of(run.catalog, ids), known_contents(run.catalog, ids)
        before = newest_of(run.catalog, run.definition.product_line, self.source.dataset, ids)
        fresh = receiver.rows.rows["scans"]
        rows = []
        for entry in entries:
            if entry.path in receiver.gone:
                problems.report(receiver.gone[entry.path][0], entry.path, "", *receiver.gone[entry.path][1:])
                counts["missing"] += 1
                continue
            reason = receiver.quarantined(entry)
            if reason is not None or held[entry.sha256].is_held:
                problems.report(
                    "picture_unreadable", entry.path, "", "a picture that can be read", reason or "it in quarantine from before"
                )
                continue
            if entry.sha256 in there:
                state, *size = there[entry.sha256]
                if state == "erased":
                    problems.report("picture_erased", entry.path, "", "a scan", "one that was erased")
                    continue
            elif entry.sha256 in fresh:
                size = list(size_of(fresh[entry.sha256]["planes"]))
            else:
                problems.report("picture_unreadable", entry.path, "", "a picture", "a report about scans")
                continue
            boxes, looked_for = content_of(entry, size[0], size[1], problems)
            if not looked_for and entry.sha256 not in before:
                continue
            about = {
                "scan_id": entry.sha256,
                "product_line": run.definition.product_line,
                "author": author,
                "tool": self.source.tool,
                "taxonomy_version": run.definition.taxonomy,
            }
            row = annotation_row(about, boxes, looked_for, before.get(entry.sha256))
            counts["boxes"] += len(boxes)
            counts["clean"] += bool(looked_for) and not boxes
            if row is None:
                counts["unchanged"] += 1
            else:
                counts["replaced" if row["supersedes"] else "annotations"] += 1
                rows.append(row)
        run.publication.insert("annotations", rows, action="annotation.imported", subject="annotation_id")
        return counts

    def _report(self, run: JobRun, chunk: int) -> dict[str, Any]:
        """Every problem of every chunk, in one object."""
        parts = (receipt_key(run.identity.run_id, run.identity.job, f"{self.source.dataset}.{number:04d}") for number in range(chunk))
        receipts = [receipt for part in parts if (receipt := load_receipt(run.store, part)) is not None]
        content = b"".join(run.store.get(receipt.result["problems_key"]) for receipt in receipts if receipt.result["problems_key"])
        counts = sum((Counter(receipt.result["problems"]) for receipt in receipts), Counter[str]())
        key = None
        if content:
            stored = run.store.put_content(f"{PREFIX}/problems", content, ".jsonl")
            step("imports.after_report")
            run.add_output(stored)
            key = stored.key
        return {"left": False, "problems": dict(sorted(counts.items())), "problems_key": key}

    def _kept(self, run: JobRun, problems: Problems) -> dict[str, Any]:
        """The problems of one chunk: counted in its result, one by one in the store."""
        key = None
        if problems.kept:
            stored = run.store.put_content(f"{PREFIX}/problems", encode_problems(problems.kept), ".jsonl")
            step("imports.after_problems")
            run.add_output(stored)
            key = stored.key
        return {"problems": dict(sorted(problems.counts.items())), "problems_key": key}


def import_job(source: Source, progress: Progress = lambda _what, _done, _total: None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Body and total of the job, for `execute_in_chunks`; its part is the dataset's name."""
    job = ImportJob(source, progress)
    return job.body, job.total


def _chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    for entry in entries:
        part.append(entry)
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part


def _packed(entries: list[Entry]) -> bytes:
    lines = b"".join(encode_entry(entry) + b"\n" for entry in entries)
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)


def _unpacked(content: bytes) -> list[Entry]:
    return [decode_entry(line) for line in zstandard.ZstdDecompressor().decompress(content).splitlines()]
