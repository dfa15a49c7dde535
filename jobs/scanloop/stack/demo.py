"""The demonstration: simulated scanners deliver, Airflow takes the scans round the loop, a simulated device updates itself and answers.

Every act has a run id of its own and is safe to repeat, so a demonstration that was killed is finished by starting it again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from rich.console import Console

from scanloop.catalog import Catalog
from scanloop.catalog.loop import LoopStatus, loop_status
from scanloop.errors import DataWrong, NothingToDo, WorldUnavailable
from scanloop.stack.airflow import AirflowApi, passwords
from scanloop.stack.deployment import Deployment
from scanloop.stack.goals import standing
from scanloop.stack.invariants import check_invariants
from scanloop.store import open_store

POLL_S = 2.0
ROUND_TIMEOUT_S = 1500
MOST_WAKES = 8
QUIET_S = 12
"""Nothing runs in Airflow for this long: whatever is still open needs waking."""
THREATS = ("handgun", "knife", "grenade", "pipe_bomb")
"""What the simulated bags may hold; pipe bombs are in no product line yet: they are there to be found by a backfill."""
FILE_COLUMNS = 140
"""Width of what is written when nobody watches."""
FRESH_BAGS, FRESH_EACH = 30, 2
"""Bags that the devices' scans are taken from, and scans of each category."""
APPROVER = "release-manager"
APPROVAL_PAUSE_S = 4
"""Airflow asks again when an answer comes within its first second."""


