"""The kill matrix: every stage of the loop killed at every boundary it passes, then run again."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.boundaries import passed, passings
from harness.invariants import check_all, differences
from harness.loop import Stage, run_stage
from harness.world import World

EXECUTION = "execution."
"""Boundaries that every job passes: the quick tier kills each job at some of them, the long tier at all."""


@dataclass
class History:
    """The loop as it goes when nothing goes wrong, saved before each stage."""

    world: World
    stages: Sequence[Stage]
    traces: dict[str, Counter[str]] = field(default_factory=dict)
    """Stage → how often it passes each boundary."""
    dumps: dict[str, list[str]] = field(default_factory=dict)
    """Stage → the catalog after it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage → how long it took."""

    def stage(self, name: str) -> Stage:
        """The stage with this name."""
        return next(stage for stage in self.stages if stage.name == name)


def live_through(world: World, stages: Sequence[Stage]) -> History:
    """Run every stage once, unfaulted, and keep what it was like before each and at the end."""
    history = History(world, stages)
    for stage in stages:
        world.save(stage.key)
        trace = world.folder / f"trace-{stage.key}"
        began = time.monotonic()
        run_stage(world, stage, trace=trace)
        history.seconds[stage.name] = time.monotonic() - began
        history.traces[stage.name] = passed(trace)
        history.dumps[stage.name] = world.dump()
    world.save("end")
    return history


@dataclass(frozen=True)
class Kill:
    """One kill: which stage, at which passing of which boundary."""

    stage: str
    boundary: str
    passing: int
    of: int
    """How often the stage passes it when nothing goes wrong."""


@dataclass(frozen=True)
class Outcome:
    """What a kill and the run after it came to."""

    kill: Kill
    violations: tuple[str, ...]
    seconds: float


def plan(history: History, *, seed: int, most: int, every_execution: bool) -> list[Kill]:
    """Which kills to make: at most `most` passings of each boundary of each stage, the first and the last among them."""
    chosen: list[Kill] = []
    drawn = random.Random(seed)
    for stage in history.stages:
        common = sorted(name for name in history.traces[stage.name] if name.startswith(EXECUTION))
        some = {"execution.after_receipt", *drawn.sample(common, min(1, len(common)))}
        for name, count in sorted(history.traces[stage.name].items()):
            if name in common and not every_execution and name not in some:
                continue
            chosen += [Kill(stage.name, name, number, count) for number in passings(count, most)]
    return chosen


def carry_out(kill: Kill, world: World, history: History) -> Outcome:
    """Bring the world back to before the stage, kill the stage, look, run it again, look again."""
    began = time.monotonic()
    stage = history.stage(kill.stage)
    found: list[str] = []
    world.restore(stage.key)
    done = run_stage(world, stage, kill=f"{kill.boundary}:{kill.passing}")
    if done.was_killed:
        found += [f"after the kill: {each}" for each in check_all(world, killed=True)]
    else:
        found.append(f"it was not killed but ended with {done.code}: {done.stderr[-300:]}")
    try:
        run_stage(world, stage, is_again=True)
        found += [f"after the run again: {each}" for each in check_all(world)]
        found += differences(world.dump(), history.dumps[stage.name])
        for name in stage.follow:
            run_stage(world, history.stage(name))
        if stage.follow:
            found += [f"after {stage.follow[-1]}: {each}" for each in check_all(world)]
    except AssertionError as error:
        found.append(str(error))
    return Outcome(kill, tuple(found), time.monotonic() - began)


def as_table(outcomes: Iterable[Outcome]) -> str:
    """Boundary × stage, with the passings that were killed and how many of them held."""
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.kill.boundary, outcome.kill.stage), []).append(outcome)
    lines = [f"{'boundary':34} {'stage':24} {'passes':>6}  {'killed at':14} result"]
    for (boundary, stage), members in sorted(rows.items()):
        wrong = sum(bool(outcome.violations) for outcome in members)
        numbers = ", ".join(str(outcome.kill.passing) for outcome in sorted(members, key=lambda each: each.kill.passing))
        shown = numbers if len(numbers) <= 14 else f"{len(members)} passings"
        lines.append(
            f"{boundary:34} {stage:24} {members[0].kill.of:>6}  {shown:14} {'held' if not wrong else f'{wrong} of {len(members)} VIOLATED'}"
        )
    total, wrong = sum(map(len, rows.values())), sum(bool(each.violations) for members in rows.values() for each in members)
    boundaries = len({boundary for boundary, _ in rows})
    times = ", ".join(f"{stage} {sum(each.seconds for each in group):.0f} s" for stage, group in _by_stage(rows.values()))
    lines.append(f"Time: {times}.")
    lines.append(f"{total} kills at {boundaries} boundaries of {len({stage for _, stage in rows})} stages; {wrong} violated.")
    return "\n".join(lines)


def _by_stage(groups: Iterable[list[Outcome]]) -> list[tuple[str, list[Outcome]]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in (each for group in groups for each in group):
        found.setdefault(outcome.kill.stage, []).append(outcome)
    return sorted(found.items(), key=lambda pair: -sum(each.seconds for each in pair[1]))


def in_lanes(kills: Sequence[Kill], lanes: Mapping[str, Callable[[Kill], Outcome]], lane_of: Callable[[Kill], str]) -> list[Outcome]:
    """Carry out the kills, each lane one after the other, the lanes at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    def work(lane: str) -> list[Outcome]:
        return [lanes[lane](kill) for kill in kills if lane_of(kill) == lane]

    with ThreadPoolExecutor(len(lanes)) as pool:
        return [outcome for outcomes in pool.map(work, lanes) for outcome in outcomes]
