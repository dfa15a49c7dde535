"""Works out throughput, cluster size and cost for 1, 100 and 10,000 product lines, from measured steps and stated assumptions.

    .venv/jobs/bin/python benchmarks/scale.py            prints the tables of docs/scale.md
    .venv/jobs/bin/python benchmarks/scale.py --check    exit code 1 if the page has others

Change a number here, and the page follows; a test compares.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- tables: benchmarks/scale.py -->", "<!-- end of tables -->"
WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Number:
    """One figure that the rest follows from."""

    value: float
    unit: str
    is_measured: bool
    source: str


NUMBERS = {
    "airflow_s": Number(1.3, "core-s a task", True, "benchmarks/scheduling.py, Airflow 3.3.2, two slots on two cores"),
    "tasks_per_pod_job": Number(2, "tasks", True, "a deferred job is one worker that starts and one that settles"),
    "worker_pod_s": Number(8, "s", False, "start of a worker's pod with KubernetesExecutor, image on the node"),
    "light_jobs": Number(35, "a line and week", False, "curate, push, pull, review and snapshot, each daily"),
    "heavy_jobs": Number(6, "a line and week", False, "train, evaluate, compare, promote, export and publish, weekly"),
    "light_core_s": Number(
        3.2, "core-s a job", True, "mean of choosing, pushing, pulling, review and snapshot for 150 bags of the simulator, one thread"
    ),
    "train_scans": Number(50_000, "scans", False, "train split of a product line after a year"),
    "epochs": Number(24, "passes", False, "as the recipes of the literature"),
    "batch": Number(32, "scans", False, "one GPU of 80 GB"),
    "gpu_step_s": Number(0.15, "s a step", False, "RTMDet-s at 640 px with bfloat16; to be measured on the GPU at hand"),
    "test_scans": Number(12_000, "scans", False, "test split, twice: candidate and champion"),
    "gpu_scan_s": Number(0.006, "s a scan", False, "inference, batch of 32; the CPU needs 0.026 s with onnxruntime, measured"),
    "scans_a_day": Number(2_000, "a line", False, "scans received for a product line"),
    "scan_mb": Number(
        4,
        "MB",
        False,
        "768 by 1024 pixels of 16 bits, two energies, received and curated; 0.77 measured with the simulator's smaller scans",
    ),
    "ingest_core_s": Number(0.037, "core-s a scan", True, "ingest 0.018 and validation 0.019, 300 scans of the simulator"),
    "gpu_hour": Number(2.5, "USD", False, "rented GPU"),
    "core_hour": Number(0.04, "USD", False, "rented core with 4 GiB"),
    "tb_month": Number(23.0, "USD", False, "object store"),
    "use": Number(0.6, "of capacity", False, "how full a cluster can be kept"),
}
LINES = (1, 100, 10_000)


def value(name: str) -> float:
    """One of NUMBERS."""
    return NUMBERS[name].value


def gpu_hours_a_training() -> float:
    """Training and both evaluations."""
    steps = value("train_scans") * value("epochs") / value("batch")
    return (steps * value("gpu_step_s") + 2 * value("test_scans") * value("gpu_scan_s")) / 3600


def for_lines(lines: int) -> dict[str, str]:
    """What `lines` product lines need, as it is shown."""
    jobs_a_week = lines * (value("light_jobs") + value("heavy_jobs"))
    tasks_a_week = jobs_a_week * value("tasks_per_pod_job")
    airflow_cores = tasks_a_week * value("airflow_s") / WEEK_S / value("use")
    workers = tasks_a_week * (value("worker_pod_s") + value("airflow_s")) / WEEK_S / value("use")
    light_cores = (
        lines * (value("light_jobs") * value("light_core_s") + 7 * value("scans_a_day") * value("ingest_core_s")) / WEEK_S / value("use")
    )
    gpus = lines * gpu_hours_a_training() * 3600 / WEEK_S / value("use")
    stored_tb = lines * value("scans_a_day") * 365 * value("scan_mb") / 1e6
    month_h = 30 * 24
    cores = math.ceil(airflow_cores + workers * 0.25 + light_cores)
    cost = (
        math.ceil(gpus * 10) / 10 * value("use") * month_h * value("gpu_hour")
        + cores * month_h * value("core_hour")
        + stored_tb * value("tb_month")
    )
    return {
        "jobs an hour": f"{jobs_a_week / 168:,.1f}",
        "Airflow tasks an hour": f"{tasks_a_week / 168:,.1f}",
        "cores that Airflow's tasks keep busy": f"{airflow_cores:,.2f}",
        "worker pods at a time": f"{max(1, math.ceil(workers)):,}",
        "cores for jobs without GPU": f"{max(1, math.ceil(light_cores)):,}",
        "GPUs, trainings spread over the week": f"{gpus:,.1f}",
        "stored in a year": f"{stored_tb:,.1f} TB",
        "cost a month, end of the first year": f"{cost:,.0f} USD",
    }


def tables() -> str:
    """Both tables, in Markdown."""
    rows = ["| figure | value | | where from |", "|---|---|---|---|"]
    for number in NUMBERS.values():
        kind = "measured" if number.is_measured else "assumed"
        rows.append(f"| {number.unit} | {number.value:g} | {kind} | {number.source} |")
    found = [for_lines(lines) for lines in LINES]
    sizes = [
        "| | " + " | ".join(f"{lines:,} product line{'s' if lines > 1 else ''}" for lines in LINES) + " |",
        "|---|" + "---|" * len(LINES),
    ]
    sizes += [f"| {name} | " + " | ".join(one[name] for one in found) + " |" for name in found[0]]
    return "\n".join([*rows, "", f"One training with its evaluations takes {gpu_hours_a_training():.1f} GPU hours.", "", *sizes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    chosen = parser.parse_args()
    if not (chosen.check or chosen.write):
        print(tables())
        return
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    wanted = f"{before}{BEGIN}\n{tables()}\n{END}{after}"
    if chosen.write:
        PAGE.write_text(wanted)
    elif page != wanted:
        sys.exit(f"{PAGE.name} has other tables. Run: benchmarks/scale.py --write")


if __name__ == "__main__":
    main()
