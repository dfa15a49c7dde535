"""What Airflow itself costs: one run of a keyed, one-job DAG for each of many product lines, with a job that does nothing but leave its receipt.

    .venv/jobs/bin/python benchmarks/scheduling.py --product-lines 1000

Starts PostgreSQL and a real Airflow (LocalExecutor) in a temporary folder, triggers `snapshot_datasets` once for each product line through the
REST API, and waits. Printed: wall time, time of the job process itself, Airflow's overhead for a job (everything else that a slot was busy
with), the most memory that Airflow's processes had, and the limit that this is held against: a nightly round of nine jobs for 1,000 product
lines within eight hours on as many slots. Ratio below 1: it fits.
"""

from __future__ import annotations

import argparse
import os
import stat
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import track

from scanloop.catalog import Catalog
from scanloop.catalog.embedded import serve_embedded, stop_embedded
from scanloop.catalog.migrate import migrate
from scanloop.stack import airflow
from scanloop.stack.processes import Supervisor, free_port

ROOT = Path(__file__).parents[1]
DAG = "snapshot_datasets"
NIGHT_S = 8 * 3600
JOBS_A_ROUND = 9
LINES_A_NIGHT = 1000

JOB = '''#!{python}
"""Leaves the receipt of snapshot.create, and notes how long this process lived."""
import json, os, sys, time
from pathlib import Path
began = time.time()
root = Path(os.environ["SCANLOOP_STORE_URL"].removeprefix("file://"))
line = next(word for word in sys.argv if word.startswith("--product-line=")).partition("=")[2]
from scanloop.execution.receipts import Receipt, encode, receipt_key
from scanloop.store import open_store
receipt = Receipt(run_id=os.environ["SCANLOOP_RUN_ID"], job="snapshot.create", part="", attempt=1, actor="b", product_line=line, fence=None,
                  arguments={{}}, consumed=[], inputs=[], outputs=[], publication={{}}, result={{"snapshot_id": "ab" * 32}}, audit_head={{}},
                  scanloop_version="0", finished_at="2026-01-01T00:00:00Z")
open_store(os.environ["SCANLOOP_STORE_URL"]).put(receipt_key(receipt.run_id, receipt.job, ""), encode(receipt))
with open(os.environ["SCANLOOP_HOME"] + "/jobs.jsonl", "a") as times:
    times.write(json.dumps(time.time() - began) + "\\n")
'''


class Memory:
    """The most resident memory that Airflow's processes had together."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.most_bytes = 0
        self._supervisor, self._over = supervisor, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(2):
            total = 0
            for component in airflow.COMPONENTS:
                process = self._supervisor.find(f"airflow-{component}")
                for one in [process, *process.children(recursive=True)] if process else []:
                    try:
                        total += one.memory_full_info().pss
                    except psutil.Error:
                        continue
            self.most_bytes = max(self.most_bytes, total)

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product-lines", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 2, help="tasks at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scheduling-") as folder:
        measure(Path(folder), arguments.product_lines, arguments.slots)


def measure(home: Path, lines: int, slots: int) -> None:
    """Run and print."""
    for name in ("store", "airflow", "stack"):
        (home / name).mkdir()
    postgres = home / "postgres" / "data"
    url = serve_embedded(postgres, "scanloop")
    catalog = Catalog(url)
    migrate(catalog)
    catalog.close()
    job = home / "scanloop"
    job.write_text(JOB.format(python=sys.executable))
    job.chmod(job.stat().st_mode | stat.S_IXUSR)
    place = airflow.AirflowPlace(home / "airflow", ROOT, serve_embedded(postgres, "airflow"), free_port(28080), free_port(29080))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCANLOOP_", "AIRFLOW", "CLEARML_"))}
    ours = {"HOME": str(home), "DATABASE_URL": url, "STORE_URL": (home / "store").as_uri(), "RUNNER": "local", "JOBS_BIN": str(job)}
    environment = airflow.configuration(place, kept | {f"SCANLOOP_{name}": value for name, value in ours.items()})
    environment |= {"AIRFLOW__CORE__PARALLELISM": str(slots), "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"}
    supervisor = Supervisor(home / "stack")
    try:
        airflow.prepare(place, environment)
        airflow.start(place, supervisor, environment)
        api = airflow.AirflowApi(place.url, "admin", airflow.passwords(place.home)["admin"])
        api.wait_until_ready(supervisor)
        while not api.has_dag(DAG):
            time.sleep(1)
        memory = Memory(supervisor)
        wall_s, queued_s = rounds(api, lines)
        report(home, lines, slots, wall_s, queued_s, memory.stop())
    finally:
        supervisor.stop()
        stop_embedded(postgres)


def rounds(api: airflow.AirflowApi, lines: int) -> tuple[float, float]:
    """Queue a run for each product line, then let them go. Seconds until all had succeeded, and seconds that queueing took."""
    console = Console(stderr=True)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as callers:
        queued = callers.map(lambda number: api.trigger(DAG, f"bench-{number}", partition_key=f"line_{number:05d}"), range(lines))
        for _ in track(queued, "Queueing", total=lines, console=console):
            pass
    queued_s = time.monotonic() - began
    began = time.monotonic()
    api.pause(DAG, paused=False)
    for done in track(range(1, lines + 1), "Running", console=console):
        while finished(api, "success") < done:
            if failed := finished(api, "failed"):
                raise SystemExit(f"{failed} runs failed.")
            time.sleep(1)
    return time.monotonic() - began, queued_s


def finished(api: airflow.AirflowApi, state: str) -> int:
    """How many runs of the DAG are in `state`."""
    return int(api.call("GET", f"dags/{DAG}/dagRuns", params={"state": state, "limit": 1})["total_entries"])


def report(home: Path, lines: int, slots: int, wall_s: float, queued_s: float, memory_bytes: int) -> None:
    """Print what was measured."""
    import json

    times = [json.loads(line) for line in (home / "jobs.jsonl").read_text().splitlines()]
    job_s = statistics.median(times)
    overhead_s = wall_s * slots / lines - job_s
    night_s = JOBS_A_ROUND * LINES_A_NIGHT * overhead_s / slots
    command = [str(ROOT / ".venv/airflow/bin/python"), "-c", "from importlib.metadata import version; print(version('apache-airflow'))"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    print(f"Airflow {version}, LocalExecutor, {slots} slots, {os.cpu_count()} cores")
    print(f"{lines} runs queued in {queued_s:.1f} s ({lines / queued_s:.1f} a second)")
    print(f"{lines} jobs in {wall_s:.1f} s ({3600 * lines / wall_s:.0f} an hour)")
    print(f"the job itself {job_s:.2f} s; Airflow's overhead {overhead_s:.2f} s a job")
    print(f"most memory of Airflow's processes {memory_bytes / 2**30:.2f} GiB")
    print(f"{JOBS_A_ROUND} jobs for {LINES_A_NIGHT} product lines cost {night_s / 3600:.2f} h of overhead; limit {NIGHT_S / 3600:.0f} h")
    print(f"ratio {night_s / NIGHT_S:.2f}")


if __name__ == "__main__":
    main()