@dataclass
class Meter:
    """How long each part took, and how much memory everything took together."""

    times: list[tuple[str, float]] = field(default_factory=list)
    peak_bytes: int = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note how long what happens inside takes."""
        since = time.monotonic()
        yield
        self.times.append((name, time.monotonic() - since))

    def look(self, deployment: Deployment) -> None:
        """Note the memory that every process of the stack has to itself now."""
        total = 0
        for known in deployment.supervisor.known():
            process = known.process()
            for member in [process, *process.children(recursive=True)] if process else []:
                with suppress(psutil.Error):
                    total += member.memory_info().rss - member.memory_info().shared
        self.peak_bytes = max(self.peak_bytes, total)


def run_demo(deployment: Deployment, *, rounds: int, bags: int, seed: int, keep: bool, port: int | None) -> None:
    """Run the demonstration to its report.

    Raises:
        WorldUnavailable: something did not start, or the loop did not come round in time; what there is stays, and a second start goes on.
        DataWrong: an invariant does not hold.
    """
    console, meter = Console(stderr=True, width=None if sys.stderr.isatty() else FILE_COLUMNS), Meter()
    with meter.part("start"), console.status("Starting") as status:
        api = deployment.bring_up(lambda step: status.update(f"Starting: {step}"), port)
    password = passwords(deployment.home / "airflow")["admin"]
    console.print(f"[bold]Scanloop is up:[/] {api.url}  (login admin, password {password})")
    try:
        with closing(Catalog(deployment.database_url())) as catalog:
            for number in range(1, rounds + 1):
                with meter.part(f"round {number}"):
                    _round(deployment, api, catalog, console, meter, number=number, bags=bags, seed=seed)
            with meter.part("devices"):
                answers = _devices(deployment, catalog, console)
            _report(deployment, catalog, console, meter, answers)
    finally:
        if keep:
            console.print(f"The stack is left running: {api.url}. Stop it with: make down")
        else:
            deployment.bring_down()


def _report(deployment: Deployment, catalog: Catalog, console: Console, meter: Meter, answers: list[dict[str, Any]]) -> None:
    """Check the invariants, tell what happened, and write the page. Raises DataWrong if an invariant does not hold."""
    from scanloop.stack.facts import gather
    from scanloop.stack.report import terminal_report, write_page

    store = open_store(deployment.settings.store_url)
    checks = check_invariants(deployment.settings, catalog, store)
    with catalog.read() as connection:
        facts = gather(connection, store)
    terminal_report(console, facts, answers)
    page = write_page(
        deployment.home / "report",
        catalog,
        store,
        facts,
        checks=[{"letter": check.letter, "says": check.says, "violations": check.violations} for check in checks],
        answers=answers,
        times=meter.times,
        peak_bytes=meter.peak_bytes,
    )
    console.rule("Invariants")
    for check in checks:
        console.print(
            f"  {check.letter}  {check.says}: " + ("[green]holds[/]" if not check.violations else f"[red]{check.violations[0]}[/]")
        )
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in meter.times)
    console.print(f"\nTime: {times}. Peak memory: {meter.peak_bytes / 2**30:.1f} GiB. Report: {page}", soft_wrap=True)
    broken = [check for check in checks if check.violations]
    if broken:
        raise DataWrong(f"Invariant {broken[0].letter} does not hold: {broken[0].violations[0]}")


def _round(
    deployment: Deployment, api: AirflowApi, catalog: Catalog, console: Console, meter: Meter, *, number: int, bags: int, seed: int
) -> None:
    """One delivery, all the way round for every product line."""
    console.rule(f"Round {number}: {bags} bags arrive")
    _wait_for_dags(api, deployment)
    marker = deployment.home / "stack" / f"delivered-{number}"
    if not marker.exists():
        api.pause("ingest_scans", paused=True)  # its clock could strike in the middle, and make two rounds of one
        words = ("simulate", "deliver", "--sites", "2", "--bags", str(bags), "--seed", str(seed), "--round", str(number))
        delivered = deployment.command(*words, "--threats", ",".join(THREATS), "--clean-fraction", "0.3")
        marker.write_text(json.dumps(delivered))
    api.pause("ingest_scans", paused=False)
    for run in api.runs("failed"):
        console.print(f"  retrying {run['dag_id']} {run.get('partition_key') or ''}, which had failed")
        api.run_again(run["dag_id"], run["dag_run_id"])
    api.trigger("ingest_scans", f"demo-round-{number}")
    _follow(deployment, api, catalog, console, meter, number)


def _wait_for_dags(api: AirflowApi, deployment: Deployment) -> None:
    expected = sorted(path.stem for path in (deployment.project / "dags").glob("*.py"))
    deadline = time.monotonic() + 120
    while missing := [dag_id for dag_id in expected if not api.has_dag(dag_id)]:
        if time.monotonic() > deadline:
            raise WorldUnavailable(f"Airflow has not parsed {missing[0]}; see {deployment.supervisor.logs / 'airflow-dag-processor.log'}.")
        time.sleep(1)


def _follow(deployment: Deployment, api: AirflowApi, catalog: Catalog, console: Console, meter: Meter, number: int) -> None:
    """Watch until every product line came round; wake what waits; say what moves."""
    deadline, quiet_since, wakes, shown = time.monotonic() + ROUND_TIMEOUT_S, time.monotonic(), 0, ""
    told: dict[tuple[str, str], str] = {}
    while time.monotonic() < deadline:
        deployment.supervisor.check()
        meter.look(deployment)
        _tell_failures(api, console, told)
        active = api.runs("queued", "running")
        answer_approvals(deployment, api, console)
        with catalog.read() as connection:
            states = loop_status(connection)
            standings = [standing(connection, state, number) for state in states]
        line = " │ ".join(_one_line(state) for state in states)
        busy = ", ".join(sorted({f"{run['dag_id']}" + (f" ({key})" if (key := run.get("partition_key")) else "") for run in active}))
        if line != shown:
            console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {line}" + (f"  [dim]← {busy}[/]" if busy else ""), soft_wrap=True)
            shown = line
        if active:
            quiet_since = time.monotonic()
        elif all(item.is_done for item in standings):
            return
        elif time.monotonic() - quiet_since > QUIET_S:
            if told or wakes == MOST_WAKES:
                why = [*told.values(), *(item.missing for item in standings if not item.is_done)]
                raise WorldUnavailable(f"The loop stands still: {'; '.join(why)}. Start again to retry what failed.")
            wakes += 1
            console.print(f"  waking: {'; '.join(item.missing for item in standings if not item.is_done)}")
            api.trigger("wake_product_lines", f"demo-round-{number}-wake-{int(time.time())}")
            quiet_since = time.monotonic()
        time.sleep(POLL_S)
    raise WorldUnavailable(f"Round {number} did not come round within {ROUND_TIMEOUT_S // 60} minutes. Start again to go on.")


def _one_line(state: LoopStatus) -> str:
    open_work = state.untasked_scans + state.open_tasks + state.submitted_tasks + state.returned_tasks
    return (
        f"{state.product_line}: {state.validated_scans} scans, {state.chosen_scans} chosen, {open_work} open, {state.accepted_scans} accepted, "
        f"{state.snapshots} snapshots, {state.models} models, release {state.release_version or '—'}"
    )


def _tell_failures(api: AirflowApi, console: Console, told: dict[tuple[str, str], str]) -> None:
    """Print each failed run once, with the tasks that failed."""
    for run in api.runs("failed"):
        key = (run["dag_id"], run["dag_run_id"])
        if key not in told:
            failed = [task["task_id"] for task in api.task_instances(*key) if task["state"] == "failed"]
            told[key] = f"{run['dag_id']} {run.get('partition_key') or ''} failed at {', '.join(failed)}"
            console.print(f"  [red]{told[key]}[/]; its log is in the UI")


def answer_approvals(deployment: Deployment, api: AirflowApi, console: Console) -> None:
    """Approve, as the release manager, what has waited for a moment: through the API that a person's click uses."""
    waiting = api.call("GET", "dags/~/dagRuns/~/hitlDetails", params={"response_received": False, "limit": 50})
    for detail in waiting["hitl_details"]:
        task = detail["task_instance"]
        since = datetime.fromisoformat(detail["created_at"])
        if (datetime.now(UTC) - since).total_seconds() < APPROVAL_PAUSE_S:
            continue
        manager = AirflowApi(api.url, APPROVER, passwords(deployment.home / "airflow")[APPROVER])
        manager.log_in()
        run = quote(task["dag_run_id"], safe="")
        path = f"dags/{task['dag_id']}/dagRuns/{run}/taskInstances/{task['task_id']}/{task['map_index']}/hitlDetails"
        manager.call("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}}, accept=(409,))
        console.print(f"  {APPROVER} approves: {detail['subject']}")


def _devices(deployment: Deployment, catalog: Catalog, console: Console) -> list[dict[str, Any]]:
    """A simulated device of each product line updates itself and answers fresh scans that the loop never saw."""
    console.rule("Devices")
    answers = []
    with catalog.read() as connection:
        states = loop_status(connection)
    fresh = fresh_scans(deployment)
    for state in states:
        if state.release_version is None:
            continue
        home = deployment.home / "devices" / state.product_line
        device = ("--device-home", str(home))
        enrolment = ("--site", "demo-site", "--product-line", state.product_line, "--channel-url", deployment.settings.channel_url)
        deployment.command("edge", "enrol", *device, *enrolment, "--root-sha256", deployment.root_sha256)
        with suppress(NothingToDo):
            deployment.command("edge", "update", *device)
        folder = home / "answers"
        folder.mkdir(parents=True, exist_ok=True)
        for scan, content in fresh:
            report, picture = folder / f"{scan.stem}.tdr.dcs", folder / f"{scan.stem}.png"
            said = deployment.command("edge", "answer", str(scan), *device, "--out", str(report), "--picture", str(picture))
            found = ", ".join(f"{threat['category']} {threat['score']:.2f}" for threat in said["threats"]) or "nothing"
            console.print(
                f"  {state.product_line}, release {said['release_version']}: {scan.name} holds {content}; {said['decision']}: {found}"
            )
            answers.append(
                {"product_line": state.product_line, "scan": scan.name, "truth": content, "found": found, "picture": str(picture), **said}
            )
        deployment.command("edge", "report", *device)
    return answers


def fresh_scans(deployment: Deployment) -> list[tuple[Path, str]]:
    """A few scans that were never delivered, each with what truly is in it: two of each category that came up, and two clean ones."""
    folder = deployment.home / "devices" / "fresh"
    places = {"SCANLOOP_LANDING_URL": (folder / "scans").as_uri(), "SCANLOOP_TRUTH_URL": (folder / "truth").as_uri()}
    if not (folder / "truth").exists():
        words = ("--sites", "1", "--bags", str(FRESH_BAGS), "--seed", "99", "--round", "99", "--threats", ",".join(THREATS))
        deployment.command("simulate", "deliver", *words, environment=places)
    chosen: dict[str, list[Path]] = {}
    for path in sorted((folder / "scans").rglob("*.dcs")):
        truth = folder / "truth" / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.json"
        if truth.exists():
            held = sorted({box["category"] for box in json.loads(truth.read_text())["boxes"]})
            chosen.setdefault(" and ".join(held) or "nothing", []).append(path)
    return [(path, content) for content, paths in sorted(chosen.items()) for path in paths[:FRESH_EACH]]
