"""From a snapshot to a promoted model, in pods, through real Airflow, while everything that can die dies once.

The cluster is a Kubernetes API over HTTP that checks every manifest; its node runs each pod's command line for real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import yaml
from harness.loop import KEY, run_stage, stages
from harness.servers import stop_at_once
from harness.world import World
from harness.zygote import Done
from helm_python import Chart
from kubernetes_api.cluster import NAMESPACE, Cluster
from kubernetes_api.job_controller import JobController
from kubernetes_api.kubelet import Kubelet
from kubernetes_api.server import kubeconfig, serve

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.catalog.embedded import serve_embedded
from scanloop.catalog.migrate import migrate
from scanloop.execution.receipts import receipt_key
from scanloop.stack import airflow
from scanloop.stack.processes import Supervisor, free_port

ROOT = Path(__file__).parents[2]
SCANLOOP = Path(sys.executable).with_name("scanloop")
RUN = "by-hand-1"
WAIT_S = 300
PROBE_S = 30


def _type(arguments: list[str], environment: dict[str, str], folder: Path) -> Done:
    done = subprocess.run([SCANLOOP, *arguments], env=environment, cwd=folder.parent, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass
class Site:
    """A deployment on a cluster."""

    world: World
    cluster: Cluster
    kubelet: Kubelet
    supervisor: Supervisor
    place: airflow.AirflowPlace
    environment: dict[str, str]
    api: airflow.AirflowApi
    postgres: Path
    restarted: dict[str, float] = field(default_factory=dict)
    """When a component was last restarted because it was ill."""

    def start(self) -> None:
        """Start what does not run of Airflow."""
        airflow.start(self.place, self.supervisor, self.environment)
        self.supervisor.start("airflow-triggerer", [str(self.place.executable), "triggerer"], self.environment, self.place.home)

    def tend(self) -> None:
        """What a cluster does for Airflow: start what has ended, and restart a scheduler or triggerer whose heartbeat has stopped. One that
        loses its database waits for ever for its LocalExecutor to shut down."""
        self.start()
        health = self.api._health()
        for component in ("scheduler", "triggerer"):
            is_ill = health.get(component, {}).get("status") == "unhealthy"
            if is_ill and time.monotonic() - self.restarted.get(component, 0.0) > PROBE_S:
                self.restarted[component] = time.monotonic()
                self.kill(component)
        self.start()

    def kill(self, component: str) -> None:
        """SIGKILL, to it and to all it started."""
        process = self.supervisor.find(f"airflow-{component}")
        assert process is not None
        for one in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs([process], timeout=20)

    def restart_postgres(self) -> None:
        """As after a crash of its machine."""
        stop_at_once(self.postgres)
        serve_embedded(self.postgres, "postgres")

    def states(self) -> dict[str, str]:
        """State of each task of the run."""
        return {one["task_id"]: one["state"] for one in self.api.task_instances("train_detector", RUN)}

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited too long for {what}: {self.states()}, {self.cluster.created}, {self.tail()}"
            time.sleep(0.2)

    def tail(self) -> str:
        return "\n".join(f"{uid}: {[line for _, line in lines[-6:]]}" for uid, lines in self.cluster.logs.items())


def _chart_template(folder: Path, store_url: str) -> Path:
    """The pod template of the chart, as Airflow's processes would have it mounted."""
    values = {"images": {"jobs": "x"}, "store": {"url": store_url}}
    with Chart.load(ROOT / "helm" / "scanloop") as chart:
        rendered = chart.render(values, name="scanloop", namespace=NAMESPACE)["scanloop/templates/jobs/pod-template.yaml"]
    path = folder / "pod-template.yaml"
    path.write_text(yaml.safe_load(rendered)["data"]["pod-template.yaml"])
    return path


