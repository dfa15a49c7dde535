"""A task of Airflow's whose jobs are pods: the operator and the trigger for real, a cluster that a test plays."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import airflow_here  # noqa: F401
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from kubernetes_api.cluster import Cluster

from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.operator import ScanloopJobOperator
from scanloop_plugin.pods.job_status import JOB_INDEX, JOB_NAME
from scanloop_plugin.run_identity import safe_run_id

TRAIN = JobSpec(
    ("model", "train"), "train", cpu=2, memory_bytes=8 << 30, timeout_s=3600, gpu=1, secrets=("catalog", "store", "tracking"), is_keyed=True
)
RUN_ID = "asset_triggered__2026-01-01T00:00:00+00:00_x"
WAIT_S = 20


def context(attempt: int = 1, *, run_id: str = RUN_ID, max_tries: int = 40) -> dict[str, Any]:
    """What Airflow gives to an attempt of the task."""
    run = SimpleNamespace(
        dag_id="train_detector",
        run_id=run_id,
        partition_key="cabin_baggage",
        triggering_user_name=None,
        consumed_asset_events=[],
        logical_date=None,
    )
    ti = SimpleNamespace(
        try_number=attempt, max_tries=max_tries, dag_id="train_detector", task_id="train", run_id=run_id, map_index=-1,
        log_url="http://airflow/dags/train_detector", xcom_pull=lambda **_: None,
    )  # fmt: skip
    return {
        "dag_run": run,
        "ti": ti,
        "outlet_events": OutletEventAccessors(),
        "params": {},
        "run_id": run_id,
        "dag": SimpleNamespace(dag_id="train_detector"),
    }


@dataclass
class Task:
    """One task instance through its attempts."""

    cluster: Cluster
    job: JobSpec = TRAIN
    run_id: str = RUN_ID

    def operator(self) -> ScanloopJobOperator:
        return ScanloopJobOperator(task_id="train", job=self.job, retries=40)

    def begin(self, attempt: int = 1) -> TaskDeferred:
        """The first half of an attempt: until the task is deferred."""
        try:
            self.operator().execute(context(attempt, run_id=self.run_id))
        except TaskDeferred as deferred:
            return deferred
        raise AssertionError("the task did not defer")

    def watch(self, deferred: TaskDeferred) -> dict[str, Any]:
        """What the triggerer does: make the trigger from its serialized form and wait for its event."""
        return asyncio.run(asyncio.wait_for(_event(again(deferred)), WAIT_S))

    def settle(self, deferred: TaskDeferred, event: dict[str, Any], attempt: int = 1) -> Any:
        """The second half of an attempt, in another worker."""
        event = json.loads(json.dumps(event))
        method = getattr(self.operator(), deferred.method_name)
        return method(context(attempt, run_id=self.run_id), event=event, **(deferred.kwargs or {}))

    def attempt(self, play: Callable[[str], None], number: int = 1) -> Any:
        """A whole attempt; `play` is told the pod's name once it is there, and makes it end."""
        deferred = self.begin(number)
        play(deferred.trigger.name)
        return self.settle(deferred, self.watch(deferred), number)

    def receipt(self, **result: Any) -> None:
        """Leave the receipt that the job in the pod would leave."""
        from scanloop.execution.receipts import Receipt, encode, receipt_key
        from scanloop.settings import read_settings
        from scanloop.store import open_store

        run_id = safe_run_id("train_detector", self.run_id)
        receipt = Receipt(
            run_id=run_id, job=self.job.name, part="", attempt=1, actor="a", product_line="cabin_baggage", fence=None, arguments={}, consumed=[],
            inputs=[], outputs=[], publication={}, result={"model_id": "ab" * 32} | result, audit_head={}, scanloop_version="0",
            finished_at="2026-01-01T00:00:00Z",
        )  # fmt: skip
        open_store(read_settings().store_url).put(receipt_key(run_id, self.job.name, ""), encode(receipt))

    def team(self, deferred: TaskDeferred) -> list[str]:
        """What the controller of Jobs does: a pod for each node, and each runs. Returns their names."""
        job = deferred.trigger.name
        names = [f"{job}-{index}-abcde" for index in range(self.job.nodes)]
        template = self.cluster.read("jobs", job)["spec"]["template"]
        for index, name in enumerate(names):
            labels = template["metadata"]["labels"] | {JOB_NAME: job, JOB_INDEX: str(index)}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": template["spec"]}
            self.cluster.create("pods", pod)
            self.cluster.run(name)
        return names

    def fail(self, deferred: TaskDeferred, reason: str, message: str = "") -> None:
        """The controller says that the Job has failed."""
        condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
        self.cluster.objects["jobs", deferred.trigger.name]["status"] = {"conditions": [condition]}

    def ends(self) -> dict[str, str]:
        """The recorded ends."""
        from scanloop.catalog import Catalog
        from scanloop.execution.ends import known_ends

        catalog = Catalog(os.environ["SCANLOOP_DATABASE_URL"])
        try:
            return known_ends(catalog, safe_run_id("train_detector", self.run_id), self.job.name, "")
        finally:
            catalog.close()


def again(deferred: TaskDeferred) -> Any:
    """The trigger as a triggerer makes it, looking more often than in production."""
    classpath, arguments = deferred.trigger.serialize()
    module, _, name = classpath.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)(**{**arguments, "poll_s": 0.02})


async def _event(trigger: Any) -> dict[str, Any]:
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")


class Triggerer:
    """A triggerer in a thread of its own, which can die."""

    def __init__(self, deferred: TaskDeferred) -> None:
        self.trigger = again(deferred)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[dict[str, Any]] | None = None
        self.event: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(_event(self.trigger))
        try:
            self.event = self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    @property
    def tail(self) -> list[str]:
        """The last lines that it has handed on."""
        seen = self.trigger._last
        return self.trigger.logs.tail(seen.speaker) if seen else []

    @property
    def logged_until(self) -> str:
        """Time stamp of the last of them."""
        seen = self.trigger._last
        return self.trigger.logs.until(seen.speaker) if seen else ""

    def die(self) -> None:
        """End without a word."""
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join(WAIT_S)

    def join(self) -> dict[str, Any]:
        self._thread.join(WAIT_S)
        assert self.event is not None
        return self.event


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def sized(**changes: Any) -> JobSpec:
    """The training job with other fields."""
    return replace(TRAIN, **changes)
