"""What every DAG file must be, whatever it does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import airflow_here
import pytest

from scanloop_dags.defaults import OWNERS
from scanloop_dags.tags import Tag

FILES = sorted(airflow_here.DAGS.glob("*.py"))
EXPECTED = {
    "wake_product_lines", "ingest_scans", "validate_scans", "curate_scans", "sync_annotations", "review_annotations", "snapshot_datasets",
    "train_detector", "publish_release", "backfill_category", "watch_fleet", "sync_tracking",
}  # fmt: skip
HEAVY = ("pandas", "torch", "clearml", "pydicom", "great_expectations", "numpy", "mmdet", "pyarrow", "scanloop")
MAX_LINES = 100


def test_parse_without_errors(dag_bag) -> None:
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == EXPECTED


def test_parsing_imports_nothing_heavy() -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import airflow_here, json, sys\n"
        "from airflow.dag_processing.dagbag import BundleDagBag\n"
        "bag = BundleDagBag(dag_folder=airflow_here.DAGS, bundle_path=airflow_here.DAGS, bundle_name='dags-folder')\n"
        f"print(json.dumps([len(bag.dags), [name for name in {HEAVY!r} if name in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=airflow_here.ROOT / "tests", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [len(EXPECTED), []]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestFile:
    def test_holds_one_dag_of_its_name(self, path: Path, dags) -> None:
        assert [dag.dag_id for dag in dags.values() if Path(dag.fileloc) == path] == [path.stem]

    def test_is_thin(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= MAX_LINES

    def test_reads_no_environment_and_no_variable(self, path: Path) -> None:
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Attribute, ast.Name))
        }
        assert not names & {"environ", "getenv", "Variable", "Connection", "conf", "open"}

    def test_docstring_is_the_documentation(self, path: Path, dags) -> None:
        docs = ast.get_docstring(ast.parse(path.read_text()), clean=False)
        assert dags[path.stem].doc_md == docs
        for word in ("### ", "**Reads**", "**Writes**", "**Emits**", "**When it fails**", "**Owner**"):
            assert word in docs, f"{path.name} does not say {word}"


def test_dags_are_scheduled_in_utc_and_do_not_catch_up(dags) -> None:
    for dag in dags.values():
        assert str(dag.timezone) == "UTC"
        assert dag.catchup is False
        assert dag.max_active_runs <= 32


def test_tags_are_of_the_enum(dags) -> None:
    for dag in dags.values():
        assert dag.tags
        assert set(dag.tags) <= set(Tag)
    assert {tag for dag in dags.values() for tag in dag.tags} == set(Tag), "a tag that no DAG carries"


def _tasks(dags):
    return [task for dag in dags.values() for task in dag.tasks]


def test_every_task_has_a_timeout(dags) -> None:
    for task in _tasks(dags):
        timeout = task.execution_timeout
        assert isinstance(timeout, timedelta), task
        assert timedelta(0) < timeout <= timedelta(days=2, hours=1), task


def test_every_task_retries_with_growing_delays(dags) -> None:
    for task in _tasks(dags):
        assert task.retries >= 5, task
        assert task.retry_exponential_backoff > 1, task
        assert task.max_retry_delay <= timedelta(minutes=10), task


def test_every_task_has_an_owner(dags) -> None:
    for task in _tasks(dags):
        assert task.owner in OWNERS, task


def test_lateness_is_watched_where_it_matters(dags) -> None:
    (alert,) = dags["ingest_scans"].deadline
    assert alert.interval == timedelta(minutes=20)
    assert alert.callback.path == "scanloop_plugin.lateness.report_lateness"


def test_keyed_dags_start_for_one_product_line_and_others_do_not(dags) -> None:
    from airflow.sdk import PartitionedAssetTimetable

    keyed = {dag.dag_id for dag in dags.values() if isinstance(dag.timetable, PartitionedAssetTimetable)}
    assert keyed == {dag.dag_id for dag in dags.values() if Tag.KEYED in dag.tags}
    assert keyed == {"curate_scans", "sync_annotations", "review_annotations", "snapshot_datasets", "train_detector", "publish_release"}


def test_the_page_shows_every_dag_of_the_loop(dags) -> None:
    from scanloop_plugin.page.runs import CLOCK_DAGS, KEYED_DAGS

    assert set(KEYED_DAGS) == {dag.dag_id for dag in dags.values() if Tag.KEYED in dag.tags}
    assert set(CLOCK_DAGS) | set(KEYED_DAGS) | {"backfill_category"} == set(dags)