@pytest.fixture
def site(tmp_path: Path, server_folders: Callable[[], Path]) -> Iterator[Site]:
    postgres = server_folders()
    template_url = serve_embedded(postgres, "template_catalog")
    catalog = Catalog(template_url)
    migrate(catalog)
    catalog.close()
    world = World(tmp_path / "world", template_url, _type).create()
    for stage in stages():
        run_stage(world, stage)
        if stage.name == "snapshot.create":
            break
    cluster = Cluster(secrets={"scanloop-catalog": {"SCANLOOP_DATABASE_URL": world.database_url}})
    settings = world.settings()
    image = {name: value for name, value in os.environ.items() if not name.startswith(("SCANLOOP_", "CLEARML_", "AIRFLOW_"))}
    kubelet = Kubelet(cluster, SCANLOOP, image, tmp_path / "volumes")
    template = _chart_template(tmp_path, settings.store_url)
    home = tmp_path / "airflow"
    home.mkdir()
    supervisor = Supervisor(tmp_path / "stack")
    (tmp_path / "stack").mkdir()
    place = airflow.AirflowPlace(home, ROOT, serve_embedded(postgres, "airflow"), free_port(18080), free_port(19080))
    with serve(cluster) as address:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(kubeconfig(address))}}
        deployment = world.environment() | {
            "SCANLOOP_RUNNER": "kubernetes",
            "SCANLOOP_STORE_URL": settings.store_url,
            "SCANLOOP_KUBERNETES_NAMESPACE": NAMESPACE,
            "SCANLOOP_KUBERNETES_POD_TEMPLATE": str(template),
            "SCANLOOP_KUBERNETES_GPU_RESOURCE": "",
            "SCANLOOP_IMAGE_JOBS": "registry.example/jobs@sha256:" + "0" * 64,
            "SCANLOOP_IMAGE_TRAIN": "registry.example/train@sha256:" + "1" * 64,
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
        }
        environment = airflow.configuration(place, deployment)
        environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "True"
        airflow.prepare(place, environment)
        api = airflow.AirflowApi(place.url, "admin", airflow.passwords(place.home)["admin"])
        found = Site(world, cluster, kubelet, supervisor, place, environment, api, postgres)
        try:
            found.start()
            api.wait_until_ready(supervisor)
            yield found
        finally:
            supervisor.stop()
            kubelet.close()


def _killer_of_callers(site: Site, when: str) -> Callable[[str, dict[str, Any]], None]:
    """Kills, once, the worker that asks for a pod whose name contains `when`: the pod is there, the worker never hears of it."""
    done: list[int] = []

    def kill(kind: str, manifest: dict[str, Any]) -> None:
        if kind != "pods" or when not in manifest["metadata"]["name"] or done or manifest["metadata"].get("deletionTimestamp"):
            return
        port = site.cluster.caller.port
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and any(one.laddr.port == port for one in process.net_connections("tcp")):
                    done.append(process.pid)
                    process.kill()
                    return

    kill.done = done  # type: ignore[attr-defined]
    return kill


@pytest.mark.timeout(1200)
def test_a_training_survives_everything_that_dies(site: Site) -> None:
    killer = _killer_of_callers(site, "model-train")
    site.cluster.watchers.append(killer)
    site.kubelet.may_start.clear()
    struck: list[str] = []

    def strike(name: str, process: subprocess.Popen[bytes]) -> None:
        """The first container dies at once; while the second one runs, the database does."""
        if "model-train" in name and not struck:
            struck.append(name)
            os.killpg(process.pid, signal.SIGKILL)

    site.kubelet.on_start.append(strike)
    site.until(lambda: site.api.has_dag("train_detector"), "the DAG")
    site.api.pause("train_detector", paused=False)
    site.api.trigger("train_detector", RUN, partition_key=KEY)

    site.until(lambda: killer.done, "a worker to die")  # type: ignore[attr-defined]
    site.until(lambda: site.states().get("train") == "deferred", "another worker to adopt the pod")
    site.kill("triggerer")
    site.kill("scheduler")
    site.start()
    site.kubelet.may_start.set()
    site.until(lambda: struck, "a container to die")
    site.until(lambda: any(name.startswith("model-train") and name not in struck for name in site.kubelet.running), "the next pod")
    site.restart_postgres()
    site.start()
    site.until(lambda: _settled(site), "the run to end")

    states = site.states()
    assert {task: state for task, state in states.items() if task != "approve"} == dict.fromkeys(
        ("train", "evaluate", "compare", "promote"), "success"
    ), site.tail()
    assert site.cluster.pods() == []
    _check_once(site, "interrupted")


