"""The controller of Indexed Jobs, as far as this project's Jobs need it: a pod for each index, and the Job's end from theirs.

Source: Kubernetes documentation, "Jobs" (completion mode Indexed, pod backoff failure policy, pod failure policy, job termination and cleanup);
as there, a Job that fails first says so (FailureTarget), ends its pods, and is Failed when they are gone.
"""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from .cluster import NAMESPACE, Cluster, now

Manifest = dict[str, Any]
PREFIX = "batch.kubernetes.io"
INDEX = f"{PREFIX}/job-completion-index"
PERIOD_S = 0.1


class JobController:
    """Looks at every Job ten times a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.made: dict[str, set[str]] = {}
        """Names of the pods made for a Job, by its uid. Kubernetes knows them by a finalizer: one that is gone has failed."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            for job in self.cluster.listed("jobs", ""):
                self._sync(job)

    def _sync(self, job: Manifest) -> None:
        said = {one["type"]: one for one in job["status"].get("conditions", ())}
        if job["spec"].get("suspend") or {"Complete", "Failed"} & set(said):
            return
        uid = job["metadata"]["uid"]
        pods = [pod for pod in self.cluster.pods() if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", ()))]
        active = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
        ending = said.get("FailureTarget") or self._failure(job, pods)
        if ending:
            self._say(job, "FailureTarget", ending)
            for pod in active:
                if not pod["metadata"].get("deletionTimestamp"):
                    self.cluster.delete("pods", pod["metadata"]["name"])
            if not active:
                self._say(job, "Failed", ending)
            return
        done = {_index(pod) for pod in pods if pod["status"]["phase"] == "Succeeded"}
        if len(done) == job["spec"]["completions"]:
            self._say(job, "SuccessCriteriaMet", {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"})
            self._say(job, "Complete", {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"})
            return
        for index in range(job["spec"]["completions"]):
            if index not in {_index(pod) for pod in pods}:
                self._make(job, index)

    def _failure(self, job: Manifest, pods: list[Manifest]) -> Manifest | None:
        """Reason and message of the Job's failure, if it has failed."""
        spec = job["spec"]
        started = datetime.fromisoformat(job["metadata"]["creationTimestamp"][:26]).replace(tzinfo=UTC)
        if (datetime.now(UTC) - started).total_seconds() > spec.get("activeDeadlineSeconds", float("inf")):
            return {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules", ())):
            wanted = {(one["type"], one["status"]) for one in rule["onPodConditions"]}
            for pod in failed:
                if found := wanted & {(one["type"], one["status"]) for one in pod["status"].get("conditions", ())}:
                    name, kind = pod["metadata"]["name"], min(found)[0]
                    said = f"Pod {NAMESPACE}/{name} has condition {kind} matching {rule['action']} rule at index {number}"
                    return {"reason": "PodFailurePolicy", "message": said}
        lost = self.made.get(job["metadata"]["uid"], set()) - {pod["metadata"]["name"] for pod in pods}
        if len(failed) + len(lost) > spec.get("backoffLimit", 6):
            return {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
        return None

    def _make(self, job: Manifest, index: int) -> None:
        template, name, uid = job["spec"]["template"], job["metadata"]["name"], job["metadata"]["uid"]
        labels = {f"{PREFIX}/job-name": name, f"{PREFIX}/controller-uid": uid, INDEX: str(index), "job-name": name, "controller-uid": uid}
        variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}}
        containers = [one | {"env": [*one.get("env", ()), variable]} for one in template["spec"]["containers"]]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True, "blockOwnerDeletion": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{index}-{uuid.uuid4().hex[:5]}",
                "labels": {**template["metadata"].get("labels", {}), **labels},
                "annotations": {**template["metadata"].get("annotations", {}), INDEX: str(index)},
                "ownerReferences": [owner],
                "finalizers": [f"{PREFIX}/job-tracking"],
            },
            "spec": template["spec"] | {"containers": containers, "hostname": f"{name}-{index}"},
        }
        self.made.setdefault(uid, set()).add(pod["metadata"]["name"])
        self.cluster.create("pods", pod)

    def _say(self, job: Manifest, kind: str, why: Manifest) -> None:
        with self.cluster.lock:
            found = self.cluster.objects.get(("jobs", job["metadata"]["name"]))
            if found is None or found["metadata"]["uid"] != job["metadata"]["uid"]:
                return
            conditions = found["status"].setdefault("conditions", [])
            if kind not in {one["type"] for one in conditions}:
                about = {"reason": why["reason"], "message": why["message"], "lastTransitionTime": now()}
                conditions.append({"type": kind, "status": "True", **about})


def _index(pod: Manifest) -> int:
    return int(pod["metadata"]["labels"][INDEX])
