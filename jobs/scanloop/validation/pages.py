"""Pages in the store: Data Docs of a run, which stay; and where one looks first, which always shows the latest: an index, and a page a machine.

A run's pages are named in its receipt. Those that show the latest are written again by each run and follow from the catalog, so no
receipt vouches for them: `datadocs/latest/index.html` and `datadocs/scanners/<scanner>.html`.
"""

from __future__ import annotations

from scanloop.execution import JobRun
from scanloop.execution.receipts import folder_name
from scanloop.steps import step
from scanloop.store import StoredObject
from scanloop.validation.batch import Batch, Checked
from scanloop.validation.docs import MachineEntry, SuiteEntry, machines_table, offline_pages, page, suites_table
from scanloop.validation.expectations import SuiteOutcome
from scanloop.validation.health import latest_states
from scanloop.validation.machines import Stretch
from scanloop.validation.suites import Suite
from scanloop.validation.trends import machine_page

LATEST = "datadocs/latest/index.html"
ARRIVALS = "datadocs/latest/arrivals.html"
_MOST_MACHINES = 500
"""Machines in the index of the latest run; those that are not steady come first."""


def machine_key(scanner_id: str) -> str:
    """Where the page of a machine is."""
    return f"datadocs/scanners/{scanner_id}.html"


def put_page(run: JobRun, key: str, content: bytes) -> StoredObject:
    """Keep a page."""
    stored = run.store.put(key, content, content_type="text/html; charset=utf-8")
    step("validation.after_page")
    return stored


class RunPages:
    """The pages of one run, batch by batch."""

    def __init__(self, run: JobRun) -> None:
        self.run = run
        self.folder = f"datadocs/{folder_name(run.identity.run_id)}"
        self.suites: list[SuiteEntry] = []
        self.machines: dict[str, MachineEntry] = {}
        self.checked = 0

    def add(self, batch: Batch) -> dict[str, str]:
        """Keep the pages of a batch. Returns name of a part of a suite to the page of its result."""
        self.checked += len(batch.scans)
        keys: dict[str, str] = {}
        for one in batch.checked:
            kept = set()
            for part in one.suite.suites:
                if part.name not in one.outcomes:
                    continue
                folder, outcome = one.folders[part.name], one.outcomes[part.name]
                prefix = f"{batch.number:02d}/{one.suite.name}/{folder.name}"
                if folder not in kept:
                    kept.add(folder)
                    for path, content in offline_pages(folder):
                        self.run.add_output(put_page(self.run, f"{self.folder}/{prefix}/{path}", content))
                place = f"{prefix}/{outcome.page.relative_to(folder).as_posix()}"
                keys[part.name] = f"{self.folder}/{place}"
                self.suites.append(_entry(one, part, outcome, place))
            self._add_machines(one, keys)
        return keys

    def _add_machines(self, one: Checked, keys: dict[str, str]) -> None:
        by_machine: dict[str, list[Stretch]] = {}
        for stretch in one.stretches:
            by_machine.setdefault(stretch.scanner_id, []).append(stretch)
        for scanner_id, stretches in sorted(by_machine.items()):
            docs_href = f"../{keys[one.suite.history.name].removeprefix('datadocs/')}"
            put_page(self.run, machine_key(scanner_id), machine_page(scanner_id, stretches, docs_href))
            last = stretches[-1]
            state = "drifted" if last.blocking else "steady" if last.has_history else "new"
            until = max(scan["acquired_at"] for stretch in stretches for scan in stretch.scans)
            self.machines[scanner_id] = MachineEntry(
                scanner_id, f"../scanners/{scanner_id}.html", state, f"{until:%Y-%m-%d %H:%M}", last.blocking
            )

    def finish(self) -> None:
        """Keep the run's index, and the one that shows the latest."""
        title = f"Validation of {self.checked} scans, run {self.run.identity.run_id}"
        machines = sorted(self.machines.values(), key=lambda one: (one.state == "steady", one.scanner_id))
        body = f"<h2>Suites</h2>{suites_table(self.suites)}<h2>Scanners of this run</h2>{machines_table(machines)}"
        self.run.add_output(put_page(self.run, f"{self.folder}/index.html", page(title, body)))
        here = self.folder.removeprefix("datadocs/")
        known = {
            one.scope: MachineEntry(one.scope, f"../scanners/{one.scope}.html", one.state, one.until[:16].replace("T", " "), one.failed)
            for one in latest_states(self.run.catalog)
        } | self.machines
        everyone = sorted(known.values(), key=lambda one: (one.state == "steady", one.scanner_id))
        more = (
            f"<p>{len(everyone) - _MOST_MACHINES} more, all of them further down the alphabet.</p>"
            if len(everyone) > _MOST_MACHINES
            else ""
        )
        suites = [SuiteEntry(one.suite, f"../{here}/{one.href}", one.checked, one.failed, one.names, one.warned) for one in self.suites]
        arrivals = '<p><a href="arrivals.html">Arrivals of each scanner</a></p>' if self.run.store.head(ARRIVALS) else ""
        body = (
            f'<p>The latest run: <a href="../{here}/index.html">{title}</a></p>{arrivals}<h2>Suites</h2>{suites_table(suites)}'
            f"<h2>Scanners</h2>{machines_table(everyone[:_MOST_MACHINES])}{more}"
        )
        put_page(self.run, LATEST, page("Validation", body))


def _entry(one: Checked, part: Suite, outcome: SuiteOutcome, href: str) -> SuiteEntry:
    found = tuple(name for name, count in outcome.counts.items() if count)
    blocking = part.blocking(found)
    is_history = part is one.suite.history
    checked = sum(len(stretch.rows) for stretch in one.stretches) if is_history else len(one.scans)
    failed = sum(bool(part.blocking(names)) for names in outcome.failed.values())
    return SuiteEntry(part.full_name, href, checked, failed, blocking, tuple(name for name in found if name not in blocking))
