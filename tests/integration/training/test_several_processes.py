"""Several processes train one network: they see what one would, end alike, and their exit code says what to do next."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from small_world import add_bags, define, label_everything, rows_of, run_job_of

TINY = ("size_px=64", "iterations=6", "batch_size=4", "state_interval=2", "threads=1", "device=cpu")
HERE = Path(__file__).parent


@pytest.fixture
def snapshot_id(run_body, world):
    """Id of a small snapshot of the product line `cabin`."""
    define(run_body)
    add_bags(run_body, world, [f"bag-{number}" for number in range(40)])
    label_everything(run_body, "one")
    return run_job_of(run_body, "snapshot.create", "snap")["snapshot_id"]


def start(environment, run_id, *, overrides=TINY, **extra):
    """Start `scanloop model train` with two processes."""
    sets = [f"--set={override}" for override in overrides]
    command = [str(Path(sys.executable).with_name("scanloop")), "model", "train", "--product-line=cabin", f"--run-id={run_id}", *sets]
    wanted = environment | {"SCANLOOP_PROCESSES_PER_NODE": "2", "OMP_NUM_THREADS": "1"} | extra
    return subprocess.Popen(command, env=wanted, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """Exit code, output and errors of a process."""
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_killed_team_goes_on_and_gives_the_weights_of_an_unbroken_one(environment, world, snapshot_id):
    code, output, errors = ended(start(environment, "broken", SCANLOOP_STEP_KILL="training.after_state_record:2"))
    assert (code, output) == (75, ""), errors
    assert "Traceback" not in errors
    assert rows_of(world, "models") == []

    code, output, errors = ended(start(environment, "broken"))
    assert code == 0, errors
    broken = json.loads(output)
    assert broken["environment"]["processes"] == 2

    port, nodes = free_port(), []
    for node in ("0", "1"):  # the same, as two machines with one process each
        several = {"SCANLOOP_NODES": "2", "SCANLOOP_PROCESSES_PER_NODE": "1", "JOB_COMPLETION_INDEX": node}
        nodes.append(start(environment, "unbroken", SCANLOOP_RENDEZVOUS=f"127.0.0.1:{port}", **several))
    first, second = (ended(process) for process in nodes)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert second[1] == ""
    unbroken = json.loads(first[1])
    assert (unbroken["model_id"], unbroken["metrics"]) == (broken["model_id"], broken["metrics"])

    again = ended(start(environment, "unbroken"))
    assert (again[0], json.loads(again[1])) == (0, unbroken)


def test_what_a_worker_says_about_arguments_is_kept(environment, snapshot_id):
    code, output, errors = ended(start(environment, "odd", overrides=(*TINY, "batch_size=3")))
    assert (code, output) == (64, "")
    assert "3 scans a step cannot be shared evenly by 2 processes" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("victim", "how", "expected"),
    [
        pytest.param("launcher", signal.SIGTERM, 128 + signal.SIGTERM, id="the launcher is asked to end"),
        pytest.param("launcher", signal.SIGKILL, -signal.SIGKILL, id="the launcher is killed"),
        pytest.param("second", signal.SIGKILL, 75, id="the second process is killed"),
    ],
)
def test_who_falls_takes_every_process_along(environment, world, snapshot_id, tmp_path, victim, how, expected):
    trace = tmp_path / "trace"
    os.mkfifo(trace)
    told = os.open(trace, os.O_RDWR)  # to write too keeps it open while nobody else does
    extra = {"SCANLOOP_STEP_TRACE": str(trace), "SCANLOOP_STEP_PAUSE": f"training.before_state:{tmp_path / 'never'}"}
    process = start(environment, "stopped", **extra)
    launcher, passed = psutil.Process(process.pid), b""
    while b"training.before_state" not in passed:
        assert select.select([told], [], [], 120)[0], passed
        passed += os.read(told, 4096)
    os.close(told)
    workers = launcher.children()
    second = next(worker for worker in workers if worker.environ().get("RANK") == "1")
    {"launcher": launcher, "second": second}[victim].send_signal(how)
    code, output, errors = ended(process)
    assert (code, output) == (expected, ""), errors
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (2, [])
    assert rows_of(world, "runs", job="model.train") == []


def test_a_team_sees_what_one_process_sees_and_ends_alike(tmp_path):
    def run(rank, size, port, folder=None):
        names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
        environment |= {"SCANLOOP_WORKER": str(os.getpid()), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / "team_member.py"), str(tmp_path / (folder or f"{size}-{rank}"))]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    port = free_port()
    found = []
    for member in [run(0, 2, port), run(1, 2, port), run(0, 1, free_port())]:
        code, output, errors = ended(member)
        assert code == 0, errors
        found.append(json.loads(output))
    first, second, alone = found
    assert first["model_id"] == second["model_id"]
    assert first["curve"] == second["curve"]
    together = [one + other for one, other in zip(first["seen"], second["seen"], strict=True)]
    assert together == alone["seen"]
    assert first["curve"][0] == pytest.approx(alone["curve"][0], rel=0.05)  # batch norms see half of a step each
    assert (first["states"], second["states"]) == (2, 0)

    code, output, errors = ended(run(0, 1, free_port(), folder="2-0"))  # from the state that the two left in the middle
    assert code == 0, errors
    smaller = json.loads(output)
    assert (smaller["resumed_at"], smaller["seen"]) == (2, alone["seen"][2:])
    assert smaller["curve"][:2] == first["curve"][:2]
