"""The environment of a job, by allow-list. Pure.

A job never sees Airflow's own settings and secrets, secrets it does not name, or anything of the release signer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from scanloop_plugin.job_spec import SECRET_VARIABLES, JobSpec

ALLOWED_NAMES = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "TMPDIR", "TZ", "USER",
        "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XDG_RUNTIME_DIR",
    }
)  # fmt: skip
ALLOWED_PREFIXES = ("SCANLOOP_", "CLEARML_", "AWS_", "LC_")
FORBIDDEN_PREFIXES = ("SCANLOOP_SIGNER_", "AIRFLOW")
PLAIN_OUTPUT = {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "SCANLOOP_PROGRESS": "log", "TERM": "dumb"}
"""Lines instead of progress bars and colours, each as soon as it is written."""


IDENTITY = ("SCANLOOP_RUN_ID", "SCANLOOP_CONSUMED_RUNS", "SCANLOOP_ACTOR", "SCANLOOP_ATTEMPT", "SCANLOOP_TASK_URL")
"""What tells a job who it is; set for every attempt."""


def is_allowed(name: str, job: JobSpec) -> bool:
    """Whether `job` may see the variable `name` of Airflow's own environment."""
    if name.startswith(FORBIDDEN_PREFIXES):
        return False
    if any(name in variables for variables in SECRET_VARIABLES.values()):
        return any(name in SECRET_VARIABLES[secret] for secret in job.secrets)
    return name in ALLOWED_NAMES or name.startswith(ALLOWED_PREFIXES)


def job_environment(
    job: JobSpec, parent: Mapping[str, str], *, run_id: str, consumed: Sequence[str], actor: str, attempt: int, task_url: str = ""
) -> dict[str, str]:
    """The whole environment of one attempt of `job`, out of the environment `parent` and the identity of its run."""
    environment = {name: value for name, value in parent.items() if is_allowed(name, job)}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(job.cpu))))
    if job.gpu > 1:
        environment["SCANLOOP_PROCESSES_PER_NODE"] = str(job.gpu)
    return environment | PLAIN_OUTPUT | {
        "SCANLOOP_RUN_ID": run_id,
        "SCANLOOP_CONSUMED_RUNS": json.dumps(list(consumed)),
        "SCANLOOP_ACTOR": actor,
        "SCANLOOP_ATTEMPT": str(attempt),
        **({"SCANLOOP_TASK_URL": task_url} if task_url else {}),
    }  # fmt: skip


def pod_environment(job: JobSpec, environment: Mapping[str, str]) -> dict[str, str]:
    """What a pod gets of a job's environment: who it is. Addresses come from the deployment's pod template, secrets from Secrets."""
    threads = {"OMP_NUM_THREADS": str(max(1, math.floor(job.cpu)))}
    return PLAIN_OUTPUT | threads | {name: environment[name] for name in IDENTITY if name in environment}
