"""Airflow, imported for tests: a home of its own, this checkout's DAGs and plugins, and its import-time warnings kept apart from ours."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
DAGS = ROOT / "dags"
PLUGINS = ROOT / "plugins"

for folder in (DAGS, PLUGINS):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

for name in list(os.environ):
    if name.startswith("AIRFLOW"):
        del os.environ[name]
HOME = tempfile.mkdtemp(prefix="airflow-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 64,
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import airflow.dag_processing.dagbag
    import airflow.providers.standard.operators.hitl
    import airflow.sdk.execution_time.task_runner  # noqa: F401
