"""Airflow on this machine: its configuration, its processes, and its REST API."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scanloop.errors import DataWrong, WorldUnavailable
from scanloop.stack.processes import Supervisor, last_lines

COMPONENTS = ("api-server", "dag-processor", "scheduler")
"""What runs. No triggerer: nothing here defers; approvals wait without a process, and the lateness alert is a plain call."""
USERS = {"admin": "admin", "release-manager": "user", "viewer": "viewer"}
"""Login → role of Airflow's simple auth manager."""
START_TIMEOUT_S = 180


@dataclass(frozen=True)
class AirflowPlace:
    """Where one Airflow lives."""

    home: Path
    """Its own folder."""
    project: Path
    """Checkout with dags/ and plugins/."""
    database_url: str
    """PostgreSQL URL of its metadata database."""
    port: int
    """Port of the UI and the API."""
    log_port: int
    """Port on which logs of running tasks are served."""

    @property
    def url(self) -> str:
        """Address of the UI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def executable(self) -> Path:
        """The `airflow` command of its own environment."""
        return self.project / ".venv" / "airflow" / "bin" / "airflow"


def passwords(home: Path) -> dict[str, str]:
    """Login → password; made once and kept where only this user reads them."""
    return _kept(home / "passwords.json", lambda: {user: secrets.token_urlsafe(9) for user in USERS})


def _kept(path: Path, make: Any) -> dict[str, str]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(make()))
        part.replace(path)
    content: dict[str, str] = json.loads(path.read_text())
    return content


def configuration(place: AirflowPlace, deployment: Mapping[str, str]) -> dict[str, str]:
    """The environment of every Airflow process: lean enough for two cores, `deployment` being the SCANLOOP_* of the jobs."""
    keys = _kept(place.home / "secrets.json", lambda: {"jwt": secrets.token_hex(32), "session": secrets.token_hex(32)})
    passwords(place.home)
    database = place.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    settings = {
        "CORE__DAGS_FOLDER": str(place.project / "dags"),
        "CORE__PLUGINS_FOLDER": str(place.project / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "3",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DEFAULT_TIMEZONE": "utc",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place.home / "passwords.json"),
        "CORE__EXECUTION_API_SERVER_URL": f"{place.url}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(place.port),
        "API__WORKERS": "1",
        "API__BASE_URL": place.url,
        "API__SECRET_KEY": keys["session"],
        "API_AUTH__JWT_SECRET": keys["jwt"],
        "DAG_PROCESSOR__REFRESH_INTERVAL": "300",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        # A task's supervisor can miss the end of its process and then sleeps this long, holding its slot: 5 s by default.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "LOGGING__BASE_LOG_FOLDER": str(place.home / "logs"),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(place.log_port),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    environment = {"AIRFLOW_HOME": str(place.home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    environment |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    return {**deployment, **environment, "PATH": f"{place.executable.parent}:{deployment.get('PATH', '/usr/bin:/bin')}"}


def prepare(place: AirflowPlace, environment: Mapping[str, str]) -> None:
    """Bring Airflow's metadata database to its schema. Raises WorldUnavailable."""
    if not place.executable.exists():
        raise WorldUnavailable(f"Airflow is not installed at {place.executable}. Run: make env")
    done = subprocess.run([str(place.executable), "db", "migrate"], env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WorldUnavailable(f"Airflow's database cannot be prepared:\n{(done.stdout + done.stderr)[-2000:]}")


def start(place: AirflowPlace, supervisor: Supervisor, environment: Mapping[str, str], protection: tuple[str, ...] = ()) -> None:
    """Start what does not run yet of Airflow's processes, each behind the command `protection`."""
    for component in COMPONENTS:
        supervisor.start(f"airflow-{component}", [*protection, str(place.executable), component], environment, place.home)


class AirflowApi:
    """The little of Airflow's REST API that the stack needs."""

    def __init__(self, url: str, user: str, password: str) -> None:
        import requests

        self._session = requests.Session()
        self.url, self._user, self._password = url, user, password

    def wait_until_ready(self, supervisor: Supervisor) -> None:
        """Return once the API answers and the scheduler lives. Raises WorldUnavailable when that takes too long or a process has ended."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            supervisor.check()
            health = self._health()
            if all(health.get(part, {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")):
                self.log_in()
                return
            time.sleep(1)
        ends = "\n".join(last_lines(supervisor.logs / f"airflow-{component}.log", 5) for component in COMPONENTS)
        raise WorldUnavailable(f"Airflow did not become ready within {START_TIMEOUT_S} s. Its logs end:\n{ends}")

    def _health(self) -> dict[str, Any]:
        import requests

        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=10)
        except requests.RequestException:
            return {}
        return dict(answer.json()) if answer.ok else {}

    def log_in(self) -> None:
        """Get a new token. Raises WorldUnavailable or requests.HTTPError when the login is refused."""
        answer = self._session.post(f"{self.url}/auth/token", json={"username": self._user, "password": self._password}, timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, *, accept: tuple[int, ...] = (), **arguments: Any) -> Any:
        """Call the API; a JSON answer or None. Raises WorldUnavailable (no answer, 5xx) or DataWrong (refused)."""
        import requests

        for attempt in range(5):
            try:
                answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=60, **arguments)
            except requests.RequestException as error:
                if attempt == 4:
                    raise WorldUnavailable(f"Airflow at {self.url} does not answer: {type(error).__name__}.") from None
                time.sleep(2)
                continue
            if answer.status_code == 401:
                self.log_in()
                continue
            if answer.ok or answer.status_code in accept:
                return answer.json() if answer.content else None
            if answer.status_code < 500:
                raise DataWrong(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:300]}")
            time.sleep(2)
        raise WorldUnavailable(f"Airflow at {self.url} keeps failing on {method} {path}.")

    def has_dag(self, dag_id: str) -> bool:
        """Whether Airflow has parsed that DAG."""
        return "dag_id" in (self.call("GET", f"dags/{dag_id}", accept=(404,)) or {})

    def trigger(self, dag_id: str, run_id: str, *, partition_key: str | None = None, conf: Mapping[str, Any] | None = None) -> None:
        """Start a run of that id unless there is one."""
        body: dict[str, Any] = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        if partition_key is not None:
            body["partition_key"] = partition_key
        self.call("POST", f"dags/{dag_id}/dagRuns", json=body, accept=(409,))

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """DAG runs of every DAG in any of `states`, the newest first."""
        query = {"state": list(states), "limit": 100, "order_by": "-run_after"}
        return list(self.call("GET", "dags/~/dagRuns", params=query)["dag_runs"])

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Keep a DAG from starting runs by its clock, or let it again."""
        self.call("PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def run_again(self, dag_id: str, run_id: str) -> None:
        """Let the failed tasks of a run start anew; those that finished keep their receipts."""
        body = {"dry_run": False, "only_failed": True}
        self.call("POST", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/clear", json=body)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The tasks of one run."""
        return list(self.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances")["task_instances"])
