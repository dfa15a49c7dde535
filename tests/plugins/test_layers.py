"""Arrows go one way: dags → plugins → Airflow; plugins read the catalog, the store and receipts of `scanloop`; nobody imports a DAG."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import airflow_here
import pytest

ENDS = "scanloop.execution.ends"
"""Writes how attempts ended; used by the one module that may."""
SEARCHING = ("scanloop.query.fields", "scanloop.query.language", "scanloop.query.search")
READABLE = ("scanloop.catalog", "scanloop.errors", "scanloop.execution.receipts", *SEARCHING, "scanloop.settings", "scanloop.store")


def _imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in tree.body if at_import_only else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _package(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", sorted(airflow_here.DAGS.rglob("*.py")), ids=lambda path: path.stem)
def test_dags_know_jobs_by_command_line_only(path: Path) -> None:
    assert "scanloop" not in {_package(module) for module in _imports(path)}


@pytest.mark.parametrize("path", sorted(airflow_here.PLUGINS.rglob("*.py")), ids=lambda path: path.stem)
class TestPlugin:
    def test_imports_no_dag(self, path: Path) -> None:
        assert "scanloop_dags" not in {_package(module) for module in _imports(path)}

    def test_reads_only_what_it_may(self, path: Path) -> None:
        used = {module for module in _imports(path) if _package(module) == "scanloop"}
        allowed = (*READABLE, ENDS) if path.stem == "ends" else READABLE
        assert all(module.startswith(allowed) for module in used), used

    def test_imports_scanloop_when_it_runs_and_not_before(self, path: Path) -> None:
        assert "scanloop" not in {_package(module) for module in _imports(path, at_import_only=True)}


@pytest.mark.parametrize("path", sorted((airflow_here.ROOT / "jobs" / "scanloop").rglob("*.py")), ids=lambda path: path.stem)
def test_jobs_know_nothing_of_airflow(path: Path) -> None:
    assert not {_package(module) for module in _imports(path)} & {"airflow", "scanloop_plugin", "scanloop_dags"}