@pytest.fixture
def job_controller(site: Site) -> Iterator[JobController]:
    found = JobController(site.cluster)
    yield found
    found.close()


@pytest.mark.timeout(1200)
def test_a_training_on_two_nodes_is_one_training(site: Site, job_controller: JobController) -> None:
    struck: list[str] = []

    def strike(name: str, process: subprocess.Popen[bytes]) -> None:
        """The second node of the first Job dies at once."""
        if "model-train" in name and name.rsplit("-", 2)[1] == "1" and not struck:
            struck.append(name)
            os.killpg(process.pid, signal.SIGKILL)

    site.kubelet.on_start.append(strike)
    site.until(lambda: site.api.has_dag("train_detector"), "the DAG")
    site.api.pause("train_detector", paused=False)
    site.api.trigger("train_detector", RUN, partition_key=KEY, conf={"nodes": 2})

    site.until(lambda: struck, "a node to die")
    first = struck[0].rsplit("-", 2)[0]
    site.until(lambda: len(_second_team(site, first)) == 2, "both nodes of the next Job")
    site.kill("triggerer")
    site.start()
    site.until(lambda: _settled(site), "the run to end")

    assert {task: state for task, state in site.states().items() if task != "approve"} == dict.fromkeys(
        ("train", "evaluate", "compare", "promote"), "success"
    ), site.tail()
    assert len([one for one in site.cluster.created if one.startswith("jobs/")]) == 2
    assert [len(names) for names in job_controller.made.values()] == [2, 2]
    site.until(lambda: not site.cluster.pods(), "the pods of both Jobs to end")
    assert site.cluster.listed("jobs", "") == site.cluster.listed("services", "") == []
    receipt = _check_once(site, "interrupted")
    assert receipt["result"]["environment"]["processes"] == 2


def _second_team(site: Site, first: str) -> list[str]:
    return [name for name in site.kubelet.running if name.startswith("model-train") and name.rsplit("-", 2)[0] != first]


def _settled(site: Site) -> bool:
    site.tend()
    with suppress(Exception):
        return not {"running", "deferred", "queued", "scheduled", "up_for_retry", None} & set(site.states().values())
    return False


def _check_once(site: Site, cause: str) -> dict[str, Any]:
    """One model, one evaluation of it, one decision; every result with its receipt; what died is told by name, `cause`.

    Returns the training's receipt."""
    from scanloop.store import open_store

    catalog = Catalog(site.world.database_url)
    try:
        with catalog.read() as connection:
            counts = {
                table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (t.models, t.evaluations, t.decisions, t.champions)
            }
            runs = connection.execute(sa.select(t.runs.c.run_id, t.runs.c.job).where(t.runs.c.job == "model.train")).all()
            causes = set(connection.execute(sa.select(t.job_ends.c.cause).where(t.job_ends.c.job == "model.train")).scalars())
    finally:
        catalog.close()
    assert counts == {"models": 1, "evaluations": 1, "decisions": 1, "champions": 1}
    assert len(runs) == 1
    receipt: dict[str, Any] = json.loads(open_store(site.world.settings().store_url).get(receipt_key(runs[0].run_id, "model.train", "")))
    assert cause in causes
    assert causes <= {"interrupted", "unavailable", "failed", "no_receipt", "refused"}
    return receipt
