"""One history of the loop for all fault tests, and the kill matrix printed at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.loop import stages
from harness.matrix import History, Kill, Outcome, as_table, carry_out, in_lanes, live_through, plan
from harness.tier import IS_LONG, SEED
from harness.world import World
from harness.zygote import Zygote

OUTCOMES: list[Outcome] = []
SECOND_LANE = ("selection", "labelling", "review", "snapshot", "model", "evaluation", "promotion")
"""Rooms whose jobs write no path of the deployment anywhere, so that a copy in another folder ends with the same catalog."""


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """What the processes of the fault tests are forked from."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="session")
def history(zygote: Zygote, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The loop lived through once."""
    world = World(tmp_path_factory.mktemp("assurance") / "world", database_template, zygote.run).create()
    yield live_through(world, stages())
    world.destroy()


@pytest.fixture
def world(history: History) -> World:
    """The world of the history, at its end. Tests may break it; the next one gets it whole."""
    history.world.restore("end")
    return history.world


@pytest.fixture(scope="session")
def kills(history: History) -> list[Kill]:
    """Every kill of this tier."""
    return plan(history, seed=SEED, most=50 if IS_LONG else 3, every_execution=IS_LONG)


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, history: History, kills: list[Kill], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[Outcome]]]:
    """Stage → what came of killing it, for the stages that this session asks for; two worlds are broken at the same time."""
    chosen = {item.callspec.params.get("stage") for item in request.session.items if hasattr(item, "callspec")}
    wanted = [kill for kill in kills if kill.stage in chosen]
    with Zygote() as other:
        twin = history.world.twin(tmp_path_factory.mktemp("twin") / "world", other.run)
        worlds = {"first": history.world, "second": twin}
        lanes = {name: lambda kill, world=world: carry_out(kill, world, history) for name, world in worlds.items()}
        found = in_lanes(wanted, lanes, lambda kill: "second" if kill.stage.startswith(SECOND_LANE) else "first")
        twin.destroy()
    OUTCOMES.extend(found)
    return {name: [outcome for outcome in found if outcome.kill.stage == name] for name in chosen}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the kill matrix and the seed."""
    if OUTCOMES:
        terminalreporter.section(f"kill matrix, {'long' if IS_LONG else 'quick'} tier, seed {SEED}")
        terminalreporter.write_line(as_table(OUTCOMES))
