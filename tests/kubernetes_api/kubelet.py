"""A node for the cluster: it really runs what a pod says, as a process of its own, with the environment that the pod would have."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .cluster import Cluster

Manifest = dict[str, Any]
HOST = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+):(\d+)")
"""host.service:port"""
RESOLVED_WITHIN_S = 60
"""How long a pod waits for the service that its environment names."""
FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class Kubelet:
    """Runs pods as they come. `may_start` closed: pods stay pending."""

    def __init__(self, cluster: Cluster, command: Path, environment: Mapping[str, str], volumes: Path) -> None:
        """`command` stands for the container image's `scanloop`, `environment` for what image and node add to a pod's own, and each volume of
        a pod is a folder under `volumes`: variables that name a path in a volume name that folder instead."""
        self.cluster, self.command, self.environment, self.volumes = cluster, command, dict(environment), volumes
        self.may_start = threading.Event()
        self.may_start.set()
        self.on_start: list[Callable[[str, subprocess.Popen[bytes]], None]] = []
        """Told the pod's name and process when a container has started."""
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._ports: dict[str, int] = {}
        """Port of this machine that stands for host.service:port in the cluster."""
        cluster.watchers.append(self._told)

    def _told(self, kind: str, manifest: Manifest) -> None:
        if kind != "pods":
            return
        name = manifest["metadata"]["name"]
        if manifest["metadata"].get("deletionTimestamp"):
            if name in self.running:
                _signal(self.running[name], signal.SIGTERM)
            return
        thread = threading.Thread(target=self._live, args=(manifest,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self, manifest: Manifest) -> None:
        name, uid = manifest["metadata"]["name"], manifest["metadata"]["uid"]
        self.may_start.wait()
        if not self._is_there(name, uid):
            return
        container = manifest["spec"]["containers"][0]
        environment = self._environment(manifest, container)
        if environment is None:
            self.cluster.wait(name, "CreateContainerConfigError", "secret not found")
            return
        process = subprocess.Popen(
            [str(self.command), *container["args"]], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.running[name] = process
        self.cluster.run(name)
        for told in self.on_start:
            told(name, process)
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(KeyError):
                self.cluster.say(name, line.decode("utf-8", "replace").rstrip("\n"))
        code = process.wait()
        process.stdout.close()
        del self.running[name]
        with self.cluster.lock:
            if self._is_there(name, uid):
                if self.cluster.objects["pods", name]["metadata"].get("deletionTimestamp"):
                    self.cluster.vanish(name)
                else:
                    self.cluster.end(name, code if code >= 0 else 128 - code)

    def _is_there(self, name: str, uid: str) -> bool:
        found = self.cluster.objects.get(("pods", name))
        return found is not None and found["metadata"]["uid"] == uid

    def _resolved(self, value: str) -> str:
        """`value`, or where on this machine the host is that it names: hosts of a headless service.

        A service may come after its pods; a name that is asked for until it is there is waited for here, since a process is told only once."""
        found = HOST.fullmatch(value)
        if found is None:
            return value
        deadline = time.monotonic() + RESOLVED_WITHIN_S
        while ("services", found[2]) not in self.cluster.objects:
            if time.monotonic() > deadline:
                return value
            time.sleep(0.05)
        with self.cluster.lock:
            if value not in self._ports:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    self._ports[value] = free.getsockname()[1]
            return f"127.0.0.1:{self._ports[value]}"

    def _mounted(self, pod: str, container: Manifest, value: str) -> str:
        """`value`, or where on this machine the path is that it names."""
        for mount in container.get("volumeMounts") or ():
            if value == mount["mountPath"] or value.startswith(f"{mount['mountPath']}/"):
                folder = self.volumes / pod / mount["name"]
                folder.mkdir(parents=True, exist_ok=True)
                return f"{folder}{value.removeprefix(mount['mountPath'])}"
        return value

    def _environment(self, manifest: Manifest, container: Manifest) -> dict[str, str] | None:
        """The container's environment; None when a Secret that it needs is missing."""
        environment, pod = dict(self.environment), manifest["metadata"]["name"]
        for variable in container.get("env") or ():
            if "valueFrom" not in variable:
                environment[variable["name"]] = self._resolved(self._mounted(pod, container, variable.get("value", "")))
                continue
            if "fieldRef" in variable["valueFrom"]:
                field = FIELD.fullmatch(variable["valueFrom"]["fieldRef"]["fieldPath"])
                assert field is not None, variable
                environment[variable["name"]] = manifest["metadata"][field[1]][field[2]]
                continue
            key = variable["valueFrom"]["secretKeyRef"]
            value = self.cluster.secrets.get(key["name"], {}).get(key["key"])
            if value is not None:
                environment[variable["name"]] = value
            elif not key.get("optional"):
                return None
        return environment

    def close(self) -> None:
        """End every process."""
        self.may_start.set()
        for process in list(self.running.values()):
            _signal(process, signal.SIGKILL)
        for thread in self._threads:
            thread.join(20)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
