"""Writes docs/DAGS.md from the DAGs themselves: `PYTHONPATH=dags:plugins python -m scanloop_dags.document > docs/DAGS.md`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetAll, AssetAny, PartitionedAssetTimetable

FOLDER = Path(__file__).parents[1]
ORDER = (
    "ingest_scans", "validate_scans", "curate_scans", "sync_annotations", "review_annotations", "snapshot_datasets", "train_detector",
    "publish_release", "wake_product_lines", "backfill_category", "watch_fleet", "sync_tracking",
)  # fmt: skip
"""The loop as a reader follows it; a DAG that is not named comes last."""
HEADER = """# The DAGs

Made from the DAG files by `make docs`; a test compares. One DAG is one sentence of the loop; assets connect them. *Keyed* means one run per
product line: its key is the run's partition key.
"""


def load_dags(folder: Path = FOLDER) -> dict[str, DAG]:
    """Every DAG of `folder`, in the order of the loop. Raises ImportError if a file cannot be parsed."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # Airflow logs to standard output, which is the page's
        warnings.simplefilter("ignore")
        from airflow.dag_processing.dagbag import BundleDagBag

        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    return dict(sorted(bag.dags.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else len(ORDER), item[0])))


def document(dags: Mapping[str, DAG]) -> str:
    """The whole page."""
    parts = [HEADER, _picture(dags), _overview(dags), *(_section(dag) for dag in dags.values())]
    return "\n".join(parts)


def _assets(condition: object) -> list[Asset]:
    if isinstance(condition, (AssetAny, AssetAll)):
        return [asset for part in condition.objects for asset in _assets(part)]
    return [condition] if isinstance(condition, Asset) else []


def _waits_for(dag: DAG) -> list[str]:
    return [asset.name for asset in _assets(getattr(dag.timetable, "asset_condition", None))]


def _emits(dag: DAG) -> list[str]:
    return [asset.name for task in dag.tasks for asset in task.outlets]


def _starts(dag: DAG) -> str:
    if named := _waits_for(dag):
        keyed = ", keyed" if isinstance(dag.timetable, PartitionedAssetTimetable) else ""
        person = "; or a person, with a form" if dag.params else ""
        return " or ".join(f"`{name}`" for name in named) + keyed + person
    expression = getattr(dag.timetable, "expression", None)
    return f"clock, `{expression}` UTC" if expression else "a person, with a form"


def _picture(dags: Mapping[str, DAG]) -> str:
    emitters = {name: [dag_id for dag_id, dag in dags.items() if name in _emits(dag)] for dag in dags.values() for name in _emits(dag)}
    lines = ["```mermaid", "flowchart LR"]
    for dag_id, dag in dags.items():
        lines += [f"  {emitter} -- {name} --> {dag_id}" for name in _waits_for(dag) for emitter in emitters.get(name, ())]
    return "\n".join([*lines, "```", ""])


def _overview(dags: Mapping[str, DAG]) -> str:
    rows = ["| DAG | starts when | emits | owner |", "|---|---|---|---|"]
    for dag_id, dag in dags.items():
        emits = ", ".join(f"`{name}`" for name in _emits(dag)) or "—"
        rows.append(f"| [`{dag_id}`](#{dag_id}) | {_starts(dag)} | {emits} | {dag.tasks[0].owner} |")
    return "\n".join([*rows, ""])


def _section(dag: DAG) -> str:
    docs = (dag.doc_md or "").strip()
    title, _, text = docs.partition("\n")
    runs = "1 run" if dag.max_active_runs == 1 else f"{dag.max_active_runs} runs"
    parts = [
        f"## {dag.dag_id}",
        "",
        f"**{title.lstrip('# ')}.** Starts when: {_starts(dag)}. At most {runs} at a time. Tags: {', '.join(sorted(dag.tags))}.",
        text,
        "",
        *_tasks(dag),
    ]
    return "\n".join([*parts, *_form(dag), ""])


def _tasks(dag: DAG) -> Iterator[str]:
    yield "| task | runs | after | emits | timeout |"
    yield "|---|---|---|---|---|"
    for task in dag.topological_sort():
        after = ", ".join(f"`{name}`" for name in sorted(task.upstream_task_ids)) or "—"
        emits = ", ".join(f"`{asset.name}`" for asset in task.outlets) or "—"
        yield f"| `{task.task_id}` | {_runs(task)} | {after} | {emits} | {_duration(task.execution_timeout)} |"


def _runs(task: Any) -> str:
    """The task's job with the options it sets, or what it does within Airflow."""
    given = getattr(task, "partial_kwargs", {})
    job = given.get("job") or getattr(task, "job", None)
    if job is None:
        first = (
            (task.doc_md or "").strip().partition("\n")[0]
            if getattr(task, "doc_md", None)
            else type(task).__doc__.strip().partition("\n")[0]
        )
        return first.rstrip(".")
    names = list(getattr(task, "options", {}) or ([job.part_option] if job.part_option else []))
    if job.is_keyed and "product-line" not in names:
        names.insert(0, "product-line")
    command = " ".join(["scanloop", *job.command, *(f"--{name} …" for name in names)])
    return f"`{command}`" + (", once for each part" if given else "")


def _duration(timeout: timedelta | None) -> str:
    minutes = round((timeout or timedelta()).total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _form(dag: DAG) -> Iterator[str]:
    if not dag.params:
        return
    yield ""
    yield "| field | what to enter |"
    yield "|---|---|"
    for name in dag.params:
        param = dag.params.get_param(name)
        yield f"| {param.schema['title']} (`{name}`) | {param.description} |"


if __name__ == "__main__":
    sys.stdout.write(document(load_dags()))
