"""Every stage of the loop is killed at the boundaries it passes; then nothing is lost, doubled or ready too early, and running again converges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from harness.boundaries import boundaries, passings
from harness.loop import stages
from harness.matrix import History, Kill, Outcome, carry_out
from harness.world import World

TESTS = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(6 * 3600)  # the first test waits for the whole matrix
ELSEWHERE = dict.fromkeys(
    ("edge.after_prune", "edge.after_refusal", "edge.before_fall_back", "edge.before_prune"), "integration/edge/test_kills.py"
) | {name: "integration/tracking/test_kills.py" for name in boundaries() if name.startswith("tracking.")}
ELSEWHERE |= {"queue.before_delete": "integration/intake/test_queue.py"}
ELSEWHERE |= dict.fromkeys(
    ("snapshot.before_past", "snapshot.gc_after_delete", "snapshot.gc_before_delete"), "integration/snapshots/test_kills.py"
)
ELSEWHERE |= {name: "integration/imports/test_kills.py" for name in boundaries() if name.startswith("imports.")}
"""Boundaries that one round of the loop does not pass → the test that kills there."""


@pytest.mark.parametrize("stage", [stage.name for stage in stages() if stage.name != "simulate.deliver"])
def test_a_killed_stage_converges(stage: str, outcomes: dict[str, list[Outcome]], history: History) -> None:
    if not history.traces[stage]:
        assert outcomes[stage] == []
        return
    assert outcomes[stage]
    wrong = [
        f"{outcome.kill.boundary}:{outcome.kill.passing} {violation}" for outcome in outcomes[stage] for violation in outcome.violations
    ]
    assert wrong == []


def test_every_boundary_of_the_source_is_killed_somewhere(kills: list[Kill]) -> None:
    known, killed = set(boundaries()), {kill.boundary for kill in kills}
    assert killed <= known
    assert known - killed == set(ELSEWHERE), "a boundary is not passed by the loop, or one that is said not to be is"
    for boundary, test in ELSEWHERE.items():
        room = boundaries()[boundary].partition("/")[0]
        text = (TESTS / test).read_text()
        assert f'"{room}").glob("*.py")' in text, f"{test} does not enumerate the boundaries of {room}"
        assert "covered == killed.boundaries" in text or "covered == own" in text


def test_every_boundary_of_the_execution_is_killed_in_the_quick_tier_too(kills: list[Kill]) -> None:
    assert {name for name in boundaries() if name.startswith("execution.")} <= {kill.boundary for kill in kills}


@pytest.mark.parametrize(
    ("boundary", "said"),
    [
        ("execution.after_receipt", "after the run again: A: The receipt receipts/attempt-1/ingest.plan.json is not in the log"),
        ("execution.before_publication", "C: missing "),
        ("execution.never", "it was not killed but ended with 0"),
    ],
)
def test_the_matrix_sees_a_stage_that_does_not_converge(history: History, boundary: str, said: str) -> None:
    """A stage that takes a new run id each time it runs: what a job without receipts would be."""
    attempts = iter(range(1, 10))

    def arguments(_: World) -> list[str]:
        return ["ingest", "plan", f"--run-id=attempt-{next(attempts)}"]

    forgetful = replace(history.stage("ingest.plan"), arguments=arguments)
    stages = [forgetful if stage.name == forgetful.name else stage for stage in history.stages]
    outcome = carry_out(Kill(forgetful.name, boundary, 1, 1), history.world, replace(history, stages=stages))
    assert any(violation.startswith(said) for violation in outcome.violations), outcome.violations


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(1, 2, [1]), (2, 2, [1, 2]), (5, 1, [5]), (7, 2, [1, 7]), (9, 3, [1, 5, 9]), (3, 50, [1, 2, 3]), (101, 5, [1, 26, 51, 76, 101])],
)
def test_passings_are_spread_from_the_first_to_the_last(count: int, most: int, chosen: list[int]) -> None:
    assert passings(count, most) == chosen


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("step(name)", "without a literal name"),
        ("step(f'a.{b}')", "without a literal name"),
        ("step('a.b')\nstep('a.b')", "a.py:2 marks a.b, as a.py:1 does"),
    ],
)
def test_a_boundary_needs_its_own_literal_name(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "a.py").write_text(source)
    with pytest.raises(SyntaxError, match=said):
        boundaries(tmp_path)
