"""The demonstration: simulated scanners deliver, Airflow takes the scans round the loop, a simulated device updates itself and answers.

Every act has a run id of its own and is safe to repeat, so a demonstration that was killed is finished by starting it again.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from scanloop.catalog import Catalog
from scanloop.catalog.loop import LoopStatus, loop_status
from scanloop.errors import NothingToDo, WorldUnavailable
from scanloop.stack.airflow import AirflowApi, passwords
from scanloop.stack.deployment import Deployment
from scanloop.stack.goals import standing

POLL_S = 2.0
ROUND_TIMEOUT_S = 1500
QUIET_S = 12
"""Nothing runs in Airflow for this long: whatever is still open needs waking."""
APPROVER = "release-manager"


@dataclass
class Clock:
    """How long each part took."""

    started: float = field(default_factory=time.monotonic)
    parts: list[tuple[str, float]] = field(default_factory=list)

    def lap(self, name: str, since: float) -> None:
        """Note that `name` took from `since` until now."""
        self.parts.append((name, time.monotonic() - since))


def run_demo(deployment: Deployment, *, rounds: int, bags: int, seed: int, keep: bool, port: int | None) -> None:
    """Run the demonstration to its report.

    Raises:
        WorldUnavailable: something did not start, or the loop did not come round in time; what there is stays, and a second start goes on.
        DataWrong: an invariant does not hold.
    """
    from scanloop.stack.report import write_report

    console, clock = Console(stderr=True), Clock()
    since = time.monotonic()
    with console.status("Starting") as status:
        api = deployment.bring_up(lambda step: status.update(f"Starting: {step}"), port)
    clock.lap("start", since)
    password = passwords(deployment.home / "airflow")["admin"]
    console.print(f"[bold]Scanloop is up:[/] {api.url}  (login admin, password {password})")
    try:
        with closing(Catalog(deployment.database_url())) as catalog:
            for number in range(1, rounds + 1):
                since = time.monotonic()
                _round(deployment, api, catalog, console, number=number, bags=bags, seed=seed)
                clock.lap(f"round {number}", since)
            since = time.monotonic()
            answers = _device(deployment, catalog, console)
            clock.lap("device", since)
            write_report(deployment, catalog, console, clock.parts, answers)
    finally:
        if keep:
            console.print(f"The stack is left running: {api.url}. Stop it with: make down")
        else:
            deployment.bring_down()


def _round(deployment: Deployment, api: AirflowApi, catalog: Catalog, console: Console, *, number: int, bags: int, seed: int) -> None:
    """One delivery, all the way round for every product line."""
    console.rule(f"Round {number}: {bags} bags arrive")
    marker = deployment.home / "stack" / f"delivered-{number}"
    if not marker.exists():
        words = ("simulate", "deliver", "--sites", "2", "--bags", str(bags), "--seed", str(seed), "--round", str(number))
        delivered = deployment.command(*words)
        marker.write_text(json.dumps(delivered))
    _wait_for_dags(api, deployment)
    api.trigger("ingest_scans", f"demo-round-{number}")
    _follow(deployment, api, catalog, console, number)


def _wait_for_dags(api: AirflowApi, deployment: Deployment) -> None:
    expected = sorted(path.stem for path in (deployment.project / "dags").glob("*.py"))
    deadline = time.monotonic() + 120
    while missing := [dag_id for dag_id in expected if not api.has_dag(dag_id)]:
        if time.monotonic() > deadline:
            raise WorldUnavailable(f"Airflow has not parsed {missing[0]}; see {deployment.supervisor.logs / 'airflow-dag-processor.log'}.")
        time.sleep(1)


def _follow(deployment: Deployment, api: AirflowApi, catalog: Catalog, console: Console, number: int) -> None:
    """Watch until every product line came round; wake what waits; say what moves."""
    deadline, quiet_since, wakes, shown = time.monotonic() + ROUND_TIMEOUT_S, time.monotonic(), 0, ""
    told: set[tuple[str, str]] = set()
    while time.monotonic() < deadline:
        deployment.supervisor.check()
        _tell_failures(api, console, told, f"demo-round-{number}")
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
            if wakes == 8:
                raise WorldUnavailable("The loop stands still: " + "; ".join(item.missing for item in standings if not item.is_done))
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


def _tell_failures(api: AirflowApi, console: Console, told: set[tuple[str, str]], started_by: str) -> None:
    """Print each failed run once, with the task that failed."""
    for run in api.runs("failed"):
        key = (run["dag_id"], run["dag_run_id"])
        if key not in told:
            told.add(key)
            failed = [task["task_id"] for task in api.task_instances(*key) if task["state"] == "failed"]
            console.print(f"[red]{run['dag_id']} {run.get('partition_key') or ''} failed at {', '.join(failed)}[/] ({started_by})")


def answer_approvals(deployment: Deployment, api: AirflowApi, console: Console) -> None:
    """Approve, as the release manager, what waits for approval: through the API that a person's click uses."""
    waiting = api.call("GET", "dags/~/dagRuns/~/hitlDetails", params={"response_received": False, "limit": 50})
    for detail in waiting["hitl_details"]:
        task = detail["task_instance"]
        manager = AirflowApi(api.url, APPROVER, passwords(deployment.home / "airflow")[APPROVER])
        manager.log_in()
        path = f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/{task['map_index']}/hitlDetails"
        manager.call("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}}, accept=(409,))
        console.print(f"  {APPROVER} approves: {detail['subject']}")


def _device(deployment: Deployment, catalog: Catalog, console: Console) -> list[dict[str, Any]]:
    """A simulated device of each product line updates itself and answers fresh scans that the loop never saw."""
    console.rule("Devices")
    answers = []
    with catalog.read() as connection:
        states = loop_status(connection)
    fresh = fresh_scans(deployment)
    for state in states:
        home = deployment.home / "devices" / state.product_line
        identity = ("--device-home", str(home))
        with suppress(NothingToDo):
            deployment.command("edge", "enrol", *identity, "--site", "demo-site", "--product-line", state.product_line)
        try:
            update = deployment.command("edge", "update", *identity)
        except NothingToDo:
            update = deployment.command("edge", "status", *identity)
        for scan, content in fresh:
            out, picture = home / "answers" / f"{scan.stem}.tdr.dcs", home / "answers" / f"{scan.stem}.png"
            out.parent.mkdir(parents=True, exist_ok=True)
            answer = deployment.command("edge", "answer", *identity, str(scan), "--out", str(out), "--picture", str(picture))
            answers.append(
                {
                    "product_line": state.product_line,
                    "scan": scan.name,
                    "truth": content,
                    "update": update,
                    "picture": str(picture),
                    **answer,
                }
            )
            console.print(f"  {state.product_line}: {scan.name} holds {content}; the device says {answer}")
    return answers


def fresh_scans(deployment: Deployment) -> list[tuple[Path, str]]:
    """A few scans that were never delivered, each with what truly is in it: one of each category that came up, and a clean one."""
    folder = deployment.home / "devices" / "fresh"
    places = {"SCANLOOP_LANDING_URL": (folder / "scans").as_uri(), "SCANLOOP_TRUTH_URL": (folder / "truth").as_uri()}
    if not (folder / "truth").exists():
        deployment.command("simulate", "deliver", "--sites", "1", "--bags", "16", "--seed", "99", "--round", "99", environment=places)
    chosen: dict[str, Path] = {}
    for path in sorted((folder / "scans").rglob("*.dcs")):
        truth = folder / "truth" / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.json"
        if truth.exists():
            boxes = json.loads(truth.read_text())["boxes"]
            chosen.setdefault(boxes[0]["category"] if boxes else "nothing", path)
    return [(path, content) for content, path in sorted(chosen.items())]
