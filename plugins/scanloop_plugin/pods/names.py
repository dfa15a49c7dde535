"""Names and labels of pods: made from what they do, so that doing it twice is refused by Kubernetes itself. Pure."""

from __future__ import annotations

import hashlib
import re

from scanloop_plugin.runners import JobRequest

WORK = "scanloop.io/work"
"""Label: digest of run, job and part. All generations of one piece of work share it."""
GENERATION = "scanloop.io/generation"
"""Label: how many attempts of this work had ended before this pod."""
MANAGED = {"app.kubernetes.io/name": "scanloop-job", "app.kubernetes.io/managed-by": "airflow"}
"""Labels of everything that this package creates."""
RUN_ID = "scanloop.io/run-id"
"""Annotation: the whole run id, which may be too long for a label."""
LOGGED_UNTIL = "scanloop.io/logged-until"
"""Annotation: time stamp of the last line that is in Airflow's log."""
TASK = "scanloop.io/airflow-task"
"""Annotation: the task instance that started it, as JSON: dag_id, task_id, run_id, map_index."""
MAX_NAME_LENGTH = 52
"""A Job's pods get `-<index>-<five letters>` behind its name, and everything has to stay within 63."""


def work_id(run_id: str, job: str, part: str) -> str:
    """The digest that names one piece of work."""
    return hashlib.sha256(f"{run_id}\n{job}\n{part}".encode()).hexdigest()[:20]


def pod_name(request: JobRequest, generation: int) -> str:
    """A DNS label: what it does, for which product line, whose work it is, and which attempt."""
    tail = f"-{work_id(request.run_id, request.job.name, request.part)}-{generation}"
    words = "-".join(part for part in (*request.job.command, request.product_line) if part)
    head = re.sub(r"[^a-z0-9]+", "-", words.lower())[: MAX_NAME_LENGTH - len(tail)].strip("-")
    return head + tail


def label_value(text: str) -> str:
    """`text` as a label can hold it: at most 63 letters, digits, `-`, `_` and `.`, with a digest where something had to go."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")
    if plain == text and len(plain) <= 63:
        return plain
    return f"{plain[:50].strip('-_.')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


def pod_labels(request: JobRequest, generation: int) -> dict[str, str]:
    """Labels of a pod that works on `request`."""
    labels = {
        **MANAGED,
        WORK: work_id(request.run_id, request.job.name, request.part),
        GENERATION: str(generation),
        "scanloop.io/run": label_value(request.run_id),
        "scanloop.io/job": label_value(request.job.name),
    }
    if request.product_line:
        labels["scanloop.io/product-line"] = label_value(request.product_line)
    return labels
