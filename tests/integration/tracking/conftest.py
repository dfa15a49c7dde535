"""One ClearML server for these tests, empty for each: the SDK keeps its default session for the life of a process."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from clearml_server.server import ClearMLServer, serving

if TYPE_CHECKING:
    from scanloop.cli.options import World


@pytest.fixture(scope="session")
def _server() -> Iterator[ClearMLServer]:
    with serving() as server:
        yield server


@pytest.fixture
def clearml(_server: ClearMLServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClearMLServer]:
    """An empty server, named in the environment."""
    _server.reset()
    for name, value in _server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", "")
    monkeypatch.delenv("CLEARML_CONFIG_FILE")  # what the sync sets ends with the test
    monkeypatch.setenv("CLEARML_CACHE_DIR", "")
    monkeypatch.delenv("CLEARML_CACHE_DIR")
    from clearml.debugging.log import ClearmlStreamHandler

    for handler in logging.getLogger("clearml").handlers:  # made once, for the captured output of whichever test was first
        if isinstance(handler, ClearmlStreamHandler):
            handler.stream = sys.__stderr__  # setStream would flush the old one, which may be closed
    yield _server
    _server.recover()
    assert _server.invalid == []


@pytest.fixture
def sync(world: World, run_body: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Run the job as its command does; a new run each time."""
    from scanloop.tracking.sync import sync_tracking

    count = iter(range(1000))

    def run(settle_s: int = 600, run_id: str = "", *, retry_refused: bool = False) -> dict[str, Any]:
        name = run_id or f"sync-{next(count)}"
        body = functools.partial(sync_tracking, settle_s=settle_s, retry_refused=retry_refused)
        return run_body("tracking.sync", body, run_id=name, lease="tracking")

    return run


@pytest.fixture
def told_datasets(world: World) -> Callable[[], None]:
    """Note every snapshot as told, where a test is about something else: a version takes the SDK seconds."""

    def note() -> None:
        from scanloop.tracking import outbox

        for item in outbox.waiting(world.catalog):
            if item.kind == "dataset":
                outbox.note(world.catalog, item, external_id="0" * 32)

    return note


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """ClearML's SDK (2.1) calls pyparsing by its old names. Remove when it does not."""
    for item in items:
        if "tracking" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:.* deprecated( -|,) use:DeprecationWarning"))
