"""From facts to what the page says: which step of a product line is reached, what is stuck. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scanloop_plugin.page.facts import Facts, LineFacts
from scanloop_plugin.page.runs import CLOCK_DAGS, KEYED_DAGS, RunFacts

LATE_RELEASE = timedelta(minutes=15)
"""The signer answers within seconds; a request older than this is stuck."""


@dataclass(frozen=True)
class Step:
    """One step of the loop."""

    name: str
    """What people call it."""
    value: str
    """The number or the name to show."""
    note: str = ""
    """What to know beside it."""
    is_reached: bool = True
    """Whether anything came this far."""


@dataclass(frozen=True)
class LineView:
    """One product line as the page shows it."""

    key: str
    """Its key."""
    title: str
    """What people call it."""
    steps: tuple[Step, ...]
    """The loop, in order."""
    decision: str
    """The last verdict in words, empty before the first."""
    reasons: tuple[str, ...]
    """Why."""
    due: tuple[str, ...]
    """What waits for the next wake-up."""
    stuck: tuple[str, ...]
    """What needs a person."""
    runs: tuple[RunFacts | None, ...]
    """The newest run of each keyed DAG."""


@dataclass(frozen=True)
class PageView:
    """The whole page."""

    read_at: datetime
    """When it was read."""
    intake: tuple[Step, ...]
    """The steps before product lines part."""
    held: tuple[tuple[str, int], ...]
    """Quarantine by reason."""
    clock_runs: tuple[RunFacts | None, ...]
    """The newest run of each DAG that works for all."""
    lines: tuple[LineView, ...]
    """Every product line."""
    keyed_dags: tuple[str, ...] = KEYED_DAGS
    """Headings of the runs."""
    clock_dags: tuple[str, ...] = CLOCK_DAGS
    """Headings of the runs."""


def page_view(facts: Facts, runs: Sequence[RunFacts]) -> PageView:
    """Everything that the page says."""
    by_key = {(run.dag_id, run.product_line): run for run in runs}
    scans, deliveries, held = facts.intake.scans, facts.intake.deliveries, facts.intake.held
    intake = (
        Step("Delivered", f"{sum(deliveries.values()):,}", f"{deliveries.get('duplicate', 0):,} duplicates"),
        Step("Scans", f"{sum(scans.values()):,}", f"{scans.get('received', 0):,} not yet validated"),
        Step("Validated", f"{scans.get('validated', 0):,}"),
        Step("In quarantine", f"{sum(held.values()):,}"),
    )
    return PageView(
        read_at=facts.read_at,
        intake=intake,
        held=tuple(held.items()),
        clock_runs=tuple(by_key.get((dag_id, None)) for dag_id in CLOCK_DAGS),
        lines=tuple(
            _line(line, [by_key.get((dag_id, line.status.product_line)) for dag_id in KEYED_DAGS], facts.read_at) for line in facts.lines
        ),
    )


def _line(line: LineFacts, runs: Sequence[RunFacts | None], now: datetime) -> LineView:
    status = line.status
    return LineView(
        key=status.product_line,
        title=status.title,
        steps=_steps(line),
        decision=f"{line.decision['verdict'].replace('_', ' ')}, {line.decision['created_at']:%Y-%m-%d %H:%M}" if line.decision else "",
        reasons=tuple(str(reason) for reason in line.decision["reasons"]) if line.decision else (),
        due=line.due,
        stuck=tuple(_stuck(line, runs, now)),
        runs=tuple(runs),
    )


def _steps(line: LineFacts) -> tuple[Step, ...]:
    status, release = line.status, line.release
    labelling = [
        f"{count:,} {word}"
        for count, word in ((status.open_tasks, "open"), (status.submitted_tasks, "to review"), (status.returned_tasks, "sent back"))
        if count
    ]
    waiting = f"{status.untasked_scans:,} not yet given out" if status.untasked_scans else ""
    newest = f"{status.snapshot_scans:,} labelled scans in the last" if status.snapshots else ""
    return (
        Step("Scans", f"{status.validated_scans:,}", "validated", status.validated_scans > 0),
        Step("Chosen", f"{status.chosen_scans:,}", waiting, status.chosen_scans > 0),
        Step("Labels accepted", f"{status.accepted_scans:,}", ", ".join(labelling), status.accepted_scans > 0),
        Step("Snapshots", f"{status.snapshots:,}", newest, status.snapshots > 0),
        Step("Models", f"{status.models:,}", "", status.models > 0),
        Step("Champion", status.champion_id[:12] if status.champion_id else "none", _numbers(line), status.champion_id is not None),
        Step(
            "Release",
            f"version {release['version']}" if release else "none",
            f"{release['state']} on {release['channel']}, {line.devices} device{'' if line.devices == 1 else 's'}" if release else "",
            bool(release) and release["state"] == "released",
        ),
    )  # fmt: skip


def _numbers(line: LineFacts) -> str:
    if not line.champion:
        return ""
    shown = (("AP50", line.champion.get("ap50")), ("Pd", line.champion.get("pd")), ("Pfa", line.champion.get("pfa")))
    return " · ".join(f"{name} {value:.2f}" for name, value in shown if isinstance(value, (int, float)))


def _stuck(line: LineFacts, runs: Sequence[RunFacts | None], now: datetime) -> list[str]:
    found = [f"{run.dag_id} failed" for run in runs if run and run.state == "failed"]
    found += [f"{run.dag_id} waits for an approval" for run in runs if run and run.state == "waiting"]
    release = line.release
    if release and release["state"] == "requested" and now - release["created_at"] > LATE_RELEASE:
        found.append(f"release {release['version']} waits for the signer since {release['created_at']:%Y-%m-%d %H:%M}")
    if release and release["state"] == "refused":
        found.append(f"release {release['version']} was refused: {release['reason']}")
    return found
