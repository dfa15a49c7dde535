"""What the API keeps, and what a test can do to it. Every manifest that is created is checked with the published schema of one version of
Kubernetes and, where it has pods, with the `restricted` Pod Security Standard, as a namespace that enforces it would."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import kubernetes_validate
from pod_security import violations

VERSION = "1.34"
NAMESPACE = "scanloop-jobs"
Manifest = dict[str, Any]


class Refused(Exception):
    """The API answers with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def now(ahead_s: float = 0) -> str:
    """The time as the API writes it, by a clock that is `ahead_s` ahead."""
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


@dataclass
class Fault:
    """What goes wrong with some requests."""

    method: str
    path: str
    """Part of the path."""
    times: int
    status: int = 500
    """Status of the answer; 0: the connection is cut, -1: the request is carried out and its answer is lost."""
    message: str = "the server is on fire"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer."""


@dataclass
class Cluster:
    """One namespace of a cluster."""

    objects: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    """By kind (plural) and name."""
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Time stamp and line, by the pod's uid."""
    events: list[Manifest] = field(default_factory=list)
    token: str = ""
    """The only token that is taken; empty: any is."""
    node_clock_ahead_s: float = 0
    """The clock of the node, by which logs are stamped, against ours."""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """What Secrets hold, by their names."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    faults: list[Fault] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    """`kind/name` of everything ever created."""
    watchers: list[Callable[[str, Manifest], None]] = field(default_factory=list)
    """Told `kind` and the manifest of what was created or asked to end."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    caller: threading.local = field(default_factory=threading.local)
    """`port` of the client whose request this thread serves."""

    # ---- what the API does

    def create(self, kind: str, manifest: Manifest) -> Manifest:
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(422, "Invalid", f"{manifest.get('kind')} is invalid: {error.message}") from None
        pod = {"pods": manifest, "jobs": manifest.get("spec", {}).get("template")}.get(kind)
        if pod is not None and (wrong := violations(pod)):
            raise Refused(403, "Forbidden", f'violates PodSecurity "restricted:latest": {"; ".join(wrong)}')
        name = manifest["metadata"]["name"]
        with self.lock:
            if (kind, name) in self.objects:
                raise Refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
            made = copy.deepcopy(manifest)
            made["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": NAMESPACE, "creationTimestamp": now(), "resourceVersion": "1"}
            made["status"] = {"phase": "Pending", "conditions": []} if kind == "pods" else {}
            self.objects[kind, name] = made
            self.created.append(f"{kind}/{name}")
        self._tell(kind, made)
        return made

    def read(self, kind: str, name: str) -> Manifest:
        with self.lock:
            if (kind, name) not in self.objects:
                raise Refused(404, "NotFound", f'{kind} "{name}" not found')
            return copy.deepcopy(self.objects[kind, name])

    def listed(self, kind: str, selector: str) -> list[Manifest]:
        with self.lock:
            return [
                copy.deepcopy(one)
                for (of, _), one in self.objects.items()
                if of == kind and _selects(selector, one["metadata"].get("labels") or {})
            ]

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Manifest:
        with self.lock:
            found = self.read(kind, name)
            wanted = (change.get("metadata") or {}).get("uid")
            if wanted and wanted != found["metadata"]["uid"]:
                raise Refused(409, "Conflict", "the uid in the precondition does not match")
            self.objects[kind, name] = _merged(found, change)
            return self.objects[kind, name]

    def delete(self, kind: str, name: str, uid: str | None = None) -> Manifest:
        """Ask for an end. A pod whose container runs is there until its kubelet, or a test, has ended it."""
        with self.lock:
            found = self.read(kind, name)
            if uid and uid != found["metadata"]["uid"]:
                raise Refused(409, "Conflict", "the uid in the precondition does not match")
            if kind == "pods" and self.watchers and found["status"]["phase"] == "Running":
                found = self.patch(kind, name, {"metadata": {"deletionTimestamp": now()}})
            else:
                del self.objects[kind, name]
                found["metadata"]["deletionTimestamp"] = now()
                self._cascade(found["metadata"]["uid"])
        self._tell(kind, found)
        return found

    def _cascade(self, owner: str) -> None:
        for kind, name in [key for key, one in self.objects.items() if owner in _owners(one)]:
            self.delete(kind, name)

    def _tell(self, kind: str, manifest: Manifest) -> None:
        for watcher in self.watchers:
            watcher(kind, manifest)

    # ---- what tests do

    def pods(self) -> list[Manifest]:
        return self.listed("pods", "")

    def pod(self) -> Manifest:
        """The only pod there is."""
        (pod,) = self.pods()
        return pod

    def status(self, name: str, **status: Any) -> None:
        """Set parts of a pod's status."""
        with self.lock:
            if ("pods", name) in self.objects:
                self.objects["pods", name]["status"] |= status

    def run(self, name: str) -> None:
        """The container starts."""
        self.status(name, phase="Running", startTime=now(), containerStatuses=[_container({"running": {"startedAt": now()}})])

    def wait(self, name: str, reason: str, message: str = "") -> None:
        """The container cannot start."""
        self.status(name, phase="Pending", containerStatuses=[_container({"waiting": {"reason": reason, "message": message}})])

    def say(self, name: str, *lines: str) -> None:
        """The container writes."""
        with self.lock:
            log = self.logs.setdefault(self.objects["pods", name]["metadata"]["uid"], [])
            log.extend((now(self.node_clock_ahead_s), line) for line in lines)

    def tell(self, uid: str, reason: str, message: str, kind: str = "Warning") -> None:
        """An event about `uid`."""
        about = {"uid": uid, "namespace": NAMESPACE}
        said = {"reason": reason, "message": message, "type": kind, "lastTimestamp": now()[:19] + "Z"}
        with self.lock:
            self.events.append({"metadata": {"name": uuid.uuid4().hex, "namespace": NAMESPACE}, "involvedObject": about, **said})

    def end(self, name: str, exit_code: int, reason: str = "", *, phase: str = "", **status: Any) -> None:
        """The container ends."""
        terminated = {"exitCode": exit_code, "reason": reason or ("Completed" if exit_code == 0 else "Error"), "finishedAt": now()}
        self.status(
            name,
            phase=phase or ("Failed" if exit_code else "Succeeded"),
            containerStatuses=[_container({"terminated": terminated})],
            **status,
        )

    def disrupt(self, name: str, reason: str) -> None:
        """The cluster says that it is about to end the pod."""
        self.status(name, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "make room"}])

    def vanish(self, name: str) -> None:
        """The pod is no longer there."""
        with self.lock:
            self.objects.pop(("pods", name), None)

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """While open, `faults` happen."""
        self.faults.extend(faults)
        try:
            yield
        finally:
            self.faults.clear()


def _container(state: Manifest) -> Manifest:
    return {
        "name": "job",
        "ready": "running" in state,
        "restartCount": 0,
        "image": "i",
        "imageID": "i",
        "containerID": "c://1",
        "state": state,
    }


def _owners(manifest: Manifest) -> list[str]:
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or ()]


def _selects(selector: str, labels: Mapping[str, str]) -> bool:
    for term in filter(None, selector.split(",")):
        name, equals, value = term.partition("=")
        if (not equals and (name.lstrip("!") in labels) is name.startswith("!")) or (equals and labels.get(name) != value):
            return False
    return True


def _merged(found: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, Mapping):
        return change
    base = dict(found) if isinstance(found, Mapping) else {}
    for name, value in change.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = _merged(base.get(name), value)
    return base
