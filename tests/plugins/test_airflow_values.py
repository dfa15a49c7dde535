"""helm/airflow-values.yaml asks for nothing that Airflow, as it is locked and put into the image, does not have or know."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow_here
import pytest
import yaml

JOBS_PYTHON = airflow_here.ROOT / ".venv" / "jobs" / "bin" / "python"
VALUES: dict[str, Any] = yaml.safe_load((airflow_here.ROOT / "helm" / "airflow-values.yaml").read_text())


def _environment(**more: str) -> dict[str, str]:
    """The configuration of the values as environment, which is another way to say it to Airflow."""
    named = {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, options in VALUES["config"].items()
        for option, value in options.items()
    }
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | named | more


def _run(program: str, folder: Path, **more: str) -> str:
    environment = _environment(AIRFLOW_HOME=str(folder), AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{folder}/airflow.db", **more)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_every_option_is_one_that_airflow_or_a_provider_knows() -> None:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    known = {section: set(one["options"]) for section, one in conf.configuration_description.items()}
    for _, described in ProvidersManager().provider_configs:
        for section, one in described.items():
            known.setdefault(section, set()).update(one["options"])
    unknown = [
        f"{section}.{option}"
        for section, options in VALUES["config"].items()
        for option in options
        if option not in known.get(section, set())
    ]
    assert unknown == []


def test_people_are_managed_by_what_the_image_has(tmp_path: Path) -> None:
    program = "from airflow.api_fastapi.app import get_auth_manager_cls; print(get_auth_manager_cls().__name__)"
    assert _run(program, tmp_path, AIRFLOW__LOGGING__REMOTE_LOGGING="False") == "FabAuthManager"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, of the jobs environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([JOBS_PYTHON, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield address
    server.terminate()
    server.wait()


def test_logs_of_tasks_outlive_their_pods(tmp_path: Path, s3: str) -> None:
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": s3}
    client = boto3.client("s3", endpoint_url=s3, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
    client.create_bucket(Bucket="logs")
    logs = tmp_path / "logs" / "dag_id=train_detector"
    logs.mkdir(parents=True)
    (logs / "attempt=1.log").write_text('{"event": "the last line"}\n')
    program = (
        "from types import SimpleNamespace\n"
        "from airflow.config_templates.airflow_local_settings import REMOTE_TASK_LOG as remote\n"
        "remote.upload('dag_id=train_detector/attempt=1.log', SimpleNamespace(state='success'))\n"
        "print(type(remote).__name__)"
    )
    folder = {"AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": "s3://logs/airflow", "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs")}
    assert _run(program, tmp_path, **keys, **folder) == "S3RemoteLogIO"
    kept = client.get_object(Bucket="logs", Key="airflow/dag_id=train_detector/attempt=1.log")["Body"].read()
    assert b"the last line" in kept
