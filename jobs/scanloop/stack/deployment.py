"""One deployment on this machine: what runs, with which environment, started in order and stopped in reverse."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanloop.catalog.embedded import serve_embedded, stop_embedded
from scanloop.errors import DataWrong, NothingToDo, WorldUnavailable, WrongArguments
from scanloop.settings import Settings
from scanloop.stack import airflow
from scanloop.stack.processes import Supervisor, environment_without, free_port, is_free

FOLDERS = ("airflow", "channel", "devices", "landing", "logs", "postgres", "report", "stack", "store", "tmp", "truth", "work")
"""Folders of a deployment; made before anything starts, because protected processes can only open what existed then."""
SIGNER = "signer"
"""Folder of the signer's keys, which nothing of Airflow can open."""
DEFAULT_PORT = 8080
JOBS_AT_ONCE = 2
"""Heavy jobs that share the machine: trainings of two product lines run faster side by side with half the threads each."""


@dataclass(frozen=True)
class Deployment:
    """Everything on this machine that belongs together."""

    settings: Settings
    """Of the command that was called."""
    project: Path
    """Checkout with the DAGs, plugins and environments."""
    definitions: Path
    """Folder with the product lines and the taxonomy."""

    @property
    def home(self) -> Path:
        """Folder of the deployment."""
        return self.settings.home

    @property
    def supervisor(self) -> Supervisor:
        """Starts and stops its processes."""
        return Supervisor(self.home)

    @property
    def signer_home(self) -> Path:
        """Where the release keys are."""
        return self.home / SIGNER

    def database_url(self, name: str = "scanloop") -> str:
        """URL of a database on the deployment's server; the embedded server is started if none was named."""
        if self.settings.database_url:
            if name == "scanloop":
                return self.settings.database_url
            raise WrongArguments(
                "The stack keeps Airflow's own database in the embedded PostgreSQL. Unset SCANLOOP_DATABASE_URL to use it."
            )
        return serve_embedded(self.settings.postgres_folder, name)

    def environment(self) -> dict[str, str]:
        """The environment of jobs: the deployment's settings, nothing of Airflow or of the signer."""
        outside = environment_without(("SCANLOOP_", "AIRFLOW", "PYTEST", "COVERAGE"))
        settings = self.settings
        mine = {
            "HOME": str(self.home),
            "DATABASE_URL": self.database_url(),
            "STORE_URL": settings.store_url,
            "LANDING_URL": settings.landing_url,
            "TRUTH_URL": settings.truth_url,
            "CHANNEL_URL": settings.channel_url,
            "LABELLING_URL": settings.labelling_url,
            "WORK": str(settings.work),
            "RUNNER": "local",
            "JOBS_BIN": str(Path(sys.executable).parent / "scanloop"),
        }
        return {
            **outside,
            **{f"SCANLOOP_{name}": value for name, value in mine.items()},
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // JOBS_AT_ONCE)),
            "TMPDIR": str(self.home / "tmp"),
        }

    def signer_environment(self) -> dict[str, str]:
        """The environment of the signer alone."""
        return {**self.environment(), "SCANLOOP_SIGNER_HOME": str(self.signer_home), "SCANLOOP_ACTOR": "signer"}

    def airflow_place(self, port: int | None = None) -> airflow.AirflowPlace:
        """Where Airflow lives; its ports are chosen once and kept while it runs."""
        kept = self.home / "stack" / "ports.kept"
        if kept.exists() and self.supervisor.find("airflow-api-server") is not None:
            chosen = json.loads(kept.read_text())
            if port not in (None, chosen["ui"]):
                raise WrongArguments(f"The stack is running at port {chosen['ui']}. Stop it first to have it at port {port}: make down")
        else:
            if port is not None and not is_free(port):
                raise WorldUnavailable(f"Port {port} is in use by another program. Name another one, or none: a free one is chosen then.")
            first = free_port(port or DEFAULT_PORT)
            chosen = {"ui": first, "logs": free_port(first + 1000)}
            kept.write_text(json.dumps(chosen))
        url = self.database_url("airflow")
        return airflow.AirflowPlace(self.home / "airflow", self.project, url, chosen["ui"], chosen["logs"])

    def protection(self) -> tuple[str, ...]:
        """The command behind which Airflow starts, so that neither it nor its jobs can open the signer's keys."""
        return (sys.executable, "-m", "scanloop.release.protect", "--deny", str(self.signer_home), "--")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the deployment for one command. Raises WorldUnavailable if another one has it."""
        for name in (*FOLDERS, SIGNER):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self.signer_home.chmod(0o700)
        with (self.home / "stack" / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise WorldUnavailable(f"Another command is working on the deployment in {self.home}. Wait for it, or stop it.") from None
            yield

    def command(
        self, *words: str, run_id: str | None = None, signer: bool = False, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run one `scanloop` command of this deployment to its end and return its result.

        Raises:
            NothingToDo, DataWrong, WorldUnavailable, WrongArguments: as its exit code says, with its last sentence.
        """
        environment = {**(self.signer_environment() if signer else self.environment()), **(environment or {})}
        environment["SCANLOOP_ACTOR"] = environment.get("SCANLOOP_ACTOR") or "stack"
        if run_id is not None:
            environment["SCANLOOP_RUN_ID"] = run_id
        executable = environment["SCANLOOP_JOBS_BIN"]
        done = subprocess.run([executable, *words], env=environment, capture_output=True, text=True, check=False, cwd=self.project)
        if done.returncode == 0:
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            return dict(json.loads(lines[-1])) if lines else {}
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        family = {99: NothingToDo, 65: DataWrong, 64: WrongArguments}.get(done.returncode, WorldUnavailable)
        raise family(f"scanloop {' '.join(words[:2])}: {said.removeprefix('Error: ')}")

    def bring_up(self, say: Any, port: int | None = None) -> airflow.AirflowApi:
        """Start everything that does not run yet and wait until it is ready. `say` is told each step."""
        place = self.airflow_place(port)  # a port that is taken is found out before anything is started
        say("PostgreSQL and the catalog")
        self._serve_database()
        self.command("catalog", "migrate")
        self._apply(("definitions", "apply", "--folder", str(self.definitions)))
        say("Release keys and the signer")
        if self.supervisor.find("signer") is None:
            self._kept_ceremony.write_text(json.dumps(self.command("release", "init", signer=True)))
        self.supervisor.start("signer", [self.environment()["SCANLOOP_JOBS_BIN"], "release", "sign"], self.signer_environment(), self.home)
        say("Airflow's database")
        environment = airflow.configuration(place, self.environment())
        if self.supervisor.find("airflow-api-server") is None:
            airflow.prepare(place, environment)
        say("Airflow")
        airflow.start(place, self.supervisor, environment, self.protection())
        api = airflow.AirflowApi(place.url, "admin", airflow.passwords(place.home)["admin"])
        api.wait_until_ready(self.supervisor)
        return api

    @property
    def _kept_ceremony(self) -> Path:
        return self.home / "stack" / "ceremony.kept"

    @property
    def root_sha256(self) -> str:
        """Digest of the first root metadata, as the key ceremony printed it: what a device is told to trust."""
        return str(json.loads(self._kept_ceremony.read_text())["root_sha256"])

    def _serve_database(self) -> None:
        """Start the embedded server from a process that cannot open the signer's keys: its clients can make it read files."""
        if self.settings.database_url:
            return
        environment = {**environment_without(("SCANLOOP_", "AIRFLOW")), "SCANLOOP_HOME": str(self.home), "TMPDIR": str(self.home / "tmp")}
        command = [*self.protection(), str(Path(sys.executable).parent / "scanloop"), "catalog", "serve"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=self.home)
        if done.returncode != 0:
            raise WorldUnavailable(
                f"The embedded PostgreSQL does not start: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1].removeprefix('Error: ')}"
            )

    def _apply(self, words: Sequence[str]) -> None:
        try:
            self.command(*words)
        except NothingToDo:
            return

    def bring_down(self) -> list[str]:
        """Stop exactly what was started. Returns the names."""
        stopped = self.supervisor.stop()
        (self.home / "stack" / "ports.kept").unlink(missing_ok=True)
        if not self.settings.database_url and stop_embedded(self.settings.postgres_folder):
            stopped.append("postgresql")
        return stopped
