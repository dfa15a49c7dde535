"""Hands on the lines of pods' logs as they come, each once.

Lines are told apart by the time stamps of their node. How far they are in Airflow's log is noted on the pod itself, so that another triggerer
goes on from there: lines are neither lost nor doubled by more than MARK_EVERY_S. The node's clock is never compared with ours but by a
successor, and then with room for both to be wrong.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from kubernetes_asyncio.client import ApiException, CoreV1Api

from scanloop_plugin.log_lines import log_line
from scanloop_plugin.outcome import TAIL_LINES
from scanloop_plugin.pods.names import LOGGED_UNTIL
from scanloop_plugin.pods.status import CONTAINER, last_words

Manifest = Mapping[str, Any]

MARK_EVERY_S = 30.0
MARGIN_S = 10
"""Read again so much before the last reading: a kubelet rounds to seconds and writes a little late."""
CLOCKS_S = 300
"""Two clocks may differ by so much."""
MAX_LOG_BYTES = 8 << 20
MOST_LINES = 2000


@dataclass
class _Position:
    """How far one pod's log has been handed on."""

    until: str = ""
    """Time stamp of the last line."""
    read_at: float | None = None
    """When it was last read to its end, monotonic."""
    marked: float = 0.0
    marked_until: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class LogReader:
    """The logs of the pods of one attempt."""

    def __init__(self, hook: AsyncKubernetesHook, namespace: str, log: Any) -> None:
        self.hook, self._namespace, self._log = hook, namespace, log
        self._positions: dict[str, _Position] = {}

    def tail(self, pod: Manifest) -> list[str]:
        """The last lines of the pod; those in its status where its log was never to be had."""
        position = self._positions.get(pod["metadata"].get("uid", ""))
        return list(position.tail) if position and position.tail else last_words(pod)[-TAIL_LINES:]

    def until(self, pod: Manifest) -> str:
        """Time stamp of the last line of the pod that was handed on; empty: none was."""
        position = self._positions.get(pod["metadata"].get("uid", ""))
        return position.until if position else ""

    async def hand_on(self, pod: Manifest) -> None:
        """Emit the lines of the pod's log that have not been emitted. Raises what the client raises."""
        noted = (pod["metadata"].get("annotations") or {}).get(LOGGED_UNTIL, "")
        position = self._positions.setdefault(pod["metadata"]["uid"], _Position(until=noted))
        name, arguments, begun = pod["metadata"]["name"], self._arguments(position), time.monotonic()
        async with self.hook.get_conn() as connection:
            while (content := await self._read(connection, name, arguments)) is not None:
                is_whole = len(content) < MAX_LOG_BYTES or "tail_lines" in arguments
                emitted = self._emit_new(content if is_whole else content[: content.rfind(b"\n") + 1], position)
                position.read_at = begun if is_whole else None
                if emitted or is_whole:
                    break
                self._log.warning("The job writes faster than its log can be read; some lines are left out here.")
                arguments = {"tail_lines": MOST_LINES}
            await self._mark(connection, name, position)

    def _arguments(self, position: _Position) -> dict[str, Any]:
        arguments: dict[str, Any] = {"limit_bytes": MAX_LOG_BYTES}
        if position.until and position.read_at is not None:
            arguments["since_seconds"] = int(time.monotonic() - position.read_at) + MARGIN_S
        elif position.until:
            age = (datetime.now(UTC) - parsed(position.until)).total_seconds()
            arguments["since_seconds"] = int(max(0.0, age)) + CLOCKS_S
        return arguments

    async def _read(self, connection: Any, name: str, arguments: Mapping[str, Any]) -> bytes | None:
        """The pod's log with time stamps; None while or once there is none."""
        response = await CoreV1Api(connection).read_namespaced_pod_log(
            name, self._namespace, container=CONTAINER, timestamps=True, _preload_content=False, **arguments
        )
        content: bytes = await response.read()
        if response.status in (400, 404):
            return None
        if response.status >= 300:  # the client does not judge an answer that it does not read itself
            raise ApiException(status=response.status, reason=content[:200].decode("utf-8", "replace"))
        return content

    def _emit_new(self, content: bytes, position: _Position) -> int:
        """Emit the lines that are newer than the last one emitted. Returns how many there were."""
        emitted, before = 0, position.until
        for raw in content.decode("utf-8", "replace").split("\n"):
            stamp, _, text = raw.partition(" ")
            if not stamp or stamp <= before:
                continue
            position.until = stamp
            emitted += 1
            if line := log_line(text):
                position.tail.append(line.text)
                self._log.log(line.level, "%s", line.text)
        return emitted

    async def _mark(self, connection: Any, name: str, position: _Position) -> None:
        """Write on the pod how far its log is in Airflow's."""
        if position.until == position.marked_until or time.monotonic() - position.marked < MARK_EVERY_S:
            return
        position.marked, position.marked_until = time.monotonic(), position.until
        try:
            await CoreV1Api(connection).patch_namespaced_pod(
                name, self._namespace, {"metadata": {"annotations": {LOGGED_UNTIL: position.until}}}
            )
        except ApiException as error:
            self._log.debug("How far the log was read could not be noted: %s", error)


def parsed(stamp: str) -> datetime:
    """An RFC 3339 time stamp with nanoseconds, which `datetime` does not read."""
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", stamp))
